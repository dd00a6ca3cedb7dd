"""The data dictionary: what is declared fits together, and changes of a table's shape are seen."""

import ast
import json
import re
from pathlib import Path

import pytest

from recsys_spark import columns
from recsys_spark.tables import catalog
from recsys_spark.tables.catalog import RUNS, TABLES
from recsys_spark.tables.contract import Table

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "schemas.json"

of_every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


def shape(table):
    """What readers and older warehouses depend on."""
    return {
        "columns": {column.name: column.sql_type for column in table.columns},
        "key": list(table.key),
        "slice_by": list(table.slice_by),
        "partition_by": list(table.partition_by),
        "checks": table.checks,
    }


def tables_written_by(job):
    """Names of the tables in `writes=(…)` of a job's Stage."""
    stages = [node for node in ast.walk(ast.parse(job.read_text())) if getattr(node, "func", None) is not None]
    keywords = [keyword for stage in stages if ast.unparse(stage.func) == "Stage" for keyword in stage.keywords]
    return {
        ast.unparse(name).removeprefix("t.")
        for keyword in keywords
        if keyword.arg == "writes"
        for name in keyword.value.elts
    }


@pytest.mark.golden
def test_the_tables_have_the_golden_shapes():
    """A warehouse of the release before has the golden shapes: whoever changes one tells people to build it again."""
    assert {table.name: shape(table) for table in TABLES} == json.loads(GOLDEN.read_text())


def test_the_list_of_tables_has_every_declared_table_once():
    declared = [value for value in vars(catalog).values() if isinstance(value, Table)]
    assert sorted(table.name for table in TABLES) == sorted(table.name for table in declared)
    assert [getattr(catalog, table.name) for table in TABLES] == list(TABLES), "each under its own name"


@of_every_table
def test_a_table_and_each_of_its_columns_say_what_they_mean(table):
    assert re.fullmatch(r"[A-Z].{15,}\.", table.meaning)
    assert [column.name for column in table.columns if len(column.meaning.strip()) < 8] == []


@of_every_table
def test_key_slices_and_partitions_are_columns_and_no_column_stands_twice(table):
    names = table.column_names
    assert len(names) == len(set(names))
    assert table.key, "without a key nobody sees that a row came twice"
    assert {*table.key, *table.slice_by, *table.partition_by} <= set(names)


@of_every_table
def test_what_tells_rows_apart_was_there_from_the_start(table):
    """A column that was added later is null in older rows."""
    added = {column.name for column in table.columns if column.added}
    assert added.isdisjoint({*table.key, *table.slice_by, *table.partition_by})


@of_every_table
def test_a_slice_is_whole_partitions_named_by_text(table):
    """So that replacing it rewrites no file of another slice; the store writes slices as text."""
    assert set(table.slice_by) <= set(table.partition_by)
    assert {column.sql_type for column in table.columns if column.name in table.slice_by} <= {"string"}


@of_every_table
def test_a_check_has_a_name_of_its_own_beside_the_counts_and_columns(table):
    assert set(table.checks).isdisjoint({"rows", "null key", "repeated key", *table.column_names})


def test_a_column_has_the_same_type_in_every_table():
    """`columns.py`: a column means the same thing in every table that has it."""
    types = {}
    for table in TABLES:
        for column in table.columns:
            types.setdefault(column.name, {}).setdefault(column.sql_type, []).append(table.name)
    assert {name: places for name, places in types.items() if len(places) > 1} == {}


def test_every_column_is_named_once_in_columns_py_by_its_own_name():
    named = {name: value for name, value in vars(columns).items() if name.isupper()}
    assert {name: value for name, value in named.items() if value != name.lower()} == {}
    assert {column.name for table in TABLES for column in table.columns} <= set(named.values())


def test_every_table_is_written_by_the_job_it_names():
    """A repair writes what another job makes."""
    files = [job for job in sorted((ROOT / "jobs").glob("*.py")) if not job.name.startswith("repair_")]
    jobs = {f"jobs/{job.name}": tables_written_by(job) for job in files}
    written = {table: job for job, tables in jobs.items() for table in tables}
    assert written == {table.name: table.written_by for table in TABLES if table is not RUNS}
    assert sum(map(len, jobs.values())) == len(written), "no table is written by two jobs"
