"""Reads what users bring: files and tables of any of five formats, every row of them, the broken ones too."""

from __future__ import annotations

import re
from typing import Any

from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark import columns as c
from recsys_spark.config import SourceConfig
from recsys_spark.errors import Problem, RecsysError, did_you_mean, problem
from recsys_spark.tables.failures import JAVA_ERRORS, cause_of

OURS = "_recsys_"
"""Begins the names of the columns that reading adds: a source may have a column of any other name."""
MALFORMED = f"{OURS}malformed"
"""The text of a row that is no row of its format (a CSV line with a field too many); null for a sound row."""
FILE = f"{OURS}file"
BLOCK = f"{OURS}block"
NUMBER = f"{OURS}number"
"""FILE, BLOCK (its part that one task read) and NUMBER (of the row, among all) order the rows of a source."""

_TEXT_OPTIONS = {
    # enforceSchema: Spark compares every file's header with ours, instead of giving its columns other names.
    "csv": {"quote": '"', "escape": '"', "enforceSchema": "false"},
    "tsv": {"quote": '"', "escape": '"', "enforceSchema": "false", "sep": "\t"},
    "jsonl": {"primitivesAsString": "true"},
}
_SPARK_FORMAT = {"csv": "csv", "tsv": "csv", "jsonl": "json", "parquet": "parquet", "delta": "delta"}
_CORRUPT = "_corrupt_record"
_EXAMPLE = "2000-01-01"


def read_source(spark: SparkSession, source: SourceConfig, section: str, *, can_be_empty: bool = False) -> DataFrame:
    """Every row of the source with its own columns, plus MALFORMED, FILE, BLOCK and NUMBER.

    Text formats come as strings: nothing is guessed, nothing is cast. `section` names the place in the configuration
    for the errors: no such path, no columns, no rows (unless that may be), a header that differs between files.
    """
    try:
        rows = _load(spark, source, section)
        is_empty = not own_columns(rows) or (not can_be_empty and rows.isEmpty())
    except JAVA_ERRORS as error:
        raise _unreadable(source, f"configuration, {section}.source.path", error) from None
    if is_empty:
        raise problem(
            f"configuration, {section}.source.path",
            wanted="at least one row",
            found=f"none in {source.path}",
            do="Look whether the delivery is complete.",
        )
    return rows


def own_columns(rows: DataFrame) -> list[str]:
    """The columns that the source itself has."""
    return [name for name in rows.columns if not name.startswith(OURS)]


def count_rows(spark: SparkSession, source: SourceConfig) -> int:
    """Rows of the source, counted without parsing them: the other side of accepted + rejected = read."""
    try:
        return _reader(spark, source).options(header="true").load(source.path).count()
    except JAVA_ERRORS as error:
        raise _unreadable(source, f"source {source.path}", error) from None


def require_columns(rows: DataFrame, columns: dict[str, str], section: str) -> None:
    """Raise for every mapped source column that the source does not have, and for ids that are no ids."""
    found = {field.name: field.dataType.simpleString() for field in rows.schema.fields}
    own = own_columns(rows)
    problems = [
        Problem(
            where=f"configuration, {section}.columns",
            wanted=f"source column '{name}'",
            found=f"columns {', '.join(own)}",
            do=did_you_mean(name, own),
        )
        for name in columns
        if name not in own
    ]
    problems += [
        Problem(
            where=f"configuration, {section}.columns, source column '{name}'",
            wanted="an id: a string or an integer",
            found=found[name],
            do="Write the ids as strings or 64-bit integers in the source: a rounded id is another id.",
        )
        for name, target in columns.items()
        if target in (c.USER_ID, c.ITEM_ID, c.EVENT_ID) and name in own and not _is_id(found[name])
    ]
    if problems:
        raise RecsysError(problems)


def require_timestamp_format(spark: SparkSession, pattern: str, section: str) -> None:
    """Raise when Spark does not understand the pattern, before it fails in the middle of the data."""
    if pattern in ("epoch_seconds", "epoch_millis"):
        return
    try:
        spark.range(1).select(F.try_to_timestamp(F.lit(_EXAMPLE), F.lit(pattern))).collect()
    except Exception as error:
        letters = "Years are y, not Y (the year of a week). " if "Y" in pattern else ""
        raise problem(
            f"configuration, {section}.timestamp.format",
            wanted="a datetime pattern of Spark, epoch_seconds or epoch_millis",
            found=pattern,
            do=f"{letters}Write for example yyyy-MM-dd HH:mm:ss. Spark says: {str(error).splitlines()[0]}",
        ) from None


