"""Source rows -> rows of the contract, each with every reason why it cannot be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.tables.source import BLOCK, FILE, NUMBER, own_columns

_EVENT_TEXTS = (c.USER_ID, c.ITEM_ID, c.EVENT_TYPE, c.CONTEXT)
_ITEM_TEXTS = (c.ITEM_ID, c.TITLE, c.DESCRIPTION, c.BRAND, c.CATEGORY)
_ATTRIBUTE = "attributes."
_READ_FROM_TEXT = (c.TS, c.VALUE, c.PRICE, c.AVAILABLE_FROM, c.AVAILABLE_TO)
_MOMENT_TYPES = ("timestamp", "timestamp_ntz", "date")
_BLANKS = " \t\r\n\u00a0\ufeff"
_NUMBER = r"^[+-]?(\d{1,200}(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$"
_KNOWN = f"{c.EVENT_ID} is known: "
_FIRST_MOMENT, _LAST_MOMENT = "0001-01-02", "9999-12-30"
"""What Python's datetime can hold in any zone; seconds read as milliseconds land far behind it."""


@dataclass(frozen=True)
class _Fault:
    """A condition (true or false, never null) that makes a row unfit, and what is said of it."""

    is_there: Column
    reason: Column


def parse_events(
    raw: DataFrame, *, columns: Mapping[str, str], event_type: str | None, timestamp: tuple[str, str], malformed: str
) -> DataFrame:
    """EVENTS columns (but batch) plus source, offset, raw and reasons (empty for a row to accept).

    `raw` is from `read_source`. `columns` maps source to platform columns, `timestamp` is (pattern, zone). Without an
    event_id of its own a row gets the first 128 bits of SHA-256 of all its fields, so an exact repeat is a repeated
    event.
    """
    told = _tell(raw, columns, (*_EVENT_TEXTS, c.EVENT_ID, c.TS, c.VALUE), malformed)
    if event_type is not None:
        told = told.withColumn(c.EVENT_TYPE, F.lit(event_type))
    typed = told.transform(_read_moments, (c.TS,), timestamp).withColumn(c.VALUE, _number(_told(c.VALUE)))
    faults = [
        *[_missing(name) for name in (c.USER_ID, c.ITEM_ID, c.EVENT_TYPE)],
        _unread(c.TS, f"the pattern is {timestamp[0]}"),
        _Fault(_told(c.TS).isNull(), F.lit(f"{c.TS} is missing")),
        _unread(c.VALUE, "it is no number"),
    ]
    row_hash = F.substring(F.sha2(c.RAW, 256), 1, 32)
    parsed = typed.select(
        c.SOURCE,
        BLOCK,
        c.OFFSET,
        F.coalesce(c.EVENT_ID, row_hash).alias(c.EVENT_ID),
        *_EVENT_TEXTS,
        c.TS,
        c.VALUE,
        _reasons(faults),
        c.RAW,
    )
    return parsed.transform(_refuse_repeats, key=c.EVENT_ID)


def parse_items(raw: DataFrame, *, columns: Mapping[str, str], timestamp: tuple[str, str], malformed: str) -> DataFrame:
    """ITEMS columns plus source, offset, raw and reasons (empty for a row to accept)."""
    moments = (c.AVAILABLE_FROM, c.AVAILABLE_TO)
    told = _tell(raw, columns, (*_ITEM_TEXTS, c.PRICE, *moments), malformed)
    typed = told.transform(_read_moments, moments, timestamp).withColumn(c.PRICE, _number(_told(c.PRICE)))
    faults = [
        _missing(c.ITEM_ID),
        _unread(c.PRICE, "it is no number"),
        *[_unread(name, f"the pattern is {timestamp[0]}") for name in moments],
    ]
    parsed = typed.select(
        c.SOURCE, BLOCK, c.OFFSET, *_ITEM_TEXTS, c.PRICE, c.ATTRIBUTES, *moments, _reasons(faults), c.RAW
    )
    return parsed.transform(_refuse_repeats, key=c.ITEM_ID)


