"""similar_items: ITEM_EMBEDDINGS x ITEM_EMBEDDINGS -> SIMILAR_ITEMS, by text, by behaviour and by both."""

import sys

from recsys_spark import columns as c
from recsys_spark.bridges.similar import similar_items
from recsys_spark.models import find_model
from recsys_spark.runner import Context, Stage, main
from recsys_spark.search_needs import require_similar_items_fit
from recsys_spark.short_lists import note_few
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, MODELS, SIMILAR_ITEMS
from recsys_spark.tables.store import first_row


def run(context: Context) -> None:
    settings, top_k = context.config.score, context.config.similar.top_k
    model = find_model(context.read_slice(MODELS, run_id=context.config.run.id))
    embeddings = context.read_slice(ITEM_EMBEDDINGS, model_version=model.version)
    items = context.snapshot(ITEM_EMBEDDINGS, model_version=model.version)
    dim = len(first_row(embeddings)[c.EMBEDDING])
    require_similar_items_fit(context.config, num_items=items.rows, dim=dim)
    note_few(context, "similar.top_k", wanted=top_k, there_are=items.rows)
    lists = similar_items(
        embeddings, items, top_k=top_k, item_block=settings.user_block, checked_share=settings.checked_share
    )
    context.replace(SIMILAR_ITEMS, lists, model_version=model.version)


STAGE = Stage(
    name="similar_items",
    run=run,
    reads=(ITEM_EMBEDDINGS, MODELS),
    writes=(SIMILAR_ITEMS,),
    sections=("run.id", "similar.top_k", "score.checked_share"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
