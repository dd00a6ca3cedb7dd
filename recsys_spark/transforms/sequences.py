"""Events -> one row per user and cut-off: what was known before it, and what came in the window after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c

PAD = -1
"""Fills the arrays behind the real events: no item has this number."""


@dataclass(frozen=True)
class CutOff:
    """Everything before `as_of` is known; targets lie in [as_of, target_end). No window: targets stay unknown."""

    split: str
    as_of: datetime
    target_end: datetime


def plan_cut_offs(
    *, validation_start: datetime, test_start: datetime, train_windows: int, window_days: int
) -> list[CutOff]:
    """The global time split: training cut-offs back from the validation window, then validation, then test.

    Training windows end at or before `validation_start`, validation's ends at `test_start`; test has none.
    """
    window = timedelta(days=window_days)
    training = [
        CutOff("train", validation_start - (back + 1) * window, validation_start - back * window)
        for back in range(train_windows)
    ]
    return [
        *reversed(training),
        CutOff("validation", validation_start, test_start),
        CutOff("test", test_start, test_start),
    ]


def number_events(events: DataFrame, index: DataFrame) -> DataFrame:
    """Events of known items with their item_idx; `index` has one row per item_id. Events of unknown items drop out."""
    return events.join(index, on=[c.ITEM_ID], how="inner")


def build_sequences(
    events: DataFrame,
    *,
    cut_offs: Sequence[CutOff],
    max_events: int,
    max_targets: int,
    event_types: Sequence[str],
    target_event_types: Sequence[str],
    seed: int,
) -> DataFrame:
    """SEQUENCES rows for `events` numbered by `number_events`.

    Events of one moment have no order of their own: they are shuffled with the seed. Train and validation rows have at
    least one target, test rows none. One pass: a user's events are gathered and sorted once, whatever the number of
    cut-offs.
    """
    timelines = _gather_timelines(events, event_types=event_types, target_event_types=target_event_types, seed=seed)
    known = F.filter("timeline", lambda event: event["ts"] < F.col(f"cut_off.{c.AS_OF}"))
    chosen = F.filter(
        "timeline",
        lambda event: (
            event["is_target"]
            & (event["ts"] >= F.col(f"cut_off.{c.AS_OF}"))
            & (event["ts"] < F.col("cut_off.target_end"))
        ),
    )
    rows = (
        timelines.withColumn("cut_off", F.explode(_as_array(cut_offs)))
        .withColumn("known", _last(known, max_events))
        .withColumn(
            "targets", _draw(F.array_distinct(F.transform(chosen, lambda event: event["item"])), max_targets, seed)
        )
        .where((F.size("known") > 0) & ((F.size("targets") > 0) | (F.col("cut_off.split") == "test")))
    )
    return rows.select(*_columns(max_events, max_targets))


def _gather_timelines(
    events: DataFrame, *, event_types: Sequence[str], target_event_types: Sequence[str], seed: int
) -> DataFrame:
    """One row per user: all events, oldest first."""
    code = F.coalesce(F.array_position(F.lit(list(event_types)), F.col(c.EVENT_TYPE)), F.lit(0)).cast("int")
    event = F.struct(
        F.col(c.TS).alias("ts"),
        F.xxhash64(c.EVENT_ID, F.lit(seed)).alias("shuffle"),
        F.col(c.ITEM_IDX).alias("item"),
        code.alias("type"),
        F.col(c.EVENT_TYPE).isin(list(target_event_types)).alias("is_target"),
    )
    return events.groupBy(c.USER_ID).agg(F.sort_array(F.collect_list(event)).alias("timeline"))


def _as_array(cut_offs: Sequence[CutOff]) -> Column:
    return F.array(
        *[
            F.struct(
                F.lit(cut.split).alias(c.SPLIT),
                F.lit(cut.as_of).alias(c.AS_OF),
                F.lit(cut.target_end).alias("target_end"),
            )
            for cut in cut_offs
        ]
    )


def _last(array: Column, width: int) -> Column:
    """The last `width` elements, or all of a shorter array."""
    return F.slice(array, F.greatest(F.size(array) - width + 1, F.lit(1)), width)


def _draw(items: Column, width: int, seed: int) -> Column:
    """At most `width` of the items, drawn with the seed, evenly over the window."""
    shuffled = F.transform(
        items,
        lambda item: F.struct(F.xxhash64(item, F.col(c.USER_ID), F.lit(seed)).alias("shuffle"), item.alias("item")),
    )
    return F.transform(F.slice(F.sort_array(shuffled), 1, width), lambda drawn: drawn["item"])


def _pad(array: Column, width: int, filler: int) -> Column:
    return F.slice(F.concat(array, F.array_repeat(F.lit(filler), width)), 1, width)


def _columns(max_events: int, max_targets: int) -> list[Column]:
    as_of = F.col(f"cut_off.{c.AS_OF}")

    def hours(event: Column) -> Column:
        return F.floor((F.unix_micros(as_of) - F.unix_micros(event["ts"])) / F.lit(3_600_000_000)).cast("int")

    arrays = {
        c.EVENT_ITEMS: _pad(F.transform("known", lambda event: event["item"]), max_events, PAD),
        c.EVENT_TYPES: _pad(F.transform("known", lambda event: event["type"]), max_events, 0),
        c.EVENT_HOURS: _pad(F.transform("known", hours), max_events, 0),
    }
    return [
        F.xxhash64(c.USER_ID, as_of, "cut_off.split").alias(c.ROW_ID),
        F.col(c.USER_ID),
        as_of.alias(c.AS_OF),
        F.col("cut_off.split").alias(c.SPLIT),
        *[array.alias(name) for name, array in arrays.items()],
        F.size("known").alias(c.NUM_EVENTS),
        _pad(F.col("targets"), max_targets, PAD).alias(c.TARGET_ITEMS),
        F.size("targets").alias(c.NUM_TARGETS),
    ]


def spread_over_files(sequences: DataFrame, *, num_files: int) -> DataFrame:
    """The same rows in `num_files` nearly equal files of each split, so that each rank finds files of its own.

    row_id alone says which file a row lies in, and where: equal rows make equal files, in every run and every retry of
    a task. (`repartitionByRange` places rows by a sample of them, and the sample by the order they came in.)
    """
    return sequences.repartition(num_files, c.ROW_ID).sortWithinPartitions(c.SPLIT, c.ROW_ID)
