"""embed_users: SEQUENCES, ITEM_EMBEDDINGS and the run's model -> USER_EMBEDDINGS as of validation and test.

Users whose vector stands are kept.
"""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.embed import embed_users
from recsys_spark.bridges.worker_memory import require_building_fits
from recsys_spark.increments import bring_up_to_date, read_standing
from recsys_spark.models import find_model, name_maker, share_files
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, MODELS, SEQUENCES, USER_EMBEDDINGS
from recsys_spark.tracking import require_tracking, tracking_place


def run(context: Context) -> None:
    model = find_model(context.read_slice(MODELS, run_id=context.config.run.id))
    wanted = context.read(SEQUENCES).where(F.col(c.SPLIT) != "train")
    items = context.snapshot(ITEM_EMBEDDINGS, model_version=model.version)
    require_building_fits(items.rows, worker_mib=context.config.score.worker_mib)
    standing = read_standing(context, USER_EMBEDDINGS, model_version=model.version)
    changed = embed_users(
        wanted,
        standing,
        items,
        model_name=share_files(context.spark, tracking_place(context.config.tracking), model),
        made_by=name_maker(embed_users, model),
        batch_users=context.config.embed.batch_users,
    )
    bring_up_to_date(context, USER_EMBEDDINGS, changed, wanted=wanted, standing=standing, model_version=model.version)


STAGE = Stage(
    name="embed_users",
    run=run,
    reads=(SEQUENCES, ITEM_EMBEDDINGS, MODELS),
    writes=(USER_EMBEDDINGS,),
    sections=("run.id", "tracking", "embed.batch_users"),
    requires=require_tracking,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
