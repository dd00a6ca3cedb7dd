"""Source rows -> rows of the contract, each with every reason why it cannot be one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DataType

from recsys_spark import columns as c
from recsys_spark.tables.formats import (
    BLOCK,
    FILE,
    INNER_LINES,
    MALFORMED,
    NUMBER,
    OURS,
    SWALLOWED,
    own_columns,
    quoted,
)
from recsys_spark.tables.source import find_column
from recsys_spark.transforms.values import (
    FIRST_MOMENT,
    LAST_MOMENT,
    Notation,
    is_float_id,
    is_rounded_id,
    is_undecoded,
    moment,
    number,
    trim_text,
    without_missing,
)

REFUSE: Final = "refuse"
COUNT: Final = "count"
KEEP: Final = "keep"
"""What becomes of repeated events (`events.repeats`)."""

KEPT_OUT: Final = f"{OURS}kept_out"
"""The row filter that is not true for the row, the first by name; null for a row to read."""
_HAS_UNDECODED: Final = f"{OURS}undecoded"
_HAS_FLOAT_ID: Final = f"{OURS}float_id"
_PASSWORD: Final = r"^([^:/?#]+://[^:/?#@]*):[^/?#@]*(?=@)"
"""That of a file system whose URIs may have one, as ftp://me:password@host/orders.csv."""
_TOLD_OF_ROWS: Final = (KEPT_OUT, SWALLOWED, INNER_LINES, _HAS_UNDECODED, _HAS_FLOAT_ID)
"""Columns of parsed rows that no table has: what a run tells of a delivery."""

_EVENT_TEXTS: Final = (c.USER_ID, c.ITEM_ID, c.EVENT_TYPE, c.CONTEXT)
_ITEM_TEXTS: Final = (c.ITEM_ID, c.TITLE, c.DESCRIPTION, c.BRAND, c.CATEGORY)
_ATTRIBUTE: Final = "attributes."
_READ_FROM_TEXT: Final = (c.TS, c.VALUE, c.PRICE, c.AVAILABLE_FROM, c.AVAILABLE_TO)
_MOMENT_TYPES: Final = ("timestamp", "timestamp_ntz", "date")
_ID_LETTERS: Final = 40
"""Hexadecimal letters of the ids made here: 160 bits."""
_MALFORMED: Final = "the row is malformed: too few or too many fields, or no JSON"
_KNOWN: Final = f"{c.EVENT_ID} is known: "
_COUNTED: Final = f"{c.EVENT_ID} is repeated and counted"


@dataclass(frozen=True)
class _Fault:
    """A condition (true or false, never null) that makes a row unfit, and what is said of it."""

    is_there: Column
    reason: Column


def name_kept_out(raw: DataFrame, where: Mapping[str, str]) -> DataFrame:
    """`raw` with KEPT_OUT by `where`: name -> SQL over the source's own columns; false and null keep a row out.

    Malformed rows stay, to be refused: their columns may be in the wrong places. So do those that hold other rows.
    """
    names = [F.when(~F.coalesce(F.expr(sql), F.lit(False)), F.lit(name)) for name, sql in sorted(where.items())]
    first = F.coalesce(*names) if names else F.lit(None).cast("string")
    is_one_row = F.col(MALFORMED).isNull() & (F.col(SWALLOWED) == 0)
    return raw.withColumn(KEPT_OUT, F.when(is_one_row, first))


def parse_events(
    raw: DataFrame, *, columns: Mapping[str, str], event_type: str | None, notation: Notation, repeats: str = REFUSE
) -> DataFrame:
    """EVENTS columns (but batch) plus source, offset, raw and reasons (empty for a row to accept), and what a run tells
    of rows.

    `raw` is from `read_source` and `name_kept_out`. `columns` maps source to platform columns. Without an event_id of
    its own an event gets the first 160 bits of SHA-256 of what was read of it (user, item, type, moment, value,
    context): other columns, their order and the format change no id. Of several sound rows with one id `repeats` says
    what the others are: refused, refused and counted (no fault), or kept, with ids that the same rows get again.
    """
    told = _tell(raw, columns, (*_EVENT_TEXTS, c.EVENT_ID, c.TS, c.VALUE), notation)
    if event_type is not None:
        told = told.withColumn(c.EVENT_TYPE, F.lit(event_type))
    typed = told.transform(_read_moments, (c.TS,), notation).withColumn(c.VALUE, number(_told(c.VALUE), notation))
    faults = [
        *[_missing(name) for name in (c.USER_ID, c.ITEM_ID, c.EVENT_TYPE)],
        *[_undecoded(name) for name in (c.USER_ID, c.ITEM_ID, c.EVENT_ID, c.EVENT_TYPE)],
        *[_rounded(name) for name in (c.USER_ID, c.ITEM_ID, c.EVENT_ID)],
        _unread(c.TS, F.lit(f"the pattern is {notation.pattern}")),
        _Fault(_told(c.TS).isNull(), F.lit(f"{c.TS} is missing")),
        _unread(c.VALUE, notation.why_no_number(_told(c.VALUE))),
    ]
    parsed = typed.select(
        c.SOURCE,
        BLOCK,
        c.OFFSET,
        F.coalesce(c.EVENT_ID, _identity()).alias(c.EVENT_ID),
        *_EVENT_TEXTS,
        c.TS,
        c.VALUE,
        _reasons(faults),
        c.RAW,
        *_TOLD_OF_ROWS,
    )
    return _settle_repeats(parsed, c.EVENT_ID, repeats)


