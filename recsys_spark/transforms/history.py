"""What users did before a cut-off, and how much of it still counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.seen_rules import KEEP
from recsys_spark.transforms.order import exact_sum

LAST_TS: Final = "last_ts"
MICROS_PER_DAY: Final = 86_400_000_000


def before(events: DataFrame, cut_off: datetime) -> DataFrame:
    """Events strictly before the cut-off: all that may be learnt from."""
    return events.where(F.col(c.TS) < F.lit(cut_off))


def within(events: DataFrame, start: datetime, end: datetime) -> DataFrame:
    """Events of the half-open window [start, end)."""
    return events.where((F.col(c.TS) >= F.lit(start)) & (F.col(c.TS) < F.lit(end)))


def of_types(events: DataFrame, types: Sequence[str]) -> DataFrame:
    """Events of the given types."""
    return events.where(F.col(c.EVENT_TYPE).isin(*types))


def of_items(rows: DataFrame, items: DataFrame) -> DataFrame:
    """The rows whose item_id is in the catalogue (`items`, key: item_id): what left it is listed no more."""
    return rows.join(items, on=[c.ITEM_ID], how="left_semi")


def seen_items(events: DataFrame) -> DataFrame:
    """user_id, item_id: each pair of the events once."""
    return events.select(c.USER_ID, c.ITEM_ID).distinct()


def age_days(ts: str, *, as_of: datetime) -> Column:
    """Days from a timestamp column to the cut-off, with their fraction."""
    return (F.unix_micros(F.lit(as_of)) - F.unix_micros(ts)) / F.lit(MICROS_PER_DAY)


def may_repeat(seen_rule: str, days: Column) -> Column:
    """Whether a seen rule (a column) lets a list hold an item had last so many days ago; null: never had."""
    wanted = F.regexp_extract(seen_rule, r"\d+", 0)
    is_long_ago = F.when(F.col(seen_rule) == KEEP, F.lit(True)).when(wanted != "", F.floor(days) >= wanted.cast("int"))
    return F.coalesce(days.isNull() | is_long_ago, F.lit(False))


def decayed_counts(events: DataFrame, *, as_of: datetime, decay_days: float) -> DataFrame:
    """user_id, item_id, score, num_events, last_ts: how often a user had an item, old times counting less.

    score = sum over the user's events with the item of exp(-age / decay_days); an event of now counts 1,
    one of `decay_days` ago 0.37, and one older than 27 times that nothing. Key: user_id, item_id. Only
    events before `as_of` are looked at.
    """
    weight = F.exp(-age_days(c.TS, as_of=as_of) / F.lit(float(decay_days)))
    return (
        before(events, as_of)
        .groupBy(c.USER_ID, c.ITEM_ID)
        .agg(
            exact_sum(weight, digits=12).alias(c.SCORE),
            F.count(F.lit(1)).cast("int").alias(c.NUM_EVENTS),
            F.max(c.TS).alias(LAST_TS),
        )
    )