def faulty(parsed: DataFrame) -> DataFrame:
    """The rows to refuse that are no mere repetition of an earlier delivery: what says that a source is broken."""
    return rejected(parsed).where(~F.exists(c.REASONS, lambda reason: reason.startswith(_KNOWN)))


def forget_accepted_raw(parsed: DataFrame) -> DataFrame:
    """The same rows; `raw`, most of their bytes, stays with the refused ones only."""
    return parsed.withColumn(c.RAW, F.when(F.size(c.REASONS) > 0, F.col(c.RAW)))


def accepted(parsed: DataFrame) -> DataFrame:
    """The rows without a reason to refuse them."""
    return parsed.where(F.size(c.REASONS) == 0)


def rejected(parsed: DataFrame) -> DataFrame:
    """The rows with a reason, as the …_REJECTED tables hold them (but batch)."""
    return parsed.where(F.size(c.REASONS) > 0).select(
        c.SOURCE, c.OFFSET, c.RAW, c.REASONS, F.current_timestamp().alias(c.REJECTED_AT)
    )


def refuse_known(parsed: DataFrame, events: DataFrame, *, batch: str) -> DataFrame:
    """`parsed` with a reason for each sound event that another delivery than `batch` brought: EVENTS has it once."""
    other = "other_batch"
    known = events.where(F.col(c.BATCH) != batch).groupBy(c.EVENT_ID).agg(F.min(c.BATCH).alias(other))
    is_known = (F.size(c.REASONS) == 0) & F.col(other).isNotNull()
    reason = F.concat(F.lit(_KNOWN), F.lit("batch '"), F.col(other), F.lit("' brought it"))
    reasons = F.when(is_known, F.array(reason)).otherwise(F.col(c.REASONS))
    return parsed.join(known, on=[c.EVENT_ID], how="left").withColumn(c.REASONS, reasons).drop(other)


def _tell(raw: DataFrame, columns: Mapping[str, str], targets: Sequence[str], malformed: str) -> DataFrame:
    """Where each row comes from, all it says (JSON, or its line when it is malformed), and the texts of `targets`.

    What has to be read from its text (a number, a moment) is called told_…; a moment of the source's own type stays
    beside it as given_…. One step for the texts and one for what is read from them: in a single step Spark would trim
    and parse each text as often as it is named.
    """
    given = {target: F.col(f"`{name}`") for name, target in columns.items()}
    types = {target: raw.schema[name].dataType.simpleString() for name, target in columns.items()}
    whole = F.to_json(F.struct(*[F.col(f"`{name}`") for name in own_columns(raw)]))
    texts = {name: trim_text(given[name]) if name in given else F.lit(None).cast("string") for name in targets}
    return raw.select(
        F.col(FILE).alias(c.SOURCE),
        F.col(BLOCK),
        F.col(NUMBER).alias(c.OFFSET),
        F.col(malformed).isNotNull().alias("is_malformed"),
        F.coalesce(F.col(malformed), whole).alias(c.RAW),
        _attributes(given).alias(c.ATTRIBUTES),
        *[text.alias(f"told_{name}" if name in _READ_FROM_TEXT else name) for name, text in texts.items()],
        *[given[name].alias(f"given_{name}") for name in targets if types.get(name) in _MOMENT_TYPES],
    )


def trim_text(given: Column) -> Column:
    """The text without blanks around it; an empty one is null."""
    return F.nullif(F.btrim(given.cast("string"), F.lit(_BLANKS)), F.lit(""))


def _told(name: str) -> Column:
    return F.col(f"told_{name}")


def _number(told: Column) -> Column:
    """A finite number in digits; null for anything else (Spark would read NaN, 12d and 0x1p3 as well)."""
    return F.when(told.rlike(_NUMBER), told.try_cast("double"))


