"""Item to item and user to user: the scorer's search with those who are to be listed in the place of the users.

An item is kept out of its own list as if it had "seen" itself. A user has no number to be kept out by: one place more
is searched for, and the user is taken out of what was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.item_store import share_user_matrix
from recsys_spark.bridges.proof import require_exact
from recsys_spark.bridges.score import score_pairs, search
from recsys_spark.bridges.snapshot import Snapshot, rebatch
from recsys_spark.bridges.user_rules import SEEN
from recsys_spark.bridges.vectors import decode_vectors, encode_lists, explain_bad_vectors
from recsys_spark.bridges.worker_tasks import begin_in_worker
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.top_k import Users
from recsys_spark.seen_rules import DROP

KINDS: Final = {"both": c.EMBEDDING, "text": c.TEXT_EMBEDDING, "behaviour": c.BEHAVIOUR_EMBEDDING}
"""Kind of similarity -> the vectors it compares."""

_FOUND_SCHEMA: Final = f"{c.USER_ID} string, {c.USERS} array<string>, {c.SCORES} array<double>"


def similar_items(
    embeddings: DataFrame, items: Snapshot, *, top_k: int, item_block: int, checked_share: float = 0.0
) -> DataFrame:
    """kind, item_id, items and scores: for every item and kind the exact best `top_k` others with a cosine above 0.

    `embeddings` are rows of ITEM_EMBEDDINGS, `items` is the snapshot of the same rows. An item without a vector of a
    kind (zeros) has an empty list of that kind, and stands in none. `checked_share` and errors are those of
    `score_pairs`.
    """
    lists = [
        _lists_of_kind(embeddings, items, kind, top_k=top_k, item_block=item_block, checked_share=checked_share)
        for kind in KINDS
    ]
    return reduce(DataFrame.unionByName, lists)


def similar_users(
    embeddings: DataFrame, users: Snapshot, *, top_k: int, user_block: int, checked_share: float = 0.0
) -> DataFrame:
    """user_id, users and scores: for every user the exact best `top_k` others with a cosine above 0.

    `embeddings` are rows of USER_EMBEDDINGS of one model version and split, `users` is the snapshot of the same rows.
    Equal scores stand in the order of user_id. Lists of about `checked_share` of the users are worked out in float64
    too. Raises in the workers what `share_user_matrix` raises, and when a checked list differs.
    """

    def find(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        begin_in_worker()
        for block in rebatch(batches, user_block):
            yield find_users(block, users, top_k=top_k + 1, checked_share=checked_share)

    def is_other(found: Column) -> Column:
        return (found[c.USERS] != F.col(c.USER_ID)) & (found[c.SCORES] > 0)

    found = embeddings.select(c.USER_ID, c.EMBEDDING).mapInArrow(find, _FOUND_SCHEMA)
    others = F.slice(F.filter(F.arrays_zip(c.USERS, c.SCORES), is_other), 1, top_k)
    return found.select(c.USER_ID, others[c.USERS].alias(c.USERS), others[c.SCORES].alias(c.SCORES))


def _lists_of_kind(
    embeddings: DataFrame, items: Snapshot, kind: str, *, top_k: int, item_block: int, checked_share: float
) -> DataFrame:
    is_known = F.exists(KINDS[kind], lambda value: value != 0)
    queries = embeddings.where(is_known).select(
        F.col(c.ITEM_ID).alias(c.USER_ID),
        F.lit(kind).alias(c.SPLIT),
        F.col(KINDS[kind]).alias(c.EMBEDDING),
        F.array(c.ITEM_IDX).alias(SEEN),
    )
    scored = score_pairs(
        queries, items, column=KINDS[kind], top_k=top_k, seen_rules=(DROP,), alpha=1.0, offset_b=0.0,
        user_block=item_block, checked_share=checked_share,
    )  # fmt: skip
    num_similar = F.size(F.filter(c.SCORES, lambda score: score > 0))  # best first: the rest is a tail
    found = scored.select(
        F.col(c.SPLIT).alias(c.KIND),
        F.col(c.USER_ID).alias(c.ITEM_ID),
        F.slice(c.ITEMS, 1, num_similar).alias(c.ITEMS),
        F.slice(c.SCORES, 1, num_similar).alias(c.SCORES),
    )
    # Zeros are like nothing, and dear to search for: every item is as near as every other.
    nothing = embeddings.where(~is_known).select(
        F.lit(kind).alias(c.KIND),
        c.ITEM_ID,
        F.array().cast("array<int>").alias(c.ITEMS),
        F.array().cast("array<double>").alias(c.SCORES),
    )
    return found.unionByName(nothing)


def find_users(block: pa.RecordBatch, users: Snapshot, *, top_k: int, checked_share: float) -> pa.RecordBatch:
    """The worker: the best `top_k` users for each of the block, themselves among them, as columns of _FOUND_SCHEMA.

    Fewer, where there are no more users.
    """
    matrix, ids = share_user_matrix(users)
    where = f"users to compare, column {c.EMBEDDING}"
    vectors_UD = decode_vectors(block.column(c.EMBEDDING), where, width=matrix.dim)
    with explain_bad_vectors(where, block.column(c.USER_ID)):
        ready = Users.of(vectors_UD, dim=matrix.dim)
    nobody = Exclusions.none(len(block))
    top = search(ready, min(top_k, matrix.num_items), nobody, items=matrix)
    require_exact(top, ready, block.column(c.USER_ID), matrix, share=checked_share, excluded=nobody)
    listed = ids.take(pa.array(top.places_P)).cast(pa.string())
    columns = {
        c.USER_ID: block.column(c.USER_ID),
        c.USERS: encode_lists(listed, top.counts_U),
        c.SCORES: encode_lists(pa.array(top.scores_P.astype(np.float64)), top.counts_U),
    }
    return pa.RecordBatch.from_pydict(columns)
