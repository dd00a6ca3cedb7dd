"""What the scorer has to know of each user besides the vector."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c


def with_seen_items(users: DataFrame, events: DataFrame) -> DataFrame:
    """`users` (one row per user_id and split) with `seen`: item_idx of what they had before as_of, empty for none.

    `events` carry item_idx (`number_events`); any number per user.
    """
    known = users.select(c.USER_ID, c.SPLIT, c.AS_OF)
    is_before = F.col(c.TS) < F.col(c.AS_OF)
    per_user = (
        events.select(c.USER_ID, c.ITEM_IDX, c.TS)
        .join(known, on=[c.USER_ID], how="inner")
        .where(is_before)
        .groupBy(c.USER_ID, c.SPLIT)
        .agg(F.collect_set(c.ITEM_IDX).alias("seen"))
    )
    return users.join(per_user, on=[c.USER_ID, c.SPLIT], how="left").withColumn(
        "seen", F.coalesce("seen", F.array().cast("array<int>"))
    )
