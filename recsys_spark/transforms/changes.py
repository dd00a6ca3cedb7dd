"""What is new, different or gone between the rows that stand in a table and the rows that should."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame


def without_equals(rows: DataFrame, others: DataFrame, *, on: Sequence[str]) -> DataFrame:
    """The rows that have no row in `others` with the same values of `on`; all columns of `rows`."""
    return rows.join(others.select(*on), on=list(on), how="left_anti").select(*rows.columns)
