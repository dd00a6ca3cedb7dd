"""embed_users: SEQUENCES, ITEM_EMBEDDINGS and the run's model -> USER_EMBEDDINGS as of validation and test."""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.embed import embed_users
from recsys_spark.models import find_model, share_files
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, MODELS, SEQUENCES, USER_EMBEDDINGS
from recsys_spark.tracking import tracking_place


def run(context: Context) -> None:
    model = find_model(context.read_slice(MODELS, run_id=context.config.run.id))
    vectors = embed_users(
        context.read(SEQUENCES).where(F.col(c.SPLIT) != "train"),
        context.snapshot(ITEM_EMBEDDINGS, model_version=model.version),
        model_name=share_files(context.spark, tracking_place(context.config.tracking), model),
        batch_users=context.config.embed.batch_users,
    )
    context.replace(USER_EMBEDDINGS, vectors, model_version=model.version)


STAGE = Stage(
    name="embed_users",
    run=run,
    reads=(SEQUENCES, ITEM_EMBEDDINGS, MODELS),
    writes=(USER_EMBEDDINGS,),
    sections=("run.id", "tracking", "embed.batch_users"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
