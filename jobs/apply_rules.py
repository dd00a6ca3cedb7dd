"""apply_rules: ITEMS x segments of users -> SEGMENTS, USER_RULES, ITEM_GROUPS: what may be listed for whom."""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.rules import SECTIONS, describe_rules, hash_rules, load_rules, require_few_segments, rule_files
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_GROUPS, ITEM_INDEX, ITEMS, SEGMENTS, SEQUENCES, USER_RULES
from recsys_spark.transforms.rules import USER, allow_items, group_items, number_segments, rules_of_users


def run(context: Context) -> None:
    settings = context.config.rules
    rules = load_rules(context.spark, settings, list_size=context.config.rank.list_size)
    rules_hash = F.lit(hash_rules(context.config))
    items, index = context.read(ITEMS), context.read(ITEM_INDEX)
    users = context.read(SEQUENCES).where(F.col(c.SPLIT) != "train")
    segmented = context.keep(number_segments(users, rules))
    segments = context.keep(segmented.select(c.SEGMENT, c.AS_OF, c.USER_FACTS, USER).distinct())
    require_few_segments(segments, max_segments=settings.max_segments)
    context.replace(USER_RULES, rules_of_users(segmented, index, rules).withColumn(c.RULES_HASH, rules_hash))
    context.replace(SEGMENTS, allow_items(segments, items, index, rules).withColumn(c.RULES_HASH, rules_hash))
    context.note(describe_rules(rules, items, context.written(SEGMENTS)))
    context.replace(ITEM_GROUPS, group_items(items, index, rules).withColumn(c.RULES_HASH, rules_hash))


STAGE = Stage(
    name="apply_rules",
    run=run,
    reads=(ITEMS, ITEM_INDEX, SEQUENCES),
    writes=(USER_RULES, SEGMENTS, ITEM_GROUPS),
    sections=("run.id", *SECTIONS, "rules.max_segments"),
    sources=rule_files,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
