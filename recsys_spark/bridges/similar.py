"""Item to item: the scorer with items in the users' place, each of which has "seen" itself."""

from __future__ import annotations

from functools import reduce
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.score import score_pairs
from recsys_spark.bridges.snapshot import Snapshot
from recsys_spark.bridges.user_rules import SEEN
from recsys_spark.seen_rules import DROP

KINDS: Final = {"both": c.EMBEDDING, "text": c.TEXT_EMBEDDING, "behaviour": c.BEHAVIOUR_EMBEDDING}
"""Kind of similarity -> the vectors it compares."""


def similar_items(embeddings: DataFrame, items: Snapshot, *, top_k: int, item_block: int) -> DataFrame:
    """kind, item_id, items and scores: for every item and kind the exact best `top_k` others with a cosine above 0.

    `embeddings` are rows of ITEM_EMBEDDINGS, `items` is the snapshot of the same rows. An item without a vector of a
    kind (zeros) has an empty list of that kind, and stands in none. Errors are those of `score_pairs`.
    """
    lists = [_lists_of_kind(embeddings, items, kind, top_k=top_k, item_block=item_block) for kind in KINDS]
    return reduce(DataFrame.unionByName, lists)


def _lists_of_kind(embeddings: DataFrame, items: Snapshot, kind: str, *, top_k: int, item_block: int) -> DataFrame:
    queries = embeddings.select(
        F.col(c.ITEM_ID).alias(c.USER_ID),
        F.lit(kind).alias(c.SPLIT),
        F.col(KINDS[kind]).alias(c.EMBEDDING),
        F.array(c.ITEM_IDX).alias(SEEN),
    )
    scored = score_pairs(
        queries, items, column=KINDS[kind], top_k=top_k, seen_rules=(DROP,), alpha=1.0, offset_b=0.0,
        user_block=item_block,
    )  # fmt: skip
    num_similar = F.size(F.filter(c.SCORES, lambda score: score > 0))  # best first: the rest is a tail
    return scored.select(
        F.col(c.SPLIT).alias(c.KIND),
        F.col(c.USER_ID).alias(c.ITEM_ID),
        F.slice(c.ITEMS, 1, num_similar).alias(c.ITEMS),
        F.slice(c.SCORES, 1, num_similar).alias(c.SCORES),
    )
