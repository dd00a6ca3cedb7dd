"""similar_users: USER_EMBEDDINGS x USER_EMBEDDINGS -> SIMILAR_USERS, as of the test cut-off.

No part of the pipeline: the cost grows with the square of the users, and no list of the platform depends on it.
"""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.similar import similar_users
from recsys_spark.models import find_model
from recsys_spark.runner import Context, Stage, main
from recsys_spark.search_needs import require_similar_users_fit
from recsys_spark.short_lists import note_few
from recsys_spark.tables.catalog import MODELS, SIMILAR_USERS, USER_EMBEDDINGS
from recsys_spark.tables.store import first_row


def run(context: Context) -> None:
    settings, top_k = context.config.score, context.config.similar.top_users
    model = find_model(context.read_slice(MODELS, run_id=context.config.run.id))
    embeddings = context.read_slice(USER_EMBEDDINGS, model_version=model.version, split="test")
    users = context.snapshot(USER_EMBEDDINGS, model_version=model.version, split="test")
    dim = len(first_row(embeddings)[c.EMBEDDING])
    longest_id = first_row(embeddings.select(F.max(F.octet_length(c.USER_ID))))[0]
    require_similar_users_fit(context.config, num_users=users.rows, dim=dim, longest_id=longest_id)
    note_few(context, "similar.top_users", wanted=top_k, there_are=users.rows)
    lists = similar_users(
        embeddings, users, top_k=top_k, user_block=settings.user_block, checked_share=settings.checked_share
    )
    context.replace(SIMILAR_USERS, lists, model_version=model.version)


STAGE = Stage(
    name="similar_users",
    run=run,
    reads=(USER_EMBEDDINGS, MODELS),
    writes=(SIMILAR_USERS,),
    sections=("run.id", "similar.top_users", "score.checked_share"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
