"""ingest_items: an item source -> ITEMS and ITEMS_REJECTED, and a number in ITEM_INDEX for each new item."""

import sys

from recsys_spark.checks import require_balance, require_few_faulty
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_INDEX, ITEMS, ITEMS_REJECTED
from recsys_spark.tables.source import (
    MALFORMED,
    count_rows,
    list_files,
    read_source,
    require_columns,
    require_timestamp_format,
)
from recsys_spark.transforms.ingest import accepted, faulty, forget_accepted_raw, parse_items, rejected
from recsys_spark.transforms.items import number_new_items


def run(context: Context) -> None:
    settings = context.config.items
    require_timestamp_format(context.spark, settings.timestamp.format, "items")
    raw = read_source(context.spark, settings.source, "items")
    require_columns(raw, settings.columns, "items")
    parsed = context.keep(
        parse_items(
            raw,
            columns=settings.columns,
            timestamp=(settings.timestamp.format, settings.timestamp.zone),
            malformed=MALFORMED,
        ).transform(forget_accepted_raw)
    )
    num_read = context.count_source("items", count_rows(context.spark, settings.source))
    num_rejected = context.replace(ITEMS_REJECTED, rejected(parsed))
    require_few_faulty(faulty(parsed), read=num_read, max_share=settings.max_rejected_share, section="items")
    num_accepted = context.replace(ITEMS, accepted(parsed))
    require_balance(read=num_read, accepted=num_accepted, rejected=num_rejected, section="items")
    context.append(ITEM_INDEX, number_new_items(accepted(parsed), context.store.read_or_empty(ITEM_INDEX)))


STAGE = Stage(
    name="ingest_items",
    run=run,
    reads=(),
    writes=(ITEMS, ITEMS_REJECTED, ITEM_INDEX),
    sections=("items",),
    sources=lambda spark, config: list_files(spark, config.items.source.path),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
