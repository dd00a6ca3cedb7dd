"""The one store: reads a table at a version, replaces a slice of it in one Delta commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from delta.tables import DeltaTable
from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import problem
from recsys_spark.tables.contract import Table
from recsys_spark.tables.failures import cause_of, explain_bad_input

_IS_GONE = "_recsys_is_gone"
"""Marks the rows of a merge's source whose key is to leave the table."""


@dataclass(frozen=True)
class Commit:
    """What one write left behind."""

    version: int
    rows: int


def first_row(rows: DataFrame) -> Row:
    """The first row of a frame that has one: an aggregate, or a slice that was checked not to be empty."""
    row = rows.first()
    assert row is not None
    return row


class Store:
    """The Delta tables under one folder or URI, one folder per table."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        self._spark = spark
        self.root = root.rstrip("/") or "/"

    def path(self, table: Table) -> str:
        return f"{self.root}/{table.name.lower()}"

    def require_writable(self) -> None:
        """Raise when no table could be written here; a job finds out at its start, not at its end."""
        try:
            self.write_text("_writable", "")
            file_system, path = self._file_system("_writable")
            file_system.delete(path, False)
        except Exception as error:
            raise problem(
                f"warehouse {self.root}",
                wanted="a folder that can be written",
                found=cause_of(error),
                do="Set `warehouse` to a folder or URI you may write to.",
            ) from None

    def version(self, table: Table) -> int | None:
        """The newest version, or None when the table does not exist."""
        try:
            history = DeltaTable.forPath(self._spark, self.path(table)).history(1)
        except AnalysisException:
            return None
        return int(first_row(history.select("version"))[0])

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table's rows at `version` (None: the newest), with its contract's columns and types checked."""
        reader = self._spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        try:
            rows = reader.load(self.path(table))
        except AnalysisException as error:
            newest = self.version(table)
            is_there = f"its versions end at {newest}" if newest is not None else "none"
            raise problem(
                f"table {table.name}" + (f", version {version}" if version is not None and newest is not None else ""),
                wanted=f"a Delta table at {self.path(table)}",
                found=is_there,
                do=f"Run {table.written_by} with the same `warehouse` first.",
            ) from error
        return table.select(rows, do=f"Another release wrote {self.path(table)}: remove it, run {table.written_by}.")

    def read_or_empty(self, table: Table) -> DataFrame:
        """The newest rows, or no rows before the first write."""
        return self._spark.createDataFrame([], table.schema) if self.version(table) is None else self.read(table)

    def replace(self, table: Table, rows: DataFrame, slice_values: Mapping[str, str]) -> Commit:
        """Replace the slice named by `slice_values` (all of a table without slices) in one commit.

        The rows are checked against the contract first; a broken rule raises and leaves the old slice.
        """
        for name in table.slice_by:
            rows = rows.withColumn(name, F.lit(slice_values[name]))
        is_there = self.version(table) is not None
        if is_there:
            self.read(table)  # raises when its columns are not the contract's
        with self._checked(table, rows) as (sound, count):
            writer = sound.write.format("delta").mode("overwrite").partitionBy(*table.partition_by)
            if table.changes_by_row:
                writer = writer.option("delta.enableDeletionVectors", "true")
            if table.slice_by and is_there:
                writer = writer.option("replaceWhere", _condition(table, slice_values))
            try:
                writer.save(self.path(table))
            except AnalysisException as error:  # the columns are those of the contract
                raise problem(
                    f"table {table.name}",
                    wanted=f"partitions by {', '.join(table.partition_by) or 'nothing'}",
                    found=cause_of(error),
                    do=f"Another release wrote {self.path(table)}: remove it, run {table.written_by}.",
                ) from error
        return self._newest_commit(table, count)

    def update(self, table: Table, changed: DataFrame, gone: DataFrame, slice_values: Mapping[str, str]) -> Commit:
        """Change single rows of one slice in one commit: the others stay as they are, and so do files without a change.

        `changed` has rows of new keys and rows that take the place of those of their key, `gone` the rest of the key
        (without the slice's columns) of rows that leave. The commit counts the rows of `changed`. Nothing to change
        makes no commit: whoever reads the table has nothing new to read.
        """
        for name in table.slice_by:
            changed = changed.withColumn(name, F.lit(slice_values[name]))
        self.read(table)  # raises when its columns are not the contract's
        match = " AND ".join(f"old.{name} = new.{name}" for name in table.key if name not in table.slice_by)
        values: dict[str, str | Column] = {name: f"new.{name}" for name in table.column_names}
        with self._checked(table, changed) as (sound, count):
            any_gone = not gone.isEmpty()
            if not count and not any_gone:
                return self._newest_commit(table, count)
            source = _with_gone(sound, gone) if any_gone else sound
            merge = (
                DeltaTable.forPath(self._spark, self.path(table))
                .alias("old")
                .merge(source.alias("new"), f"{_condition(table, slice_values, of='old.')} AND {match}")
            )
            if any_gone:
                merge = merge.whenMatchedDelete(f"new.{_IS_GONE}")
            # A clause that deletes or has a condition makes Delta read and shuffle the slice's rows whole: 11 us each.
            (
                merge.whenMatchedUpdate(set=values)
                .whenNotMatchedInsert(f"NOT new.{_IS_GONE}" if any_gone else "true", values=values)
                .execute()
            )
        return self._newest_commit(table, count)

    def append(self, table: Table, rows: DataFrame) -> Commit:
        """Add rows that the table does not have yet, in one commit."""
        with self._checked(table, rows) as (sound, count):
            sound.write.format("delta").mode("append").partitionBy(*table.partition_by).save(self.path(table))
        return self._newest_commit(table, count)

    def write_text(self, name: str, text: str) -> str:
        """Write a small file (a report, a summary) beside the tables; returns its place."""
        file_system, path = self._file_system(name)
        stream = file_system.create(path, True)
        try:
            stream.write(bytearray(text.encode("utf-8")))
        finally:
            stream.close()
        return f"{self.root}/{name}"

    @contextmanager
    def _checked(self, table: Table, rows: DataFrame) -> Iterator[tuple[DataFrame, int]]:
        """The rows, in the table's columns, and their number, after every rule of the contract has held for them.

        They are computed once for the check and the write: kept in between, unless they are a selection of rows that
        the stage keeps already.
        """
        chosen = table.select(rows)
        is_kept = _selects_kept_rows(chosen)
        kept = chosen if is_kept else chosen.persist(StorageLevel.MEMORY_AND_DISK)
        try:
            with explain_bad_input(f"table {table.name}"):
                faults = first_row(table.count_faults(kept)).asDict()
                table.require_sound(faults)
                yield kept, faults["rows"]
        finally:
            if not is_kept:
                kept.unpersist()

    def _file_system(self, name: str) -> tuple[Any, Any]:
        """Hadoop's file system of the warehouse and the path of a file in it: py4j objects, which have no types."""
        jvm: Any = self._spark.sparkContext._jvm
        path = jvm.org.apache.hadoop.fs.Path(f"{self.root}/{name}")
        return path.getFileSystem(self._spark.sparkContext._jsc.hadoopConfiguration()), path

    def _newest_commit(self, table: Table, rows: int) -> Commit:
        version = self.version(table)
        assert version is not None
        return Commit(version=version, rows=rows)


def _with_gone(changed: DataFrame, gone: DataFrame) -> DataFrame:
    return changed.withColumn(_IS_GONE, F.lit(False)).unionByName(
        gone.withColumn(_IS_GONE, F.lit(True)), allowMissingColumns=True
    )


def _selects_kept_rows(rows: DataFrame) -> bool:
    """Whether the rows are columns and rows of a kept frame: as cheap to compute twice as to keep a second time."""
    plan: Any = rows._jdf.queryExecution().optimizedPlan()
    while plan.nodeName() in ("Project", "Filter"):
        plan = plan.child()
    return bool(plan.nodeName() == "InMemoryRelation")


def _condition(table: Table, slice_values: Mapping[str, str], of: str = "") -> str:
    quoted = {name: slice_values[name].replace("\\", "\\\\").replace("'", "\\'") for name in table.slice_by}
    return " AND ".join(f"{of}{name} = '{value}'" for name, value in quoted.items())
