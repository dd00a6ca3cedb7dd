"""ITEM_INDEX mended: one number for each item and one item for each number."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c

WRITTEN_AT = "_recsys_written_at"
"""When a row's file was written."""


def keep_first_numbers(index: DataFrame) -> DataFrame:
    """ITEM_INDEX rows, one for each item_id of `index`, which has WRITTEN_AT beside the table's columns.

    An item keeps the number it was given first; a number stays with the item that had it first, and its other items get
    numbers that none had before.
    """
    of_item = Window.partitionBy(c.ITEM_ID).orderBy(WRITTEN_AT, c.ITEM_IDX)
    of_number = Window.partitionBy(c.ITEM_IDX).orderBy(WRITTEN_AT, c.ITEM_ID)
    firsts = index.withColumn("place", F.row_number().over(of_item)).where("place = 1")
    numbered = firsts.withColumn("place", F.row_number().over(of_number))
    others = numbered.where("place > 1").withColumn("place", F.row_number().over(Window.orderBy(c.ITEM_IDX, c.ITEM_ID)))
    largest = F.broadcast(index.agg(F.max(c.ITEM_IDX).alias("largest")))
    anew = others.crossJoin(largest).withColumn(c.ITEM_IDX, (F.col("largest") + F.col("place")).cast("int"))
    return numbered.where("place = 1").select(c.ITEM_ID, c.ITEM_IDX).unionByName(anew.select(c.ITEM_ID, c.ITEM_IDX))
