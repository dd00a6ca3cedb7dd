"""ingest_items: an item source -> ITEMS and ITEMS_REJECTED, and a number in ITEM_INDEX for each new item."""

import sys

from recsys_spark.deliveries import notation_of, read_delivery, write_delivery
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_INDEX, ITEMS, ITEMS_REJECTED
from recsys_spark.tables.files import list_files
from recsys_spark.transforms.ingest import accepted, forget_accepted_raw, parse_items
from recsys_spark.transforms.items import number_new_items


def run(context: Context) -> None:
    settings = context.config.items
    raw = read_delivery(context, settings, "items")
    parsed = context.keep(
        parse_items(raw, columns=settings.columns, notation=notation_of(settings)).transform(forget_accepted_raw)
    )
    write_delivery(context, parsed, settings, to=ITEMS, rejects=ITEMS_REJECTED)
    context.extend(ITEM_INDEX, lambda index: number_new_items(accepted(parsed), index))


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
