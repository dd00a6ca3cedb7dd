"""Arguments -> configuration -> session -> stage -> exit code; one finished stage = one row of RUNS."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.snapshot import Snapshot, take_snapshot
from recsys_spark.config import Config, load_config
from recsys_spark.config.secrets import hide
from recsys_spark.errors import RecsysError, problem
from recsys_spark.lineage import code_hash, fingerprint
from recsys_spark.memory import PeakMemory
from recsys_spark.records import Records, lost_files, still_stands
from recsys_spark.tables.catalog import RUNS
from recsys_spark.tables.commits import Basis, Commit
from recsys_spark.tables.contract import Table
from recsys_spark.tables.delta_log import State
from recsys_spark.tables.failures import explain_failures
from recsys_spark.tables.session import build_session, settings_of_meaning
from recsys_spark.tables.store import Store

log = logging.getLogger("recsys_spark")


def no_sources(_spark: SparkSession, _config: Config) -> list[str]:
    """A stage that reads tables only."""
    return []


def nothing_outside(_: object) -> None:
    """A stage that needs nothing but its tables and sources."""


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
    pages: tuple[str, ...] = ()
    """Files beside the tables that it leaves for people."""
    requires: Callable[[Config], None] = nothing_outside
    """Raises when something outside that the stage will need does not answer; asked before a session starts."""


@dataclass
class Context:
    """What a running stage sees: its configuration, its inputs at pinned versions, and where its results go."""

    spark: SparkSession
    config: Config
    store: Store
    inputs: dict[str, int]
    table_ids: dict[str, str] = field(default_factory=dict)
    force: bool = False
    outputs: dict[str, int] = field(default_factory=dict)
    rows_in: dict[str, int] = field(default_factory=dict)
    rows_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _kept: list[DataFrame] = field(default_factory=list)
    _bases: dict[str, Basis] = field(default_factory=dict)

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
        if table.name not in self.rows_in:
            self.rows_in[table.name] = rows.count()  # from Delta's statistics: no rows are read
        return rows

    def read_own(self, table: Table, **slice_values: str) -> DataFrame:
        """The slice (without values all rows) of a table that this stage writes, as earlier runs left it, or no rows.

        What the stage then writes to the table is made of these rows: if another job changes them before, that write is
        an error.
        """
        state = self.store.state(table)
        self._bases[table.name] = Basis(state, slice_values)
        rows = self.store.read_at(table, state)
        for name, value in slice_values.items():
            rows = rows.where(F.col(name) == value)
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

    def snapshot(
        self, table: Table, *, order_by: str | None = None, can_be_empty: bool = False, **values: str
    ) -> Snapshot:
        """The files behind `read_slice` (behind `read` without values): what ranks and workers read themselves."""
        rows = self.read_slice(table, can_be_empty=can_be_empty, **values) if values else self.read(table)
        return take_snapshot(rows, table.name, self.inputs[table.name], order_by=order_by)

    def replace(self, table: Table, rows: DataFrame, **slice_values: str) -> int:
        """Replace this stage's slice of a table in one commit; returns the number of its rows."""
        values = {c.RUN_ID: self.config.run.id, **slice_values}
        return self._record(table, self.store.replace(table, rows, values, basis=self._bases.pop(table.name, None)))

    def update(self, table: Table, changed: DataFrame, gone: DataFrame, **slice_values: str) -> int:
        """Change single rows of this stage's slice of a table in one commit; returns how many came or changed."""
        values = {c.RUN_ID: self.config.run.id, **slice_values}
        basis = self._bases.pop(table.name, None)
        return self._record(table, self.store.update(table, changed, gone, values, basis=basis))

    def extend(self, table: Table, new_rows: Callable[[DataFrame], DataFrame]) -> int:
        """Add to an append-only table what `new_rows` makes of the rows it has; returns how many came."""
        return self._record(table, self.store.extend(table, new_rows))

    def count_source(self, name: str, rows: int) -> None:
        """Record how many rows an outside source gave."""
        self.rows_in[name] = rows
        log.info("  %s rows read", f"{rows:,}")

    def note_count(self, count: int, what: str) -> None:
        """A note about rows that are worth one; none are not."""
        if count:
            self.note(f"{count:,} {what}")

    def note(self, text: str) -> None:
        """Say something a person should know; it lands in the log, in RUNS and in the report."""
        shown = hide(text)
        self.notes.append(shown)
        log.info("  %s", shown)

    def note_all(self, texts: Iterable[str]) -> None:
        """Several notes, or none."""
        for text in texts:
            self.note(text)

    def written(self, table: Table) -> DataFrame:
        """This run's rows of a table, as this stage has just left them."""
        return self.store.read(table, self.outputs[table.name]).where(F.col(c.RUN_ID) == self.config.run.id)

    def _record(self, table: Table, commit: Commit) -> int:
        self.outputs[table.name] = commit.version
        self.table_ids[table.name] = commit.state.table_id
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


