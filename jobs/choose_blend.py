"""choose_blend: how well each weight of the two towers ranks the validation window -> BLENDS."""

import sys

from recsys_spark import columns as c
from recsys_spark.evaluation.metrics import truth_slices
from recsys_spark.rules import SECTIONS, load_rules, require_same_rules, rule_files
from recsys_spark.runner import Context, Stage, main
from recsys_spark.seen_rules import days_dropped
from recsys_spark.tables.catalog import BLENDS, CANDIDATES, EVENTS, ITEM_INDEX, ITEMS
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.blend import best_weight, measure_weights
from recsys_spark.transforms.candidates import list_items
from recsys_spark.transforms.history import before, decayed_counts, of_items, of_types, seen_items, within
from recsys_spark.transforms.order import keep_best
from recsys_spark.transforms.rules import allowed_pairs


def run(context: Context) -> None:
    settings, split = context.config.rank, context.config.split
    require_same_rules(context, CANDIDATES)
    rules = load_rules(context.spark, context.config.rules, list_size=settings.list_size)
    as_of, items = split.validation_start, context.read(ITEMS)
    chosen = of_types(context.read(EVENTS), split.target_event_types)
    candidates = context.read_slice(CANDIDATES, run_id=context.config.run.id, split="validation")
    towers = list_items(candidates, context.read(ITEM_INDEX))
    own = decayed_counts(of_items(chosen, items), as_of=as_of, decay_days=settings.history_decay_days)
    allowed = allowed_pairs(own, items, rules, as_of=as_of)
    history = keep_best(allowed, c.USER_ID, num_rows=settings.history_top_k)
    least = min(context.config.seen_rules, key=days_dropped)
    weights = context.spark.createDataFrame([(weight,) for weight in settings.tower_weights], [c.TOWER_WEIGHT])
    truth = truth_slices(within(chosen, as_of, split.test_start), seen_items(before(chosen, as_of))).join(
        candidates.select(c.USER_ID).distinct(), on=[c.USER_ID], how="left_semi"
    )
    context.replace(
        BLENDS, measure_weights(towers, history, weights, truth, seen_rule=least, as_of=as_of, k=settings.blend_k)
    )
    best = first_row(best_weight(context.written(BLENDS)))
    context.note(f"tower weight {best[c.TOWER_WEIGHT]}: validation NDCG@{settings.blend_k} {best[c.SCORE]:.4f}")


STAGE = Stage(
    name="choose_blend",
    run=run,
    reads=(CANDIDATES, ITEM_INDEX, EVENTS, ITEMS),
    writes=(BLENDS,),
    sections=("run.id", "rank", *SECTIONS, "seen_rules", "split"),
    sources=rule_files,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
