"""ingest_events: an event source -> EVENTS and EVENTS_REJECTED; every row lands in one of the two."""

import sys

from recsys_spark.deliveries import notation_of, note_older_ids, read_delivery, write_delivery
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import EVENTS, EVENTS_REJECTED
from recsys_spark.tables.files import list_files
from recsys_spark.transforms.ingest import forget_accepted_raw, parse_events, refuse_known


def run(context: Context) -> None:
    settings = context.config.events
    raw = read_delivery(context, settings, "events")
    known = context.read_own(EVENTS)
    note_older_ids(context, known, batch=settings.batch)
    parsed = context.keep(
        parse_events(
            raw,
            columns=settings.columns,
            event_type=settings.event_type,
            notation=notation_of(settings),
            repeats=settings.repeats,
        )
        .transform(refuse_known, known, batch=settings.batch)
        .transform(forget_accepted_raw)
    )
    write_delivery(context, parsed, settings, to=EVENTS, rejects=EVENTS_REJECTED, batch=settings.batch)


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
