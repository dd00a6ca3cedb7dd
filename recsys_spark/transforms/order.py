"""What makes a ranking the same table whatever the layout: one total order, and sums that know no order."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c


def rank_in(*partition: str) -> Column:
    """1 for the best row of each partition: score descending, then item_id ascending. Without a partition the
    whole table is ordered by one task.
    """
    best_first = (
        Window.partitionBy(*partition)
        .orderBy(F.col(c.SCORE).desc(), F.col(c.ITEM_ID).asc())
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    return F.row_number().over(best_first)


def keep_best(rows: DataFrame, *partition: str, num_rows: int) -> DataFrame:
    """The `num_rows` best rows of each partition, with their `rank`. Spark drops the others before the
    shuffle.
    """
    return rows.withColumn(c.RANK, rank_in(*partition)).where(F.col(c.RANK) <= num_rows)


def exact_sum(values: Column, *, digits: int) -> Column:
    """A sum of doubles that is the same in any order: each value is cut after `digits` decimals and added
    as a 64-bit integer. The total stays below 9.2e18 / 10**digits, or Spark stops with an overflow error.

    A plain sum of doubles changes in its last bit with the number of partitions, and equal scores (items of
    one basket have the same ages) would change places.
    """
    scale = float(10**digits)
    return F.sum((values * F.lit(scale)).cast("bigint")) / F.lit(scale)
