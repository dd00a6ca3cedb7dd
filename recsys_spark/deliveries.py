"""One delivery, from what is checked before a row is parsed to what is told once every row has its place."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.checks import require_balance, require_few_faulty
from recsys_spark.config import EventsConfig, ItemsConfig
from recsys_spark.runner import Context
from recsys_spark.tables.contract import Table
from recsys_spark.tables.formats import own_columns
from recsys_spark.tables.source import count_rows, read_source, require_columns, require_timestamp_format
from recsys_spark.tables.sql import require_plain_sql, require_value
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.ingest import accepted, count_outcomes, faulty, name_kept_out, rejected
from recsys_spark.transforms.values import Notation

_HASH_LETTERS_BEFORE = 32
"""Length of the ids that earlier releases gave to events without one: hashes of all columns of the source."""


def read_delivery(context: Context, settings: EventsConfig | ItemsConfig, section: str) -> DataFrame:
    """The source's rows, each with the row filter that keeps it out, once the mapping, the pattern and the filters are
    known to fit the source; how many there are is counted, and none is an error."""
    require_timestamp_format(context.spark, settings.timestamp.format, section)
    raw = read_source(context.spark, settings.source, section, can_be_empty=True)
    require_columns(raw, settings.columns, section)
    names = own_columns(raw)
    for name, sql in settings.where.items():
        require_plain_sql(context.spark, sql, f"{section}.where.{name}", columns=names)
        require_value(raw, sql, f"{section}.where.{name}", columns=names, kind="boolean")
    context.count_source(section, count_rows(context.spark, settings.source, section))
    return name_kept_out(raw, settings.where)


def notation_of(settings: EventsConfig | ItemsConfig) -> Notation:
    """How the source of a section writes its values."""
    timestamp = settings.timestamp
    return Notation.of(
        pattern=timestamp.format, zone=timestamp.zone, missing=settings.missing, decimal=settings.decimal
    )


def write_delivery(
    context: Context, parsed: DataFrame, settings: EventsConfig | ItemsConfig, *, to: Table, rejects: Table, **of: str
) -> None:
    """Replace the delivery's slice of both tables, and tell what a person should know of it.

    Rows that are refused are written before too many of them stop the run; rows read = accepted + rejected + kept out,
    or the run fails.
    """
    section = to.name.lower()
    num_read = context.rows_in[section]
    outcome = first_row(count_outcomes(parsed, settings.where)).asDict()
    for name, count in outcome["kept_out"].items():
        context.note(f"{count:,} rows kept out by {section}.where.{name}")
    num_rejected = context.replace(rejects, rejected(parsed), **of)
    context.note_count(
        outcome["swallowed"], "lines inside of refused rows look like rows: a quote may be opened and not closed"
    )
    context.note_count(
        outcome["inner_lines"], "lines of the file lie inside of fields (multiLine): if they are rows, a quote is open"
    )
    require_few_faulty(
        faulty(parsed), count=outcome["faulty"], read=num_read, max_share=settings.max_rejected_share, section=section
    )
    context.note_count(outcome["known"], "events that an earlier delivery brought: refused")
    context.note_count(outcome["counted"], "repeated events: refused and counted (events.repeats)")
    context.note_count(
        outcome["undecoded"],
        f"rows have letters that could not be decoded: {section}.source.options may name the encoding",
    )
    context.note_count(
        outcome["float_ids"],
        "rows have ids that end in .0, as pandas writes whole numbers beside missing ones: kept as they are; to mend"
        " them, write the column as astype('Int64')",
    )
    num_accepted = context.replace(to, accepted(parsed), **of)
    kept_out = sum(outcome["kept_out"].values())
    require_balance(read=num_read, accepted=num_accepted, rejected=num_rejected, kept_out=kept_out, section=section)


def note_older_ids(context: Context, events: DataFrame, *, batch: str) -> None:
    """A note when other deliveries came with an earlier release, whose ids of events without one were others."""
    one = events.where(F.col(c.BATCH) != batch).select(c.EVENT_ID).first()
    if one is not None and len(one[0]) == _HASH_LETTERS_BEFORE:
        context.note(
            "EVENTS may hold deliveries of an earlier release, whose events had other ids: ingest those that overlap"
            " with this one again (events.batch), or their common events count twice"
        )
