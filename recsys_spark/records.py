"""RUNS: what a stage left behind when it last finished, and whether that still stands."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Row, SparkSession, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.tables.catalog import RUNS
from recsys_spark.tables.contract import Table
from recsys_spark.tables.delta_log import State
from recsys_spark.tables.store import Store


class Records:
    """The newest record of each stage of one run, read from RUNS once: and again when another job has added to it.

    Every stage adds a row, and each new version of a table costs a session about half a second before its first row.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._state: State | None = None
        self._newest: dict[str, Row] = {}

    def last(self, stage: str) -> Row | None:
        """The record of the stage's newest run, or None."""
        state = self._store.state(RUNS)
        if state is not None and state != self._state:
            of_stage = Window.partitionBy(c.STAGE).orderBy(F.col(c.FINISHED_AT).desc())
            rows = self._store.read(RUNS, state.version).where(F.col(c.RUN_ID) == self._run_id)
            newest = rows.withColumn("place", F.row_number().over(of_stage)).where("place = 1").drop("place")
            self._newest = {row[c.STAGE]: row for row in newest.collect()}
        self._state = state
        return self._newest.get(stage) if state is not None else None

    def add(self, spark: SparkSession, record: Row) -> None:
        """Append the record of a stage that has just finished."""
        state = self._store.append(RUNS, RUNS.of_rows(spark, [record])).state
        is_next = self._state is not None and state == State(self._state.table_id, self._state.version + 1)
        self._state = state if is_next else None
        self._newest[record[c.STAGE]] = record


def still_stands(store: Store, record: Row, tables: Iterable[Table]) -> bool:
    """Whether each table is the very one that the run wrote, at the version that it left.

    A table that was removed and made anew may be at that version too, so the version alone tells nothing.
    """
    ids = record[c.TABLE_IDS] or {}  # null in a record of an earlier release
    for table in tables:
        state = store.state(table)
        left = (ids.get(table.name), record[c.OUTPUTS].get(table.name))
        if left != ((None, None) if state is None else (state.table_id, state.version)):
            return False
    return True


def lost_files(store: Store, record: Row, tables: Iterable[Table], pages: Iterable[str] = ()) -> dict[str, list[str]]:
    """By table, the files of what the run wrote that are gone or have another size; tables without one are left out.

    `pages` are files beside the tables, each its own.
    """
    lost = {page: [page] for page in pages if not store.has_text(page)}
    for table in tables:
        version = record[c.OUTPUTS].get(table.name)
        files = [] if version is None else store.lost_files(table, version)
        if files:
            lost[table.name] = files
    return lost
