"""Arguments -> configuration -> session -> stage -> exit code; one finished stage = one row of RUNS."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.snapshot import Snapshot, take_snapshot
from recsys_spark.config import Config, load_config
from recsys_spark.errors import RecsysError, problem
from recsys_spark.lineage import code_hash, fingerprint
from recsys_spark.memory import PeakMemory
from recsys_spark.tables.catalog import RUNS
from recsys_spark.tables.contract import Table
from recsys_spark.tables.session import build_session
from recsys_spark.tables.store import Commit, Store

log = logging.getLogger("recsys_spark")


def no_sources(_spark: SparkSession, _config: Config) -> list[str]:
    """A stage that reads tables only."""
    return []


@dataclass(frozen=True)
class Stage:
    """One box of the flow.

    `sections` are the configuration paths its result depends on; `sources` lists the state of the outside files it
    reads (a line per file), so that a changed file is a changed input.
    """

    name: str
    run: Callable[[Context], None]
    reads: tuple[Table, ...]
    writes: tuple[Table, ...]
    sections: tuple[str, ...]
    sources: Callable[[SparkSession, Config], list[str]] = no_sources


@dataclass
class Context:
    """What a running stage sees: its configuration, its inputs at pinned versions, and where its results go."""

    spark: SparkSession
    config: Config
    store: Store
    inputs: dict[str, int]
    force: bool = False
    outputs: dict[str, int] = field(default_factory=dict)
    rows_in: dict[str, int] = field(default_factory=dict)
    rows_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _kept: list[DataFrame] = field(default_factory=list)

    def keep(self, rows: DataFrame) -> DataFrame:
        """Rows that the stage uses more than once: computed once, released at its end."""
        self._kept.append(rows.persist(StorageLevel.MEMORY_AND_DISK))
        return self._kept[-1]

    def release(self) -> None:
        for rows in self._kept:
            rows.unpersist()

    def read(self, table: Table) -> DataFrame:
        """The table at the version this stage was fingerprinted with."""
        rows = self.store.read(table, self.inputs[table.name])
        self.rows_in.setdefault(table.name, rows.count())  # from Delta's statistics: no rows are read
        return rows

    def read_slice(self, table: Table, *, can_be_empty: bool = False, **values: str) -> DataFrame:
        """Those rows of the table that belong to one slice; none at all is an error, unless that is said to happen."""
        rows = self.read(table)
        for name, value in values.items():
            rows = rows.where(F.col(name) == value)
        if not can_be_empty and rows.isEmpty():
            wanted = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise problem(
                f"table {table.name}",
                wanted=f"rows with {wanted}",
                found="none",
                do=f"Run {table.written_by} with the same configuration first.",
            )
        return rows

    def snapshot(self, table: Table, *, can_be_empty: bool = False, **values: str) -> Snapshot:
        """The files behind `read_slice` (behind `read` without values): what ranks and workers read themselves."""
        rows = self.read_slice(table, can_be_empty=can_be_empty, **values) if values else self.read(table)
        return take_snapshot(rows, table.name, self.inputs[table.name])

    def replace(self, table: Table, rows: DataFrame, **slice_values: str) -> int:
        """Replace this stage's slice of a table in one commit; returns the number of its rows."""
        values = {c.RUN_ID: self.config.run.id, **slice_values}
        return self._record(table, self.store.replace(table, rows, values))

    def update(self, table: Table, changed: DataFrame, gone: DataFrame, **slice_values: str) -> int:
        """Change single rows of this stage's slice of a table in one commit; returns how many came or changed."""
        values = {c.RUN_ID: self.config.run.id, **slice_values}
        return self._record(table, self.store.update(table, changed, gone, values))

    def append(self, table: Table, rows: DataFrame) -> int:
        """Add new rows to an append-only table; returns their number."""
        return self._record(table, self.store.append(table, rows))

    def count_source(self, name: str, rows: int) -> int:
        """Record how many rows an outside source gave."""
        self.rows_in[name] = rows
        log.info("  %s rows read", f"{rows:,}")
        return rows

    def note_count(self, count: int, what: str) -> None:
        """A note about rows that are worth one; none are not."""
        if count:
            self.note(f"{count:,} {what}")

    def note(self, text: str) -> None:
        """Say something a person should know; it lands in the log, in RUNS and in the report."""
        self.notes.append(text)
        log.info("  %s", text)

    def written(self, table: Table) -> DataFrame:
        """This run's rows of a table, as this stage has just left them."""
        return self.store.read(table, self.outputs[table.name]).where(F.col(c.RUN_ID) == self.config.run.id)

    def _record(self, table: Table, commit: Commit) -> int:
        self.outputs[table.name] = commit.version
        self.rows_out[table.name] = commit.rows
        log.info("  %s: %s rows, version %s", table.name, f"{commit.rows:,}", commit.version)
        return commit.rows


@dataclass(frozen=True)
class Outcome:
    """How one stage ended, for the summary."""

    stage: str
    skipped: bool
    seconds: float
    record: Row


