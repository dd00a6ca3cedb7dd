"""Reads what users bring: files and tables of any of five formats, every row of them, the broken ones too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from recsys_spark import columns as c
from recsys_spark.config import SourceConfig
from recsys_spark.errors import Problem, RecsysError, did_you_mean, problem
from recsys_spark.tables.failures import JAVA_ERRORS, cause_of
from recsys_spark.tables.files import find_files, require_all_read, require_text
from recsys_spark.tables.formats import (
    TEXT_OPTIONS,
    folder_columns,
    load,
    load_unparsed,
    own_columns,
    quoted,
    require_lines,
    with_folders,
)

_EXAMPLE: Final = "2000-01-01"


def read_source(spark: SparkSession, source: SourceConfig, section: str, *, can_be_empty: bool = False) -> DataFrame:
    """Every row of the source with its own columns, plus MALFORMED, SWALLOWED, FILE, BLOCK and NUMBER.

    Text formats come as strings: nothing is guessed, nothing is cast. Every file below the path is read, at any depth;
    folders named as Hive does (day=monday/) give columns too, behind the others, as texts. `section` names the place in
    the configuration for the errors: no such path, files that would be passed over or are of another kind, no columns,
    no rows (unless that may be, or `count_rows` is to say it), a header that differs between files.
    """
    where = f"configuration, {section}.source.path"
    files = [] if source.format == "delta" else find_files(spark, source.path)
    if source.format in TEXT_OPTIONS:
        require_lines(source, section)
        require_text(spark, files, source, section)
    try:
        rows = load(spark, source, where)
        if files:
            require_all_read(spark, files, rows, source)
        whole = with_folders(rows, folder_columns(spark, files, source), where, source)
        is_empty = not own_columns(whole) or (not can_be_empty and whole.isEmpty())
    except JAVA_ERRORS as error:
        raise _unreadable(source, where, error) from None
    if is_empty:
        raise _no_rows(source, where)
    return whole


def count_rows(spark: SparkSession, source: SourceConfig, section: str) -> int:
    """Rows of the source (none is an error), counted without parsing: the other side of accepted + rejected = read."""
    where = f"configuration, {section}.source.path"
    try:
        num_rows = load_unparsed(spark, source).count()
    except JAVA_ERRORS as error:
        raise _unreadable(source, where, error) from None
    if not num_rows:
        raise _no_rows(source, where)
    return num_rows


# --- the mapping and the pattern -------------------------------------------------------------------------------------


def find_column(rows: DataFrame, name: str) -> tuple[Column, DataType] | None:
    """The source's own column of that name, or the field that `user.id` names inside of a struct, and its type."""
    own = StructType([rows.schema[own] for own in own_columns(rows)])
    for head, inner in _splits(name, own):
        found = _find_field(F.col(quoted(head)), own[head].dataType, inner)
        if found is not None:
            return found
    return None


def _find_field(column: Column, kind: DataType, name: str) -> tuple[Column, DataType] | None:
    if not name:
        return column, kind
    fields = kind if isinstance(kind, StructType) else StructType()
    found = (_find_field(column[head], fields[head].dataType, inner) for head, inner in _splits(name, fields))
    return next((field for field in found if field is not None), None)


def _splits(name: str, fields: StructType) -> list[tuple[str, str]]:
    """A field that the dotted name begins with, and the rest of the name, the longest field first."""
    steps = name.split(".")
    heads = [(".".join(steps[:num]), ".".join(steps[num:])) for num in range(len(steps), 0, -1)]
    return [(head, inner) for head, inner in heads if head in fields.fieldNames()]


def require_columns(rows: DataFrame, columns: dict[str, str], section: str) -> None:
    """Raise for every mapped source column that the source does not have, and for ids that are no ids."""
    own = own_columns(rows)
    found = {name: find_column(rows, name) for name in columns}
    problems = [
        Problem(
            where=f"configuration, {section}.columns",
            wanted=f"source column '{name}'",
            found=f"columns {', '.join(own)}",
            do=did_you_mean(name, [*own, *_fields_below(rows, own)]),
        )
        for name in columns
        if found[name] is None
    ]
    types = {name: column[1].simpleString() for name, column in found.items() if column is not None}
    problems += [
        Problem(
            where=f"configuration, {section}.columns, source column '{name}'",
            wanted="an id: a string or an integer",
            found=types[name],
            do="Write the ids as strings or 64-bit integers in the source: a rounded id is another id.",
        )
        for name, target in columns.items()
        if target in (c.USER_ID, c.ITEM_ID, c.EVENT_ID) and name in types and not _is_id(types[name])
    ]
    if problems:
        raise RecsysError(problems)


def _fields_below(rows: DataFrame, own: Sequence[str]) -> list[str]:
    """`user.id` and so on: what a mapping may name inside of structs."""
    structs = {name: rows.schema[name].dataType for name in own}
    return [f"{name}.{field}" for name, kind in structs.items() if isinstance(kind, StructType) for field in kind.names]


def _is_id(sql_type: str) -> bool:
    return sql_type in ("string", "tinyint", "smallint", "int", "bigint") or sql_type.endswith(",0)")


def require_timestamp_format(spark: SparkSession, pattern: str, section: str) -> None:
    """Raise when Spark does not understand the pattern, before it fails in the middle of the data."""
    if pattern in ("epoch_seconds", "epoch_millis"):
        return
    try:
        spark.sql("VALUES (1)").select(F.try_to_timestamp(F.lit(_EXAMPLE), F.lit(pattern))).collect()  # without a job
    except Exception as error:
        letters = "Years are y, not Y (the year of a week). " if "Y" in pattern else ""
        raise problem(
            f"configuration, {section}.timestamp.format",
            wanted="a datetime pattern of Spark, epoch_seconds or epoch_millis",
            found=pattern,
            do=f"{letters}Write for example yyyy-MM-dd HH:mm:ss. Spark says: {str(error).splitlines()[0]}",
        ) from None


def _no_rows(source: SourceConfig, where: str) -> RecsysError:
    return problem(
        where, wanted="at least one row", found=f"none in {source.path}", do="Look whether the delivery is complete."
    )


def _unreadable(source: SourceConfig, where: str, error: Exception) -> RecsysError:
    cause = cause_of(error)
    nanos = "pandas wrote nanoseconds: write them with coerce_timestamps='us'. " if "(NANOS" in cause else ""
    return problem(
        where,
        wanted=f"a {source.format} file, folder or glob that can be read",
        found=source.path,
        do=f"{nanos}Spark says: {cause}",
    )
