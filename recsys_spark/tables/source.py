"""Reads what users bring: files and tables of any of five formats, every row of them, the broken ones too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark import columns as c
from recsys_spark.config import SourceConfig
from recsys_spark.errors import Problem, RecsysError, did_you_mean, problem

MALFORMED = "_malformed"
"""The text of a row that is no row of its format (a CSV line with a field too many); null for a sound row."""

_TEXT_OPTIONS = {
    "csv": {"header": "true", "quote": '"', "escape": '"', "enforceSchema": "false"},
    "tsv": {"header": "true", "quote": '"', "escape": '"', "enforceSchema": "false", "sep": "\t"},
    "jsonl": {"primitivesAsString": "true"},
}
_SPARK_FORMAT = {"csv": "csv", "tsv": "csv", "jsonl": "json", "parquet": "parquet", "delta": "delta"}


def read_source(spark: SparkSession, source: SourceConfig, section: str) -> DataFrame:
    """Every row of the source with its own columns, plus `source`, `offset` and MALFORMED.

    Text formats come as strings: nothing is guessed, nothing is cast. `section` names the place in the configuration
    for the errors: no such path, no rows, a header that differs between files.
    """
    reader = spark.read.format(_SPARK_FORMAT[source.format])
    try:
        if source.format in _TEXT_OPTIONS:
            reader = reader.options(**_TEXT_OPTIONS[source.format])
            own = [field for field in reader.load(source.path).schema.fields if field.name != "_corrupt_record"]
            schema = StructType([*own, StructField(MALFORMED, StringType())])
            reader = reader.schema(schema).options(mode="PERMISSIVE", columnNameOfCorruptRecord=MALFORMED)
        rows = reader.load(source.path)
    except AnalysisException as error:
        raise _unreadable(source, section, error) from None
    if not own_columns(rows) or rows.isEmpty():
        raise problem(
            f"configuration, {section}.source.path",
            wanted="at least one row",
            found=f"none in {source.path}",
            do="Look whether the delivery is complete.",
        )
    if MALFORMED not in rows.columns:
        rows = rows.withColumn(MALFORMED, F.lit(None).cast("string"))
    file = F.lit(source.path) if source.format == "delta" else F.col("_metadata.file_path")
    return rows.withColumns({c.SOURCE: file, c.OFFSET: F.monotonically_increasing_id()})


def own_columns(rows: DataFrame) -> list[str]:
    """The columns that the source itself has."""
    return [name for name in rows.columns if name not in (MALFORMED, c.SOURCE, c.OFFSET)]


def count_rows(spark: SparkSession, source: SourceConfig) -> int:
    """Rows of the source, counted without parsing them: the other side of accepted + rejected = read."""
    reader = spark.read.format(_SPARK_FORMAT[source.format])
    return reader.options(**_TEXT_OPTIONS.get(source.format, {})).load(source.path).count()


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
        if target in (c.USER_ID, c.ITEM_ID) and found.get(name, "").startswith(("float", "double", "decimal"))
    ]
    if problems:
        raise RecsysError(problems)


def require_timestamp_format(spark: SparkSession, pattern: str, section: str) -> None:
    """Raise when Spark does not understand the pattern, before it fails in the middle of the data."""
    if pattern in ("epoch_seconds", "epoch_millis"):
        return
    try:
        spark.range(1).select(F.try_to_timestamp(F.lit("2000-01-01"), F.lit(pattern))).collect()
    except Exception as error:
        raise problem(
            f"configuration, {section}.timestamp.format",
            wanted="a datetime pattern of Spark, epoch_seconds or epoch_millis",
            found=pattern,
            do=f"Write for example yyyy-MM-dd HH:mm:ss. Spark says: {str(error).splitlines()[0]}",
        ) from None


def list_files(spark: SparkSession, path: str) -> list[str]:
    """State of the files behind a path, folder or glob: `path, bytes, time of change` each, sorted."""
    jvm: Any = spark.sparkContext._jvm
    place = jvm.org.apache.hadoop.fs.Path(path)
    file_system = place.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())
    states: list[str] = []
    for match in file_system.globStatus(place) or []:
        files = file_system.listFiles(match.getPath(), True)
        while files.hasNext():
            status = files.next()
            states.append(f"{status.getPath()}, {status.getLen()}, {status.getModificationTime()}")
    return sorted(states)


def _unreadable(source: SourceConfig, section: str, error: AnalysisException) -> RecsysError:
    first_line: Sequence[str] = str(error).splitlines()[:1]
    return problem(
        f"configuration, {section}.source.path",
        wanted=f"a {source.format} file, folder or glob that can be read",
        found=source.path,
        do=f"Spark says: {''.join(first_line)}",
    )