def run_stage(
    stage: Stage, spark: SparkSession, config: Config, *, force: bool = False, records: Records | None = None
) -> Outcome:
    """Run a stage, or skip it when nothing it depends on has changed since it last finished and its results stand.

    Where files of its results are gone, it runs as if forced. What Spark says when it fails becomes a typed error.
    `records` are those of this run, where a session runs several of its stages.
    """
    started = time.monotonic()
    store = Store(spark, config.warehouse)
    records = records or Records(store, config.run.id)
    with explain_failures(f"stage {stage.name}", store.root):
        inputs = _pin_inputs(stage, store)
        code = code_hash(stage.run.__module__ if stage.run.__module__ != "__main__" else f"jobs.{stage.name}")
        settings = {path: config.section(path) for path in stage.sections}
        pinned = {name: [state.table_id, state.version] for name, state in inputs.items()}
        sources = stage.sources(spark, config)
        mark = fingerprint([stage.name, code, settings, pinned, sources, settings_of_meaning(spark)])
        last = None if force else records.last(stage.name)
        stands = last is not None and still_stands(store, last, stage.writes)
        lost = lost_files(store, last, stage.writes, stage.pages) if last is not None and stands else {}
        if last is not None and stands and not lost and last[c.FINGERPRINT] == mark:
            log.info("%s: nothing changed, skipped", stage.name)
            return Outcome(stage.name, True, time.monotonic() - started, last)
        log.info("%s …", stage.name)
        context = _open_context(spark, config, store, inputs, force=force or bool(lost))
        for table, files in lost.items():
            context.note(f"{table}: {len(files):,} of its files gone or damaged ({files[0]}): made anew")
        with PeakMemory() as memory:
            try:
                stage.run(context)
            finally:
                context.release()
        _require_unchanged(stage, sources, stage.sources(spark, config))
        seconds = time.monotonic() - started
        record = _record(stage, context, mark, code, settings, seconds, memory.peak_mib)
        records.add(spark, record)
    log.info("%s: done in %.1f s, peak %s MiB", stage.name, seconds, f"{memory.peak_mib:,}")
    return Outcome(stage.name, False, seconds, record)


def _require_unchanged(stage: Stage, before: list[str], after: list[str]) -> None:
    """Raise when a file that the stage read is another one now: it may have been read in part, or in two states."""
    changed = sorted(set(before) ^ set(after))
    if changed:
        raise problem(
            f"stage {stage.name}",
            wanted="files that stay as they are while they are read",
            found=f"{len(changed):,} states that came or went, as {changed[0]}",
            do="Run it again once they are complete: what it wrote does not count as done.",
        )


def _pin_inputs(stage: Stage, store: Store) -> dict[str, State]:
    states = {table.name: store.state(table) for table in stage.reads}
    missing = [table for table in stage.reads if states[table.name] is None]
    for table in missing:
        store.read(table)  # raises the error that names the job to run
    return {name: state for name, state in states.items() if state is not None}


def _open_context(
    spark: SparkSession, config: Config, store: Store, inputs: dict[str, State], *, force: bool
) -> Context:
    versions = {name: state.version for name, state in inputs.items()}
    table_ids = {name: state.table_id for name, state in inputs.items()}
    return Context(spark=spark, config=config, store=store, inputs=versions, table_ids=table_ids, force=force)


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
        c.TABLE_IDS: context.table_ids,
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


def as_job(
    name: str,
    body: Callable[[Submission, SparkSession], None],
    arguments: Sequence[str] | None = None,
    *,
    stages: Sequence[Stage] = (),
) -> int:
    """Run a job's body in a session; a user's error becomes its message and exit code 1, without a stack trace.

    What its stages require is asked for first, once each.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", force=True)
    log.setLevel(logging.INFO)
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_not_of_py4j)
    spark = None
    try:
        submission = parse_arguments(name, arguments)
        for require in dict.fromkeys(stage.requires for stage in stages):
            require(submission.config)
        with explain_failures(name, submission.config.warehouse):
            spark = open_session(name, submission.config)
            body(submission, spark)
    except RecsysError as error:
        print(f"\n{name} stopped:\n{hide(str(error))}", file=sys.stderr)
        return 1
    finally:
        if spark is not None:
            with suppress(Py4JError, ConnectionError):  # its JVM has ended: the error above says so
                spark.stop()
    return 0


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    """It logs the stack of a connection that broke, to the root logger; the error that follows says what broke."""
    return "py4j" not in Path(record.pathname).parts


def main(stage: Stage, arguments: Sequence[str] | None = None) -> int:
    """Entry point of a single job."""

    def body(submission: Submission, spark: SparkSession) -> None:
        run_stage(stage, spark, submission.config, force=submission.force)

    return as_job(stage.name, body, arguments, stages=[stage])
