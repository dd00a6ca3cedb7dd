"""similar_items: ITEM_EMBEDDINGS x ITEM_EMBEDDINGS -> SIMILAR_ITEMS, by text, by behaviour and by both."""

import sys

from recsys_spark.bridges.score import require_top_k_fits
from recsys_spark.bridges.similar import similar_items
from recsys_spark.models import find_model
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, MODELS, SIMILAR_ITEMS


def run(context: Context) -> None:
    settings = context.config.similar
    model = find_model(context.read_slice(MODELS, run_id=context.config.run.id))
    items = context.snapshot(ITEM_EMBEDDINGS, model_version=model.version)
    require_top_k_fits(settings.top_k, items.rows, setting="similar.top_k")
    lists = similar_items(
        context.read_slice(ITEM_EMBEDDINGS, model_version=model.version),
        items,
        top_k=settings.top_k,
        item_block=context.config.score.user_block,
    )
    context.replace(SIMILAR_ITEMS, lists, model_version=model.version)


STAGE = Stage(
    name="similar_items",
    run=run,
    reads=(ITEM_EMBEDDINGS, MODELS),
    writes=(SIMILAR_ITEMS,),
    sections=("run.id", "similar", "score.user_block"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