def parse_items(raw: DataFrame, *, columns: Mapping[str, str], notation: Notation) -> DataFrame:
    """ITEMS columns plus source, offset, raw and reasons (empty for a row to accept), and what a run tells of rows."""
    moments = (c.AVAILABLE_FROM, c.AVAILABLE_TO)
    told = _tell(raw, columns, (*_ITEM_TEXTS, c.PRICE, *moments), notation)
    typed = told.transform(_read_moments, moments, notation).withColumn(c.PRICE, number(_told(c.PRICE), notation))
    faults = [
        _missing(c.ITEM_ID),
        _undecoded(c.ITEM_ID),
        _rounded(c.ITEM_ID),
        _unread(c.PRICE, notation.why_no_number(_told(c.PRICE))),
        *[_unread(name, F.lit(f"the pattern is {notation.pattern}")) for name in moments],
    ]
    parsed = typed.select(
        c.SOURCE,
        BLOCK,
        c.OFFSET,
        *_ITEM_TEXTS,
        c.PRICE,
        c.ATTRIBUTES,
        *moments,
        _reasons(faults),
        c.RAW,
        *_TOLD_OF_ROWS,
    )
    return _settle_repeats(parsed, c.ITEM_ID, REFUSE)


def forget_accepted_raw(parsed: DataFrame) -> DataFrame:
    """The same rows; `raw`, most of their bytes, stays with the refused ones only."""
    return parsed.withColumn(c.RAW, F.when(F.size(c.REASONS) > 0, F.col(c.RAW)))


def accepted(parsed: DataFrame) -> DataFrame:
    """The rows that no filter keeps out, without a reason to refuse them."""
    return parsed.where(F.col(KEPT_OUT).isNull() & (F.size(c.REASONS) == 0))


def rejected(parsed: DataFrame) -> DataFrame:
    """The rows that no filter keeps out, with a reason, as the …_REJECTED tables hold them (but batch)."""
    return parsed.where(F.size(c.REASONS) > 0).select(
        c.SOURCE, c.OFFSET, c.RAW, c.REASONS, F.current_timestamp().alias(c.REJECTED_AT)
    )


def faulty(parsed: DataFrame) -> DataFrame:
    """The rows to refuse that are no mere repetition: what says that a source is broken."""
    return rejected(parsed).where(~F.exists(c.REASONS, _is_no_fault))


def _is_no_fault(reason: Column) -> Column:
    return reason.startswith(_KNOWN) | reason.startswith(_COUNTED)


def count_outcomes(parsed: DataFrame, where: Mapping[str, str]) -> DataFrame:
    """One row of counts: faulty, known (brought by another delivery), counted (repeats), undecoded (rows to accept with
    texts that could not be decoded), float_ids (rows to accept whose ids end in .0), swallowed (lines inside of refused
    rows that look like rows), inner_lines (line breaks inside of fields of rows to accept), and `kept_out`, a map from
    the filters of `where` to the rows that each keeps out.
    """
    is_refused = F.size(c.REASONS) > 0
    is_accepted = F.col(KEPT_OUT).isNull() & ~is_refused
    kept_out = [
        part for name in sorted(where) for part in (F.lit(name), F.count_if(F.col(KEPT_OUT).eqNullSafe(F.lit(name))))
    ]
    return parsed.agg(
        F.count_if(is_refused & ~F.exists(c.REASONS, _is_no_fault)).alias("faulty"),
        F.count_if(F.exists(c.REASONS, lambda reason: reason.startswith(_KNOWN))).alias("known"),
        F.count_if(F.exists(c.REASONS, lambda reason: reason.startswith(_COUNTED))).alias("counted"),
        F.count_if(is_accepted & F.col(_HAS_UNDECODED)).alias("undecoded"),
        F.count_if(is_accepted & F.col(_HAS_FLOAT_ID)).alias("float_ids"),
        F.coalesce(F.sum(F.when(is_refused, F.col(SWALLOWED))), F.lit(0)).alias("swallowed"),
        F.coalesce(F.sum(F.when(is_accepted, F.col(INNER_LINES))), F.lit(0)).alias("inner_lines"),
        F.create_map(*kept_out).cast("map<string,bigint>").alias("kept_out"),
    )


