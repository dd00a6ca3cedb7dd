"""Lists as the scorer writes them -> a row per listed item, as everything after it reads them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c


def list_items(candidates: DataFrame, index: DataFrame) -> DataFrame:
    """seen_rule, user_id, item_id, rank (from 1) and score of every listed item.

    `candidates` are rows of CANDIDATES of one run and split, `index` has one row per item_idx.
    """
    listed = candidates.select(
        c.SEEN_RULE, c.USER_ID, F.posexplode(F.arrays_zip(c.ITEMS, c.SCORES)).alias("place", "listed")
    )
    return (
        listed.select(
            c.SEEN_RULE,
            c.USER_ID,
            F.col(f"listed.{c.ITEMS}").alias(c.ITEM_IDX),
            (F.col("place") + 1).alias(c.RANK),
            F.col(f"listed.{c.SCORES}").alias(c.SCORE),
        )
        .join(index.select(c.ITEM_ID, c.ITEM_IDX), on=[c.ITEM_IDX], how="inner")
        .select(c.SEEN_RULE, c.USER_ID, c.ITEM_ID, c.RANK, c.SCORE)
    )
