"""choose_blend: how well each weight of the two towers ranks the validation window -> BLENDS."""

import sys

from recsys_spark import columns as c
from recsys_spark.evaluation.metrics import truth_slices
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import BLENDS, CANDIDATES, EVENTS, ITEM_INDEX, ITEMS
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.blend import best_weight, measure_weights
from recsys_spark.transforms.candidates import list_items
from recsys_spark.transforms.history import before, history_candidates, of_items, of_types, seen_items, within


def run(context: Context) -> None:
    settings, split = context.config.rank, context.config.split
    chosen = of_types(context.read(EVENTS), split.target_event_types)
    candidates = context.read_slice(CANDIDATES, run_id=context.config.run.id, split="validation")
    towers = list_items(candidates, context.read(ITEM_INDEX))
    history = history_candidates(
        of_items(chosen, context.read(ITEMS)),
        as_of=split.validation_start,
        decay_days=settings.history_decay_days,
        top_k=settings.history_top_k,
    )
    weights = context.spark.createDataFrame([(weight,) for weight in settings.tower_weights], [c.TOWER_WEIGHT])
    truth = truth_slices(
        within(chosen, split.validation_start, split.test_start), seen_items(before(chosen, split.validation_start))
    ).join(candidates.select(c.USER_ID).distinct(), on=[c.USER_ID], how="left_semi")
    context.replace(BLENDS, measure_weights(towers, history, weights, truth, k=settings.blend_k))
    best = first_row(best_weight(context.written(BLENDS)))
    context.note(f"tower weight {best[c.TOWER_WEIGHT]}: validation NDCG@{settings.blend_k} {best[c.SCORE]:.4f}")


STAGE = Stage(
    name="choose_blend",
    run=run,
    reads=(CANDIDATES, ITEM_INDEX, EVENTS, ITEMS),
    writes=(BLENDS,),
    sections=("run.id", "rank", "split"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