def refuse_known(parsed: DataFrame, events: DataFrame, *, batch: str) -> DataFrame:
    """`parsed` with a reason for each sound event that another delivery than `batch` brought: EVENTS has it once."""
    other = "other_batch"
    known = events.where(F.col(c.BATCH) != batch).groupBy(c.EVENT_ID).agg(F.min(c.BATCH).alias(other))
    is_known = (F.size(c.REASONS) == 0) & F.col(KEPT_OUT).isNull() & F.col(other).isNotNull()
    reason = F.concat(F.lit(_KNOWN), F.lit("batch '"), F.col(other), F.lit("' brought it"))
    reasons = F.when(is_known, F.array(reason)).otherwise(F.col(c.REASONS))
    return parsed.join(known, on=[c.EVENT_ID], how="left").withColumn(c.REASONS, reasons).drop(other)


# --- what a row says -------------------------------------------------------------------------------------------------


def _tell(raw: DataFrame, columns: Mapping[str, str], targets: Sequence[str], notation: Notation) -> DataFrame:
    """Where each row comes from, all it says (JSON, or its line when it is malformed), and the texts of `targets`.

    What has to be read from its text (a number, a moment) is called told_…; a moment of the source's own type stays
    beside it as given_…. A step each to trim the texts, to drop those that mean nothing, and (in the caller) to read
    values from them: in a single one Spark would trim and parse each text as often as it is named.
    """
    found = {target: _require_column(raw, name) for name, target in columns.items()}
    given = {target: column for target, (column, _) in found.items()}
    whole = F.to_json(F.struct(*[F.col(quoted(name)) for name in own_columns(raw)]))
    told_as = {name: f"told_{name}" if name in _READ_FROM_TEXT else name for name in targets}
    trimmed = raw.select(
        F.regexp_replace(FILE, _PASSWORD, "$1").alias(c.SOURCE),
        F.col(BLOCK),
        F.col(NUMBER).alias(c.OFFSET),
        F.col(MALFORMED).isNotNull().alias("is_malformed"),
        F.coalesce(F.col(MALFORMED), whole).alias(c.RAW),
        F.col(SWALLOWED),
        F.col(INNER_LINES),
        F.col(KEPT_OUT),
        _attributes(given, notation).alias(c.ATTRIBUTES),
        *[
            (trim_text(given[name]) if name in given else F.lit(None).cast("string")).alias(told)
            for name, told in told_as.items()
        ],
        *[
            given[name].alias(f"given_{name}")
            for name in targets
            if name in found and found[name][1].simpleString() in _MOMENT_TYPES
        ],
    )
    read = [F.col(told_as[name]) for name in targets if name in given]
    if any(target.startswith(_ATTRIBUTE) for target in given):
        read.append(F.array_join(F.map_values(c.ATTRIBUTES), ""))
    kept = {told_as[name]: without_missing(F.col(told_as[name]), notation) for name in targets if name in given}
    return trimmed.withColumns(kept).withColumns(
        {
            _HAS_UNDECODED: _any(is_undecoded(text) for text in read),
            _HAS_FLOAT_ID: _any(is_float_id(F.col(name)) for name in (c.USER_ID, c.ITEM_ID) if name in given),
        }
    )


def _require_column(raw: DataFrame, name: str) -> tuple[Column, DataType]:
    found = find_column(raw, name)
    assert found is not None, f"require_columns comes first: no {name}"
    return found


def _told(name: str) -> Column:
    return F.col(f"told_{name}")


def _read_moments(told: DataFrame, names: Sequence[str], notation: Notation) -> DataFrame:
    """Adds the instants in UTC; null where the text does not follow the pattern or no calendar has the moment."""
    for name in names:
        told = told.withColumn(name, _moment(told, name, notation))
    is_plausible = {
        name: F.col(name).between(F.lit(FIRST_MOMENT).cast("timestamp"), F.lit(LAST_MOMENT).cast("timestamp"))
        for name in names
    }
    return told.withColumns({name: F.when(is_plausible[name], F.col(name)) for name in names})


