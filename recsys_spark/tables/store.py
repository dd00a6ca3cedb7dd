"""The one store: reads a table at a version, replaces a slice of it in one Delta commit."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from delta.tables import DeltaTable
from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import RecsysError, problem
from recsys_spark.tables.commits import Basis, Commit, Conflict, conflicts, require_alone, require_unchanged, write_rows
from recsys_spark.tables.contract import Table
from recsys_spark.tables.delta_log import DamagedCommit, State, lost_files, read_state
from recsys_spark.tables.failures import JAVA_ERRORS, cause_of, damaged_log, explain_bad_input, is_damaged_log
from recsys_spark.tables.hadoop import open_place, size_of, write_text

_IS_GONE = "_recsys_is_gone"
"""Marks the rows of a merge's source whose key is to leave the table."""

_FEW_BYTES: Final = 2**20

_ATTEMPTS: Final = 5
"""Times that a write is tried again after another job's came first."""


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
        probe = f"{self.root}/_writable_{uuid.uuid4().hex}"  # of its own: two jobs may start at the same moment
        try:
            write_text(self._spark, probe, "")
            file_system, path = open_place(self._spark, probe)
            file_system.delete(path, False)
        except Exception as error:
            raise problem(
                f"warehouse {self.root}",
                wanted="a folder that can be written",
                found=cause_of(error),
                do="Set `warehouse` to a folder or URI you may write to.",
            ) from None

    # --- reading -----------------------------------------------------------------------------------------------------

    def state(self, table: Table) -> State | None:
        """Which table it is and its newest version, or None when it does not exist; a few milliseconds."""
        with self._sound_log(table):
            return read_state(self._spark, self.path(table))

    def version(self, table: Table) -> int | None:
        """The newest version, or None when the table does not exist."""
        state = self.state(table)
        return None if state is None else state.version

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table's rows at `version` (None: the newest), with its contract's columns and types checked."""
        reader = self._spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        try:
            with self._sound_log(table):
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
        rows = table.fill_added(rows)
        return table.select(rows, do=f"Another release wrote {self.path(table)}: remove it, run {table.written_by}.")

    def read_or_empty(self, table: Table) -> DataFrame:
        """The newest rows, or no rows before the first write."""
        return self.read_at(table, self.state(table))

    def read_at(self, table: Table, state: State | None) -> DataFrame:
        """The rows at a state; no rows where there was no table."""
        if state is None:
            return table.of_rows(self._spark, [])
        return self.read(table, state.version)

    def lost_files(self, table: Table, version: int) -> list[str]:
        """Files of the slice that was written last, up to `version`, that are gone or have another size."""
        with self._sound_log(table):
            return lost_files(self._spark, self.path(table), version)

    # --- writing -----------------------------------------------------------------------------------------------------

    def replace(
        self, table: Table, rows: DataFrame, slice_values: Mapping[str, str], *, basis: Basis | None = None
    ) -> Commit:
        """Replace the slice named by `slice_values` (all of a table without slices) in one commit.

        The rows are checked against the contract first; a broken rule raises and leaves the old slice. No rows where
        there were none make no commit. What another job writes at the same moment stands beside it, or before it where
        both replace the same slice; with a `basis`, whatever was written since is an error.
        """
        for name in table.slice_by:
            rows = rows.withColumn(name, F.lit(slice_values[name]))
        state = self.state(table)
        if state is not None:
            self.read(table)  # raises when its columns are not the contract's
        options = {"replaceWhere": _condition(table, slice_values)} if table.slice_by else {}
        with self._checked(table, rows) as (sound, count):
            if not count and state is not None and self._is_empty(table, slice_values):
                return Commit(state, 0)
            for _ in range(_ATTEMPTS):
                try:
                    return Commit(self._write(table, sound, "overwrite", options, basis), count)
                except Conflict:
                    if basis is not None:
                        break
        raise self._meanwhile(table)

    def update(
        self,
        table: Table,
        changed: DataFrame,
        gone: DataFrame,
        slice_values: Mapping[str, str],
        *,
        basis: Basis | None = None,
    ) -> Commit:
        """Change single rows of one slice in one commit: the others stay as they are, and so do files without a change.

        `changed` has rows of new keys and rows that take the place of those of their key, `gone` the rest of the key
        (without the slice's columns) of rows that leave. The commit counts the rows of `changed`. Nothing to change
        makes no commit: whoever reads the table has nothing new to read. What another job changed in the slice since
        the `basis`, or at the same moment, is an error.
        """
        for name in table.slice_by:
            changed = changed.withColumn(name, F.lit(slice_values[name]))
        self.read(table)  # raises when it is not there, and when its columns are not the contract's
        match = " AND ".join(f"old.{name} = new.{name}" for name in table.key if name not in table.slice_by)
        values: dict[str, str | Column] = {name: f"new.{name}" for name in table.column_names}
        with self._checked(table, changed) as (sound, count):
            any_gone = not gone.isEmpty()
            if not count and not any_gone:
                return Commit(self._newest(table), 0)
            source = _with_gone(sound, gone) if any_gone else sound
            merge = (
                DeltaTable.forPath(self._spark, self.path(table))
                .alias("old")
                .merge(source.alias("new"), f"{_condition(table, slice_values, of='old.')} AND {match}")
            )
            if table.has_grown:
                merge = merge.withSchemaEvolution()
            if any_gone:
                merge = merge.whenMatchedDelete(f"new.{_IS_GONE}")
            # A clause that deletes or has a condition makes Delta read and shuffle the slice's rows whole: 11 us each.
            merge = merge.whenMatchedUpdate(set=values).whenNotMatchedInsert(
                f"NOT new.{_IS_GONE}" if any_gone else "true", values=values
            )
            try:
                if basis is not None:
                    require_unchanged(self._spark, self.path(table), basis)
                with conflicts():
                    merge.execute()
                if basis is not None:
                    require_alone(self._spark, self.path(table), basis)
            except Conflict:
                raise self._meanwhile(table) from None
            return Commit(self._newest(table), count)

    def append(self, table: Table, rows: DataFrame) -> Commit:
        """Add rows that the table does not have yet, in one commit, whatever others add at the same moment."""
        with self._checked(table, rows) as (sound, count):
            for _ in range(_ATTEMPTS):
                try:
                    return Commit(self._write(table, sound, "append"), count)
                except Conflict:  # of a table that both were about to make: it is there now
                    continue
        raise self._meanwhile(table)

    def extend(self, table: Table, new_rows: Callable[[DataFrame], DataFrame]) -> Commit:
        """Append what `new_rows` makes of the table's rows (none before the first write), in one commit.

        Where another job wrote to the table meanwhile they are made anew, of what it left: no row is ever made of an
        older version than the one that it is added to. No new rows make no commit.
        """
        for _ in range(_ATTEMPTS):
            basis = Basis(self.state(table))
            with self._checked(table, new_rows(self.read_at(table, basis.state))) as (sound, count):
                if not count and basis.state is not None:
                    return Commit(basis.state, 0)
                try:
                    return Commit(self._write(table, sound, "append", basis=basis), count)
                except Conflict:
                    continue
        raise self._meanwhile(table)

    def write_text(self, name: str, text: str) -> str:
        """Write a small file (a report, a summary) beside the tables; returns its place."""
        write_text(self._spark, f"{self.root}/{name}", text)
        return f"{self.root}/{name}"

    def has_text(self, name: str) -> bool:
        """Whether a small file of that name is there."""
        return size_of(self._spark, f"{self.root}/{name}") is not None

    def _write(
        self,
        table: Table,
        sound: DataFrame,
        mode: str,
        options: Mapping[str, str] | None = None,
        basis: Basis | None = None,
    ) -> State:
        options = dict(options or {})
        if table.changes_by_row:
            options["delta.enableDeletionVectors"] = "true"
        if table.has_grown:
            options["mergeSchema"] = "true"
        try:
            with self._sound_log(table):
                return write_rows(
                    self._spark, self.path(table), sound,
                    mode=mode, partition_by=table.partition_by, options=options, basis=basis,
                )  # fmt: skip
        except AnalysisException as error:  # the columns are those of the contract
            raise problem(
                f"table {table.name}",
                wanted=f"partitions by {', '.join(table.partition_by) or 'nothing'}",
                found=cause_of(error),
                do=f"Another release wrote {self.path(table)}: remove it, run {table.written_by}.",
            ) from error

    @contextmanager
    def _checked(self, table: Table, rows: DataFrame) -> Iterator[tuple[DataFrame, int]]:
        """The rows, in the table's columns, and their number, after every rule of the contract has held for them.

        They are computed once for the check and the write: kept in between, unless they are a selection of rows that
        the stage keeps already.
        """
        chosen = table.select(rows)
        relation = _kept_relation(chosen)
        is_kept = relation is not None
        kept = chosen if is_kept else chosen.persist(StorageLevel.MEMORY_AND_DISK)
        try:
            with explain_bad_input(f"table {table.name}", self.root):
                few = kept.coalesce(1) if is_kept and _holds_few(relation) else kept
                faults = first_row(table.count_faults(few)).asDict()
                table.require_sound(faults)
                yield kept, faults["rows"]
        finally:
            if not is_kept:
                kept.unpersist()

    @contextmanager
    def _sound_log(self, table: Table) -> Iterator[None]:
        """A log that cannot be read is an error that names the table and the way out."""
        try:
            yield
        except DamagedCommit as error:
            raise damaged_log(table, self.path(table), error) from error
        except JAVA_ERRORS as error:
            if is_damaged_log(error):
                raise damaged_log(table, self.path(table), error) from error
            raise

    def _is_empty(self, table: Table, slice_values: Mapping[str, str]) -> bool:
        """Whether the slice has no rows; one that cannot be read is not empty."""
        rows = self.read(table)
        try:
            return (rows.where(_condition(table, slice_values)) if table.slice_by else rows).isEmpty()
        except JAVA_ERRORS:
            return False

    def _newest(self, table: Table) -> State:
        state = self.state(table)
        assert state is not None
        return state

    def _meanwhile(self, table: Table) -> RecsysError:
        return problem(
            f"table {table.name}",
            wanted="no other job that writes the same rows at the same moment",
            found=f"one that wrote to {self.path(table)} first",
            do="Run the job again: it starts from what the other one left.",
        )


def _with_gone(changed: DataFrame, gone: DataFrame) -> DataFrame:
    return changed.withColumn(_IS_GONE, F.lit(False)).unionByName(
        gone.withColumn(_IS_GONE, F.lit(True)), allowMissingColumns=True
    )


def _kept_relation(rows: DataFrame) -> Any:
    """The kept frame, or the rows of the driver's own, that the rows are columns and rows of (a Spark plan), or None.

    Such rows are as cheap to compute twice as to keep a second time.
    """
    plan: Any = rows._jdf.queryExecution().optimizedPlan()
    while plan.nodeName() in ("Project", "Filter", "Repartition"):
        plan = plan.child()
    return plan if plan.nodeName() in ("InMemoryRelation", "LocalRelation") else None


def _holds_few(relation: Any) -> bool:
    """Whether a kept frame is computed already and small: in one partition, its check is one Spark job and not four."""
    is_computed = relation.nodeName() == "LocalRelation" or relation.cacheBuilder().isCachedColumnBuffersLoaded()
    return bool(is_computed and int(relation.stats().sizeInBytes()) < _FEW_BYTES)


def _condition(table: Table, slice_values: Mapping[str, str], of: str = "") -> str:
    quoted = {name: slice_values[name].replace("\\", "\\\\").replace("'", "\\'") for name in table.slice_by}
    return " AND ".join(f"{of}{name} = '{value}'" for name, value in quoted.items())
