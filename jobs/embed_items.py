"""embed_items: ITEM_TEXT and the run's model -> ITEM_EMBEDDINGS."""

import sys

from recsys_spark.bridges.embed import embed_items
from recsys_spark.models import find_model, share_files
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, ITEM_TEXT, MODELS
from recsys_spark.tracking import tracking_place


def run(context: Context) -> None:
    model = find_model(context.read_slice(MODELS, run_id=context.config.run.id))
    vectors = embed_items(
        context.read(ITEM_TEXT),
        model_name=share_files(context.spark, tracking_place(context.config.tracking), model),
        batch_tokens=context.config.embed.batch_tokens,
    )
    context.replace(ITEM_EMBEDDINGS, vectors, model_version=model.version)


STAGE = Stage(
    name="embed_items",
    run=run,
    reads=(ITEM_TEXT, MODELS),
    writes=(ITEM_EMBEDDINGS,),
    sections=("run.id", "tracking", "embed.batch_tokens"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
