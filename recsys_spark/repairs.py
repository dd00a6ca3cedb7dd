"""Tables that no run can make again, mended."""

from __future__ import annotations

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.runner import Context
from recsys_spark.tables.catalog import ITEM_INDEX
from recsys_spark.transforms.item_index import WRITTEN_AT, keep_first_numbers


def mend_item_index(context: Context) -> None:
    """Leave one row of ITEM_INDEX for each item and for each number, and tell what was done; a sound table stays."""
    rows = context.read_own(ITEM_INDEX)
    if rows.isEmpty():
        return
    index = context.keep(rows.withColumn(WRITTEN_AT, F.col("_metadata.file_modification_time")))
    mended = context.keep(keep_first_numbers(index))
    num_dropped = index.count() - mended.count()
    num_renumbered = mended.join(index, on=[c.ITEM_ID, c.ITEM_IDX], how="left_anti").count()
    if not num_dropped and not num_renumbered:
        context.note("every item has one number, and every number one item: nothing to repair")
        return
    context.note_count(num_dropped, "rows of items that had a number already: dropped")
    context.note_count(num_renumbered, "items whose number another item had first: numbered anew")
    context.replace(ITEM_INDEX, mended)