def _moment(told: DataFrame, name: str, notation: Notation) -> Column:
    kind = dict(told.dtypes).get(f"given_{name}")
    if kind == "timestamp":
        return F.col(f"given_{name}")
    if kind is not None:
        return F.to_utc_timestamp(F.col(f"given_{name}").cast("timestamp"), notation.zone)
    return moment(_told(name), notation)


def _attributes(given: Mapping[str, Column], notation: Notation) -> Column:
    """Map of the mapped attributes that have a value."""
    named = {
        target.removeprefix(_ATTRIBUTE): without_missing(trim_text(source), notation)
        for target, source in given.items()
        if target.startswith(_ATTRIBUTE)
    }
    pairs = [part for name, value in named.items() for part in (F.lit(name), value)]
    whole = F.create_map(*pairs) if pairs else F.create_map().cast("map<string,string>")
    return F.map_filter(whole, lambda _name, value: value.isNotNull())


def _identity() -> Column:
    read = (F.unix_micros(c.TS).alias(c.TS), F.col(c.VALUE), *map(F.col, _EVENT_TEXTS))
    return F.substring(F.sha2(F.to_json(F.struct(*read)), 256), 1, _ID_LETTERS)


# --- why a row cannot be one -----------------------------------------------------------------------------------------


def _missing(name: str) -> _Fault:
    return _Fault(F.col(name).isNull(), F.lit(f"{name} is missing"))


def _undecoded(name: str) -> _Fault:
    """Two ids may differ in nothing but the bytes that were lost."""
    why = "cannot be decoded (source.options: {encoding: …} names the encoding, as iso-8859-1 or windows-1252)"
    return _Fault(is_undecoded(F.col(name)), F.concat(F.lit(f"{name} {why}: '"), F.col(name), F.lit("'")))


def _rounded(name: str) -> _Fault:
    """Ids that differ in their last digits only are one id now."""
    why = 'is a rounded number (write ids as texts: in pandas astype("Int64") before to_csv, or read with dtype=str)'
    return _Fault(is_rounded_id(F.col(name)), F.concat(F.lit(f"{name} {why}: '"), F.col(name), F.lit("'")))


def _unread(name: str, why: Column) -> _Fault:
    """A value is there and could not be read."""
    reason = F.concat(F.lit(f"{name} cannot be read ("), why, F.lit("): '"), _told(name), F.lit("'"))
    return _Fault(_told(name).isNotNull() & F.col(name).isNull(), reason)


def _reasons(faults: Sequence[_Fault]) -> Column:
    """The reasons of the faults that are there. (Spark interprets `array_compact` row by row; `concat` it compiles.)"""
    malformed = _Fault(F.col("is_malformed"), F.lit(_MALFORMED))
    holds = F.concat(
        F.lit("a field holds "), F.col(SWALLOWED).cast("string"),
        F.lit(" lines that look like rows: a quote may be opened and not closed"),
    )  # fmt: skip
    swallowed = _Fault(F.col(SWALLOWED) > 0, holds)
    none = F.array().cast("array<string>")
    parts = [F.when(fault.is_there, F.array(fault.reason)).otherwise(none) for fault in (malformed, swallowed, *faults)]
    return F.when(F.col(KEPT_OUT).isNull(), F.concat(*parts)).otherwise(none).alias(c.REASONS)


def _settle_repeats(parsed: DataFrame, key: str, repeats: str) -> DataFrame:
    """Of several sound rows with one key the first is kept; the others get a reason, or an id of their own under KEEP.

    First is by file, place in the file and row: how Spark shares files out to tasks changes nothing. The window has the
    key alone, so that the store's check of it finds the rows where they are.
    """
    is_sound = (F.size(c.REASONS) == 0) & F.col(KEPT_OUT).isNull()
    up_to_here = (
        Window.partitionBy(key)
        .orderBy(c.SOURCE, BLOCK, c.OFFSET)
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    nth = "nth"
    numbered = parsed.withColumn(nth, F.sum(is_sound.cast("int")).over(up_to_here))
    is_repeat = is_sound & (F.col(nth) > 1)
    if repeats == KEEP:
        own_id = F.substring(F.sha2(F.concat_ws("#", key, F.col(nth).cast("string")), 256), 1, _ID_LETTERS)
        settled = numbered.withColumn(key, F.when(is_repeat, own_id).otherwise(F.col(key)))
    else:
        reason = F.lit(_COUNTED if repeats == COUNT else f"{key} is repeated")
        settled = numbered.withColumn(c.REASONS, F.when(is_repeat, F.array(reason)).otherwise(F.col(c.REASONS)))
    return settled.drop(BLOCK, nth)


def _any(flags: Iterable[Column]) -> Column:
    return reduce(or_, flags, F.lit(False))