def _read_moments(told: DataFrame, names: Sequence[str], timestamp: tuple[str, str]) -> DataFrame:
    """Adds the instants in UTC; null where the text does not follow the pattern or no calendar has the moment."""
    for name in names:
        told = told.withColumn(name, _moment(told, name, timestamp))
    is_plausible = {
        name: F.col(name).between(F.lit(_FIRST_MOMENT).cast("timestamp"), F.lit(_LAST_MOMENT).cast("timestamp"))
        for name in names
    }
    return told.withColumns({name: F.when(is_plausible[name], F.col(name)) for name in names})


def _moment(told: DataFrame, name: str, timestamp: tuple[str, str]) -> Column:
    pattern, zone = timestamp
    kind = dict(told.dtypes).get(f"given_{name}")
    if kind == "timestamp":
        return F.col(f"given_{name}")
    if kind is not None:
        return F.to_utc_timestamp(F.col(f"given_{name}").cast("timestamp"), zone)
    if pattern in ("epoch_seconds", "epoch_millis"):
        return F.timestamp_seconds(_exact_seconds(_told(name), is_millis=pattern == "epoch_millis"))
    local = F.try_to_timestamp(_told(name), F.lit(pattern))
    return local if _names_a_zone(pattern) else F.to_utc_timestamp(local, zone)


def _exact_seconds(told: Column, *, is_millis: bool) -> Column:
    """Seconds to the microsecond, up to twelve digits of them; a double has not every thousandth of a second."""
    number = F.when(told.rlike(_NUMBER), told.try_cast("decimal(21,6)" if is_millis else "decimal(18,6)"))
    return (number / (1000 if is_millis else 1)).cast("decimal(18,6)")


def _names_a_zone(pattern: str) -> bool:
    """Whether the timestamps themselves say their zone; text in quotes is no pattern letter."""
    outside_quotes = "".join(pattern.split("'")[::2])
    return any(letter in outside_quotes for letter in "VzOXxZ")


def _attributes(given: Mapping[str, Column]) -> Column:
    """Map of the mapped attributes that have a value."""
    named = {
        target.removeprefix(_ATTRIBUTE): trim_text(source)
        for target, source in given.items()
        if target.startswith(_ATTRIBUTE)
    }
    pairs = [part for name, value in named.items() for part in (F.lit(name), value)]
    whole = F.create_map(*pairs) if pairs else F.create_map().cast("map<string,string>")
    return F.map_filter(whole, lambda _name, value: value.isNotNull())


def _missing(name: str) -> _Fault:
    return _Fault(F.col(name).isNull(), F.lit(f"{name} is missing"))


def _unread(name: str, why: str) -> _Fault:
    """A value is there and could not be read."""
    reason = F.concat(F.lit(f"{name} cannot be read ({why}): '"), _told(name), F.lit("'"))
    return _Fault(_told(name).isNotNull() & F.col(name).isNull(), reason)


def _reasons(faults: Sequence[_Fault]) -> Column:
    """The reasons of the faults that are there. (Spark interprets `array_compact` row by row; `concat` it compiles.)"""
    malformed = _Fault(F.col("is_malformed"), F.lit("the row is malformed: too few or too many fields, or no JSON"))
    none = F.array().cast("array<string>")
    parts = [F.when(fault.is_there, F.array(fault.reason)).otherwise(none) for fault in (malformed, *faults)]
    return F.concat(*parts).alias(c.REASONS)


def _refuse_repeats(parsed: DataFrame, key: str) -> DataFrame:
    """Of several sound rows with one key the first is kept, the others get a reason.

    First is by file, place in the file and row: how Spark shares files out to tasks changes nothing. The window has the
    key alone, so that the store's check of it finds the rows where they are.
    """
    is_sound = F.size(c.REASONS) == 0
    up_to_here = (
        Window.partitionBy(key)
        .orderBy(c.SOURCE, BLOCK, c.OFFSET)
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    is_repeat = is_sound & (F.sum(is_sound.cast("int")).over(up_to_here) > 1)
    repeated = F.when(is_repeat, F.array(F.lit(f"{key} is repeated"))).otherwise(F.col(c.REASONS))
    return parsed.withColumn(c.REASONS, repeated).drop(BLOCK)