def list_files(spark: SparkSession, path: str) -> list[str]:
    """State of the files behind a path, folder or glob: `path, bytes, time of change` each, sorted."""
    jvm: Any = spark.sparkContext._jvm
    states: list[str] = []
    try:
        place = jvm.org.apache.hadoop.fs.Path(path)
        file_system = place.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())
        for match in file_system.globStatus(place) or []:
            files = file_system.listFiles(match.getPath(), True)
            while files.hasNext():
                status = files.next()
                states.append(f"{status.getPath()}, {status.getLen()}, {status.getModificationTime()}")
    except JAVA_ERRORS as error:
        raise problem(
            f"source {path}",
            wanted="a place that Spark can list",
            found=cause_of(error),
            do="Look at the path, at the rights on it, and whether spark-submit brings the connector of its scheme.",
        ) from None
    return sorted(states)


def _reader(spark: SparkSession, source: SourceConfig) -> DataFrameReader:
    reader = spark.read.format(_SPARK_FORMAT[source.format])
    options = {name: str(value) for name, value in source.options.items()}
    return reader.options(**_TEXT_OPTIONS.get(source.format, {})).options(**options)


def _load(spark: SparkSession, source: SourceConfig, section: str) -> DataFrame:
    if source.format in ("csv", "tsv"):
        rows = _load_csv(spark, source, section)
    elif source.format == "jsonl":
        rows = _load_jsonl(spark, source, section)
    else:
        rows = _reader(spark, source).load(source.path).withColumn(MALFORMED, F.lit(None).cast("string"))
    return rows.withColumns(
        {
            FILE: F.col("_metadata.file_path"),
            BLOCK: F.col("_metadata.file_block_start"),
            NUMBER: F.monotonically_increasing_id(),
        }
    )


def _load_csv(spark: SparkSession, source: SourceConfig, section: str) -> DataFrame:
    """Columns by the first file's header; a name without text (pandas' index) becomes _c0, _c1, … by its place.

    Folders named as Hive does (day=monday/) give columns too, behind the others.
    """
    lines = _reader(spark, source).options(header="false").load(source.path)
    folders = [name for name in lines.columns if not re.fullmatch(r"_c\d+", name)]
    header = lines.drop(*folders).first()
    names = [] if header is None else [name or "" for name in header]
    own = [name.strip() or f"_c{place}" for place, name in enumerate(names)]
    lower = [name.lower() for name in [*own, *folders]]
    repeated = sorted({name for name in [*own, *folders] if lower.count(name.lower()) > 1})
    if repeated:
        raise problem(
            f"configuration, {section}.source.path",
            wanted="a header that names each column once, in small or capital letters",
            found=f"{', '.join(repeated)} more than once in {source.path}",
            do="Rename the columns in the source.",
        )
    schema = StructType([StructField(name, StringType()) for name in [*names, MALFORMED, *folders]])
    reader = _reader(spark, source).schema(schema)
    rows = reader.options(header="true", mode="PERMISSIVE", columnNameOfCorruptRecord=MALFORMED).load(source.path)
    return rows.toDF(*own, MALFORMED, *folders)


def _load_jsonl(spark: SparkSession, source: SourceConfig, section: str) -> DataFrame:
    guessed = _reader(spark, source).load(source.path).schema
    own = [field for field in guessed.fields if field.name != _CORRUPT]
    if not own and _CORRUPT in guessed.fieldNames():
        raise problem(
            f"configuration, {section}.source.path",
            wanted="a JSON object on each line",
            found=f"not one in {source.path}",
            do="Write each row on a line of its own, without a list around them.",
        )
    reader = _reader(spark, source).schema(StructType([*own, StructField(MALFORMED, StringType())]))
    return reader.options(mode="PERMISSIVE", columnNameOfCorruptRecord=MALFORMED).load(source.path)


def _is_id(sql_type: str) -> bool:
    return sql_type in ("string", "tinyint", "smallint", "int", "bigint") or sql_type.endswith(",0)")


def _unreadable(source: SourceConfig, where: str, error: Exception) -> RecsysError:
    cause = cause_of(error)
    nanos = "pandas wrote nanoseconds: write them with coerce_timestamps='us'. " if "(NANOS" in cause else ""
    return problem(
        where,
        wanted=f"a {source.format} file, folder or glob that can be read",
        found=source.path,
        do=f"{nanos}Spark says: {cause}",
    )
