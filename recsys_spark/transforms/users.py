"""What the scorer has to know of each user besides the vector."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.transforms.history import MICROS_PER_DAY


def with_seen_items(users: DataFrame, events: DataFrame) -> DataFrame:
    """`users` (one row per user_id and split) with what they had before as_of, once each, empty arrays for none:
    `seen`, the item_idx, and `seen_days`, the whole days from the last time to as_of.

    `events` carry item_idx (`number_events`); any number per user.
    """
    known = users.select(c.USER_ID, c.SPLIT, c.AS_OF)
    per_item = (
        events.select(c.USER_ID, c.ITEM_IDX, c.TS)
        .join(known, on=[c.USER_ID], how="inner")
        .where(F.col(c.TS) < F.col(c.AS_OF))
        .groupBy(c.USER_ID, c.SPLIT, c.AS_OF, c.ITEM_IDX)
        .agg(F.max(c.TS).alias(c.TS))
    )
    days = ((F.unix_micros(c.AS_OF) - F.unix_micros(c.TS)) / MICROS_PER_DAY).cast("int")
    per_user = per_item.groupBy(c.USER_ID, c.SPLIT).agg(
        F.collect_list(F.struct(F.col(c.ITEM_IDX).alias("item"), days.alias("days"))).alias("had")
    )
    had = F.coalesce("had", F.array().cast("array<struct<item:int,days:int>>"))
    joined = users.join(per_user, on=[c.USER_ID, c.SPLIT], how="left").withColumn("had", had)
    return joined.withColumns({"seen": F.col("had.item"), "seen_days": F.col("had.days")}).drop("had")
