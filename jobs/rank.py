"""rank: the towers' candidates and the user's own history, blended with the chosen weight -> RECOMMENDATIONS."""

import json
import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import BLENDS, CANDIDATES, EVENTS, ITEM_INDEX, ITEMS, RECOMMENDATIONS
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.blend import best_weight, blend_candidates, rank_blends, reason
from recsys_spark.transforms.candidates import list_items
from recsys_spark.transforms.history import history_candidates, of_items, of_types


def run(context: Context) -> None:
    settings, split, run_id = context.config.rank, context.config.split, context.config.run.id
    candidates = context.read_slice(CANDIDATES, run_id=run_id, split="test")
    towers = list_items(candidates, context.read(ITEM_INDEX))
    history = history_candidates(
        of_types(context.read(EVENTS), split.target_event_types).transform(of_items, context.read(ITEMS)),
        as_of=split.test_start,
        decay_days=settings.history_decay_days,
        top_k=settings.history_top_k,
    )
    weight = best_weight(context.read_slice(BLENDS, run_id=run_id))
    ranked = rank_blends(blend_candidates(towers, history, weight), list_size=settings.list_size)
    why = reason(as_of=split.test_start, event_types=split.target_event_types)
    context.replace(
        RECOMMENDATIONS,
        ranked.withColumns(
            {
                c.REASON: why,
                c.AS_OF: F.lit(split.test_start),
                c.MODEL_VERSION: F.lit(first_row(candidates)[c.MODEL_VERSION]),
                c.MADE_FROM: F.lit(json.dumps(context.inputs, sort_keys=True)),
            }
        ),
    )


STAGE = Stage(
    name="rank",
    run=run,
    reads=(CANDIDATES, ITEM_INDEX, EVENTS, ITEMS, BLENDS),
    writes=(RECOMMENDATIONS,),
    sections=("run.id", "rank", "split"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
