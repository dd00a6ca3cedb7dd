"""Writes that are one commit each, and that fail where another job's came first instead of spoiling it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.tables.delta_log import State, changes, find_commit, read_state
from recsys_spark.tables.failures import JAVA_ERRORS, is_conflict

_APPLICATION: Final = "recsys_spark"


@dataclass(frozen=True)
class Commit:
    """What one write left behind."""

    state: State
    rows: int

    @property
    def version(self) -> int:
        return self.state.version


@dataclass(frozen=True)
class Basis:
    """What a job had read of a table when it made rows for it: a slice (without values every row) at a state.

    Without a state there was no table yet.
    """

    state: State | None
    slice_values: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return -1 if self.state is None else self.state.version


class Conflict(Exception):
    """Another job wrote the same rows between this one's reading and its writing."""


@contextmanager
def conflicts() -> Iterator[None]:
    """Delta's word that two commits do not go together, as Conflict."""
    try:
        yield
    except JAVA_ERRORS as error:
        if is_conflict(error):
            raise Conflict from error
        raise


def require_unchanged(spark: SparkSession, path: str, basis: Basis) -> None:
    """Raise Conflict when the rows of the basis are no longer what they were."""
    state = read_state(spark, path)
    if state is None or basis.state is None:
        is_other = state != basis.state
    else:
        is_other = state.table_id != basis.state.table_id or bool(_changed(spark, path, basis, state))
    if is_other:
        raise Conflict


def require_alone(spark: SparkSession, path: str, basis: Basis) -> None:
    """Raise Conflict when somebody changed the rows of the basis between `require_unchanged` and our own commit, which
    is made by now: Delta compares a commit with those after its own first look at the table only."""
    state = read_state(spark, path)
    if state is not None and len(_changed(spark, path, basis, state)) > 1:
        raise Conflict


def _changed(spark: SparkSession, path: str, basis: Basis, state: State) -> list[int]:
    return list(changes(spark, path, basis.slice_values, after=basis.version, newest=state.version))


def write_rows(
    spark: SparkSession,
    path: str,
    rows: DataFrame,
    *,
    mode: str,
    partition_by: tuple[str, ...],
    options: Mapping[str, str],
    basis: Basis | None = None,
) -> State:
    """Write the rows in one commit and return the state that this commit made, whatever others commit besides.

    Raises Conflict when Delta refuses the commit, and when rows of the `basis` were changed since they were read. What
    another slice gains is no conflict to Delta; where the basis is the whole table, an application's transaction makes
    it one: Delta refuses, or passes over, a second transaction with a number that was taken.
    """
    note = f"{_APPLICATION} {uuid.uuid4().hex}"
    writer = rows.write.format("delta").mode(mode).partitionBy(*partition_by)
    writer = writer.options(**options).option("userMetadata", note)
    is_transaction = basis is not None and not basis.slice_values
    if basis is not None:
        require_unchanged(spark, path, basis)
        if is_transaction:
            writer = writer.option("txnAppId", _APPLICATION).option("txnVersion", str(basis.version + 1))
    before = read_state(spark, path)
    with conflicts():
        writer.save(path)
    newest = read_state(spark, path)
    assert newest is not None
    version = find_commit(spark, path, note, after=-1 if before is None else before.version, newest=newest.version)
    if version is None and is_transaction:  # Delta passed over it
        raise Conflict
    if basis is not None and not is_transaction:
        require_alone(spark, path, basis)
    return State(newest.table_id, newest.version if version is None else version)
