"""The one place a Spark session is made, so that every job finds Delta, UTC and the right Python."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from recsys_spark.errors import Problem, RecsysError, problem

DELTA_PACKAGE = "io.delta:delta-spark_2.13:4.0.1"
_EXTENSIONS = "spark.sql.extensions"
_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
_CATALOG = "org.apache.spark.sql.delta.catalog.DeltaCatalog"

ARROW_BATCH_BYTES: Final = 2**24
"""About the most that Spark hands a Python worker at a time; by its own default 256 MiB."""

_MEANING: Final = re.compile(
    r"^spark\.sql\.(ansi|legacy|caseSensitive|parquet\.\w+AsTimestamp)|[rR]ebaseMode|binaryAsString"
)
"""Settings of Spark that say what a text, a moment or a comparison means: another value is a change to every stage."""

_THRIFT = {
    "spark.sql.execution.arrow.maxBytesPerBatch": str(ARROW_BATCH_BYTES),
    # A partitioned write keeps a file open per slice instead of sorting all rows by it: a third of its time.
    "spark.sql.maxConcurrentOutputFileWriters": "8",
    # The numbers and scores of lists hardly repeat: looking for repetitions was half of the time to write them.
    "spark.hadoop.parquet.enable.dictionary#items.list.element": "false",
    "spark.hadoop.parquet.enable.dictionary#scores.list.element": "false",
    # At its lowest level as fast as the default, snappy, and the files of lists are two thirds of its.
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.parquet.compression.codec.zstd.level": "1",
    # One BLAS thread per Python worker: Spark's tasks already fill the cores.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    "spark.executorEnv.TOKENIZERS_PARALLELISM": "false",
    # A source's `encoding` may be any that Java knows (windows-1252, …); Spark itself has seven.
    "spark.sql.legacy.javaCharsets": "true",
    # Bytes that are no letters in it become U+FFFD, as in Spark's own readers: rows are refused for it, no run stops.
    "spark.sql.legacy.codingErrorAction": "true",
}
"""What costs time, memory or a source when it is missing; a setting of the user's wins."""

_LOUD = (
    "executor.Executor",
    "scheduler.TaskSetManager",
    "util.Utils",  # of a task that writes
    "sql.execution.datasources.FileFormatWriter",
    "sql.delta.files.DeltaFileFormatWriter",
    # Where columns are mapped by name, it cannot hand its own filter of deleted rows to Parquet: applied all the same.
    "sql.delta.DeltaParquetFileFormat",
)
"""Loggers of Spark and Delta that say what an exception says too, or that call an error what is none."""

_LOOPBACK = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
"""Where everything runs on one machine, nobody else has to reach it."""


def build_session(
    app_name: str, settings: Mapping[str, str | int | float | bool], *, delta_jars: Sequence[str] = ()
) -> SparkSession:
    """A session with Delta, whether the JVM runs already (spark-submit, a notebook) or not.

    A JVM that runs already has a fixed class path: Delta must be on it, or the error names the flag to add.
    A JVM still to be started gets `delta_jars` (paths), or fetches Delta from Maven when there are none.
    """
    submitted = SparkConf()
    builder = SparkSession.builder.appName(app_name)
    chosen = _settings_as_text(settings)
    results = _settings_of_results(chosen.pop(_EXTENSIONS, submitted.get(_EXTENSIONS, "")))
    _require_unchanged(results, chosen)
    is_local = chosen.get("spark.master", submitted.get("spark.master", "local[*]")).startswith("local")
    is_reached = bool({*_LOOPBACK} & {*chosen}) or "SPARK_LOCAL_IP" in os.environ
    own = {**_THRIFT, **(_LOOPBACK if is_local and not is_reached else {})}
    own = {name: value for name, value in own.items() if not submitted.contains(name)}
    for name, value in {**own, **chosen, **results}.items():
        builder = builder.config(name, value)
    if SparkContext._jvm is None and "PYSPARK_GATEWAY_PORT" not in os.environ:
        own_jars = {"spark.jars": ",".join(delta_jars)} if delta_jars else {"spark.jars.packages": DELTA_PACKAGE}
        for name, value in own_jars.items():
            builder = builder.config(name, value)
        _prepare_environment(is_local=is_local)
    if is_local:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    _quiet_loud_loggers(spark)
    _quiet_sql_errors()
    _require_delta(spark)
    return spark


def _prepare_environment(*, is_local: bool) -> None:
    """Of a JVM still to be started: under the locale C it would find no file whose name has a letter beyond ASCII, and
    its page would be everybody's to read."""
    if is_local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "C")
    if locale in ("C", "POSIX"):
        os.environ["LC_ALL"] = "C.UTF-8"


def _quiet_loud_loggers(spark: SparkSession) -> None:
    """A failed task's Java stack trace is logged up to five times, before the exception that carries it comes up."""
    log4j: Any = spark.sparkContext._jvm.org.apache.logging.log4j  # type: ignore[union-attr]
    for logger in _LOUD:
        log4j.core.config.Configurator.setLevel(f"org.apache.spark.{logger}", log4j.Level.OFF)


def _quiet_sql_errors() -> None:
    """pyspark prints an SQL error with its Java stack trace, as a line of JSON, before the exception comes up."""
    for logger in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        PySparkLogger.getLogger(logger).setLevel(logging.CRITICAL)


def _settings_as_text(settings: Mapping[str, str | int | float | bool]) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()}


def _require_unchanged(results: Mapping[str, str], settings: Mapping[str, str]) -> None:
    problems = [
        Problem(
            f"configuration, spark.{name}",
            wanted=f"'{value}', which the tables depend on",
            found=f"'{settings[name]}'",
            do="Leave it out. (The zone of timestamps without one is events.timestamp.zone.)",
        )
        for name, value in results.items()
        if settings.get(name, value) != value
    ]
    if problems:
        raise RecsysError(problems)


def _settings_of_results(extensions: str) -> dict[str, str]:
    """What the platform's results depend on; everything else is the user's to choose, more `extensions` too."""
    others = [name for name in extensions.split(",") if name and name != _EXTENSION]
    return {
        _EXTENSIONS: ",".join([*others, _EXTENSION]),
        "spark.sql.catalog.spark_catalog": _CATALOG,
        "spark.sql.session.timeZone": "UTC",
        # Delta's own files, too, are read whole or not at all.
        "spark.sql.files.ignoreCorruptFiles": "false",
        "spark.sql.files.ignoreMissingFiles": "false",
        # Petastorm reads whole Parquet files: where a table does not ask for deletion vectors, none are wanted.
        "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    }


def settings_of_meaning(spark: SparkSession) -> dict[str, str]:
    """The session's settings that say what a text, a moment or a comparison means, where somebody set them."""
    return {name: value for name, value in spark.conf.getAll.items() if _MEANING.search(name)}


def _require_delta(spark: SparkSession) -> None:
    jvm: Any = spark.sparkContext._jvm
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    try:
        loader.loadClass(_EXTENSION)
    except Py4JJavaError:
        spark.stop()
        raise problem(
            "Spark's class path",
            wanted=f"Delta Lake ({_EXTENSION})",
            found="no such class",
            do=f"Add --packages {DELTA_PACKAGE} (or --jars with its jars) to spark-submit.",
        ) from None
