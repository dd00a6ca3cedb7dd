"""apply_rules: ITEMS x segments of users -> SEGMENTS, USER_RULES, ITEM_GROUPS: what may be listed for whom.

Needs no model, so it comes before the training: rules that cannot be meant, and lists that no worker can make, stop the
run here and not after it.
"""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.rules import SECTIONS, describe_rules, hash_rules, load_rules, require_few_segments, rule_files
from recsys_spark.runner import Context, Stage, main
from recsys_spark.search_needs import require_score_fits, require_similar_items_fit
from recsys_spark.tables.catalog import ITEM_GROUPS, ITEM_INDEX, ITEMS, SEGMENTS, SEQUENCES, USER_RULES
from recsys_spark.transforms.rules import USER, allow_items, group_items, number_segments, rules_of_users


def run(context: Context) -> None:
    config, settings = context.config, context.config.rules
    rules = load_rules(context.spark, settings, list_size=config.rank.list_size)
    rules_hash = F.lit(hash_rules(config))
    items, index = context.read(ITEMS), context.read(ITEM_INDEX)
    users = context.read(SEQUENCES).where(F.col(c.SPLIT) != "train")
    segmented = context.keep(number_segments(users, rules))
    segments = context.keep(segmented.select(c.SEGMENT, c.AS_OF, c.USER_FACTS, USER).distinct())
    require_few_segments(segments, max_segments=settings.max_segments)
    num_items, dim = items.count(), config.model.embedding_dim
    require_score_fits(config, num_items=num_items, dim=dim, num_segments=segments.count())
    require_similar_items_fit(config, num_items=num_items, dim=dim)
    context.replace(USER_RULES, rules_of_users(segmented, index, rules).withColumn(c.RULES_HASH, rules_hash))
    context.replace(SEGMENTS, allow_items(segments, items, index, rules).withColumn(c.RULES_HASH, rules_hash))
    context.note(describe_rules(rules, items, context.written(SEGMENTS)))
    context.replace(ITEM_GROUPS, group_items(items, index, rules).withColumn(c.RULES_HASH, rules_hash))


STAGE = Stage(
    name="apply_rules",
    run=run,
    reads=(ITEMS, ITEM_INDEX, SEQUENCES),
    writes=(USER_RULES, SEGMENTS, ITEM_GROUPS),
    # What is only looked at here is named where the scores depend on it as well: another value scores anew anyway.
    sections=(
        "run.id",
        *SECTIONS,
        "rules.max_segments",
        "score.top_k",
        "score.checked_share",
        "seen_rules",
        "model.embedding_dim",
    ),
    sources=rule_files,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
