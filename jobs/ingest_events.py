"""ingest_events: an event source -> EVENTS and EVENTS_REJECTED; every row lands in one of the two."""

import sys

from recsys_spark.checks import require_balance, require_few_faulty
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import EVENTS, EVENTS_REJECTED
from recsys_spark.tables.source import (
    MALFORMED,
    count_rows,
    list_files,
    read_source,
    require_columns,
    require_timestamp_format,
)
from recsys_spark.transforms.ingest import accepted, faulty, forget_accepted_raw, parse_events, refuse_known, rejected


def run(context: Context) -> None:
    settings = context.config.events
    require_timestamp_format(context.spark, settings.timestamp.format, "events")
    raw = read_source(context.spark, settings.source, "events")
    require_columns(raw, settings.columns, "events")
    parsed = context.keep(
        parse_events(
            raw,
            columns=settings.columns,
            event_type=settings.event_type,
            timestamp=(settings.timestamp.format, settings.timestamp.zone),
            malformed=MALFORMED,
        )
        .transform(refuse_known, context.store.read_or_empty(EVENTS), batch=settings.batch)
        .transform(forget_accepted_raw)
    )
    num_read = context.count_source("events", count_rows(context.spark, settings.source))
    num_rejected = context.replace(EVENTS_REJECTED, rejected(parsed), batch=settings.batch)
    num_faulty = require_few_faulty(
        faulty(parsed), read=num_read, max_share=settings.max_rejected_share, section="events"
    )
    context.note_count(num_rejected - num_faulty, "events that an earlier delivery brought: refused")
    num_accepted = context.replace(EVENTS, accepted(parsed), batch=settings.batch)
    require_balance(read=num_read, accepted=num_accepted, rejected=num_rejected, section="events")


STAGE = Stage(
    name="ingest_events",
    run=run,
    reads=(),
    writes=(EVENTS, EVENTS_REJECTED),
    sections=("events",),
    sources=lambda spark, config: list_files(spark, config.events.source.path),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