def run_stage(stage: Stage, spark: SparkSession, config: Config, *, force: bool = False) -> Outcome:
    """Run a stage, or skip it when nothing it depends on has changed since it last finished."""
    started = time.monotonic()
    store = Store(spark, config.warehouse)
    inputs = _pin_inputs(stage, store)
    code = code_hash(stage.run.__module__ if stage.run.__module__ != "__main__" else f"jobs.{stage.name}")
    settings = {path: config.section(path) for path in stage.sections}
    mark = fingerprint([stage.name, code, settings, inputs, stage.sources(spark, config)])
    finished = None if force else _last_record(store, stage, config.run.id, mark)
    if finished is not None:
        log.info("%s: nothing changed, skipped", stage.name)
        return Outcome(stage.name, True, time.monotonic() - started, finished)
    log.info("%s …", stage.name)
    context = Context(spark=spark, config=config, store=store, inputs=inputs, force=force)
    with PeakMemory() as memory:
        try:
            stage.run(context)
        finally:
            context.release()
    seconds = time.monotonic() - started
    record = _record(stage, context, mark, code, settings, seconds, memory.peak_mib)
    rows = spark.createDataFrame([record], RUNS.schema)
    store.append(RUNS, rows)
    log.info("%s: done in %.1f s, peak %s MiB", stage.name, seconds, f"{memory.peak_mib:,}")
    return Outcome(stage.name, False, seconds, record)


def _pin_inputs(stage: Stage, store: Store) -> dict[str, int]:
    versions = {table.name: store.version(table) for table in stage.reads}
    missing = [table for table in stage.reads if versions[table.name] is None]
    for table in missing:
        store.read(table)  # raises the error that names the job to run
    return {name: version for name, version in versions.items() if version is not None}


def _last_record(store: Store, stage: Stage, run_id: str, mark: str) -> Row | None:
    """The record of an equal run of this stage whose results still stand, or None."""
    if store.version(RUNS) is None:
        return None
    is_this_stage = (F.col(c.RUN_ID) == run_id) & (F.col(c.STAGE) == stage.name)
    last = store.read(RUNS).where(is_this_stage).orderBy(F.col(c.FINISHED_AT).desc()).first()
    if last is None or last[c.FINGERPRINT] != mark:
        return None
    still_stand = all(store.version(table) == last[c.OUTPUTS].get(table.name) for table in stage.writes)
    return last if still_stand else None


def _record(
    stage: Stage, context: Context, mark: str, code: str, settings: dict[str, Any], seconds: float, peak_mib: int
) -> Row:
    values = {
        c.RUN_ID: context.config.run.id,
        c.STAGE: stage.name,
        c.FINISHED_AT: datetime.now(UTC),
        c.FINGERPRINT: mark,
        c.CONFIG: json.dumps(settings, sort_keys=True),
        c.CODE_HASH: code,
        c.INPUTS: context.inputs,
        c.OUTPUTS: context.outputs,
        c.ROWS_IN: context.rows_in,
        c.ROWS_OUT: context.rows_out,
        c.NOTES: context.notes,
        c.SECONDS: round(seconds, 2),
        c.PEAK_MIB: peak_mib,
    }
    return Row(**{name: values[name] for name in RUNS.column_names})


# --- from the command line -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submission:
    """What the command line of a job said."""

    config: Config
    force: bool


def parse_arguments(name: str, arguments: Sequence[str] | None = None) -> Submission:
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--conf-file", action="append", required=True, metavar="FILE", help="YAML file; later ones win")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="a single value; wins over files"
    )
    parser.add_argument("--force", action="store_true", help="run even when nothing changed since the last time")
    parsed = parser.parse_args(arguments)
    return Submission(config=load_config(parsed.conf_file, parsed.set), force=parsed.force)


def open_session(name: str, config: Config) -> SparkSession:
    """The session of a job; the warehouse is tried at once, not hours later."""
    given = os.environ.get("RECSYS_DELTA_JARS", "")
    spark = build_session(f"recsys_spark {name}", config.spark, delta_jars=list_jars(given))
    try:
        Store(spark, config.warehouse).require_writable()
    except RecsysError:
        spark.stop()
        raise
    return spark


def list_jars(given: str) -> list[str]:
    """Paths of jars from a comma-separated list of files and folders."""
    places = [Path(place) for place in given.split(",") if place]
    return [str(jar) for place in places for jar in (sorted(place.glob("*.jar")) if place.is_dir() else [place])]


def as_job(name: str, body: Callable[[Submission, SparkSession], None], arguments: Sequence[str] | None = None) -> int:
    """Run a job's body in a session; a user's error becomes its message and exit code 1, without a stack trace."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", force=True)
    log.setLevel(logging.INFO)
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    spark = None
    try:
        submission = parse_arguments(name, arguments)
        spark = open_session(name, submission.config)
        body(submission, spark)
    except RecsysError as error:
        print(f"\n{name} stopped:\n{error}", file=sys.stderr)
        return 1
    finally:
        if spark is not None:
            spark.stop()
    return 0


def main(stage: Stage, arguments: Sequence[str] | None = None) -> int:
    """Entry point of a single job."""

    def body(submission: Submission, spark: SparkSession) -> None:
        run_stage(stage, spark, submission.config, force=submission.force)

    return as_job(stage.name, body, arguments)
