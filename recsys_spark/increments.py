"""Stages that compute only what changed: rows that still stand are kept, one commit brings the rest up to date."""

from __future__ import annotations

from pyspark.sql import DataFrame

from recsys_spark.runner import Context
from recsys_spark.tables.contract import Table
from recsys_spark.transforms.changes import without_equals


def read_standing(context: Context, table: Table, **slice_values: str) -> DataFrame:
    """The slice as earlier runs left it; no rows with --force. What is written next is made of it (`read_own`)."""
    rows = context.read_own(table, **slice_values)
    return table.of_rows(context.spark, []) if context.force else rows


def bring_up_to_date(
    context: Context, table: Table, changed: DataFrame, *, wanted: DataFrame, standing: DataFrame, **slice_values: str
) -> None:
    """Leave in the slice exactly the keys of `wanted`: the rows of `changed`, and of `standing` those of other keys.

    Where nothing stands (a first or a forced run), the whole slice is written. A run that changes nothing makes no
    commit, so that no stage after this one has anything to do.
    """
    key = [name for name in table.key if name not in table.slice_by]
    changed = context.keep(changed)
    gone = context.keep(without_equals(standing.select(*key), wanted, on=key))
    num_gone = gone.count()
    if standing.isEmpty():
        num_changed = context.replace(table, changed, **slice_values)
    else:
        num_changed = context.update(table, changed, gone, **slice_values)
    num_kept = wanted.count() - num_changed
    context.note(f"{num_changed:,} embedded, {num_kept:,} kept, {num_gone:,} removed")
