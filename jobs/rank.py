"""rank: the towers' candidates and the user's own history, blended with the chosen weight -> RECOMMENDATIONS."""

import json
import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.rules import load_rules, require_same_rules, rule_and_pin_files
from recsys_spark.runner import Context, Stage, main
from recsys_spark.short_lists import note_cut_off
from recsys_spark.tables.catalog import BLENDS, CANDIDATES, EVENTS, ITEM_GROUPS, ITEM_INDEX, ITEMS, RECOMMENDATIONS
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.blend import best_weight, blend_candidates, reason
from recsys_spark.transforms.candidates import list_items
from recsys_spark.transforms.history import decayed_counts, of_items, of_types
from recsys_spark.transforms.lists import rank_lists
from recsys_spark.transforms.order import keep_best
from recsys_spark.transforms.rules import allowed_pairs


def run(context: Context) -> None:
    settings, run_id = context.config.rank, context.config.run.id
    as_of, event_types = context.config.split.test_start, context.config.split.target_event_types
    require_same_rules(context, ITEM_GROUPS, CANDIDATES)
    rules = load_rules(context.spark, context.config.rules, list_size=settings.list_size)
    items = context.read(ITEMS)
    candidates = context.read_slice(CANDIDATES, run_id=run_id, split="test")
    note_cut_off(context, candidates, list_size=settings.list_size, num_items=items.count())
    towers = list_items(candidates, context.read(ITEM_INDEX))
    events = of_items(of_types(context.read(EVENTS), event_types), items)
    own = decayed_counts(events, as_of=as_of, decay_days=settings.history_decay_days)
    allowed = allowed_pairs(own, items, rules, as_of=as_of)
    history = keep_best(allowed, c.USER_ID, num_rows=settings.history_top_k)
    weight = best_weight(context.read_slice(BLENDS, run_id=run_id))
    blended = blend_candidates(towers, history, weight, as_of=as_of)
    groups = context.read_slice(ITEM_GROUPS, can_be_empty=True, run_id=run_id)
    ranked = rank_lists(blended, candidates, own, items, groups, rules, as_of=as_of, list_size=settings.list_size)
    made_of = {
        c.REASON: reason(as_of=as_of, event_types=event_types), c.AS_OF: F.lit(as_of),
        c.MODEL_VERSION: F.lit(first_row(candidates)[c.MODEL_VERSION]),
        c.MADE_FROM: F.lit(json.dumps(context.inputs, sort_keys=True)),
    }  # fmt: skip
    context.replace(RECOMMENDATIONS, ranked.withColumns(made_of))


STAGE = Stage(
    name="rank",
    run=run,
    reads=(CANDIDATES, ITEM_GROUPS, ITEM_INDEX, EVENTS, ITEMS, BLENDS),
    writes=(RECOMMENDATIONS,),
    sections=("run.id", "rank", "rules", "split"),
    sources=rule_and_pin_files,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
