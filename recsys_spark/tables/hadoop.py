"""Single files of any file system that Hadoop knows, from the driver: py4j objects, which have no types."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from recsys_spark.errors import problem

_RENAMES: Final = 3
"""Tries: between a delete and a rename another run may have put its own file there."""


def open_place(spark: SparkSession, place: str) -> tuple[Any, Any]:
    """Hadoop's file system of a path or URI, and the path in it."""
    jvm: Any = spark.sparkContext._jvm
    path = jvm.org.apache.hadoop.fs.Path(place)
    return path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()), path


def size_of(spark: SparkSession, place: str) -> int | None:
    """The bytes of a file, or None where there is none."""
    file_system, path = open_place(spark, place)
    try:
        return int(file_system.getFileStatus(path).getLen())
    except Py4JJavaError as error:
        if "FileNotFoundException" in error.java_exception.getClass().getName():
            return None
        raise


def read_text(spark: SparkSession, place: str) -> str | None:
    """The text of a small file (UTF-8), or None where there is none."""
    jvm: Any = spark.sparkContext._jvm
    with _reading(spark, place) as stream:
        return None if stream is None else str(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))


def read_first_line(spark: SparkSession, place: str) -> str | None:
    """The first line of a file (UTF-8), or None where there is none."""
    jvm: Any = spark.sparkContext._jvm
    with _reading(spark, place) as stream:
        if stream is None:
            return None
        line = jvm.java.io.BufferedReader(jvm.java.io.InputStreamReader(stream, "UTF-8")).readLine()
        return None if line is None else str(line)


def write_text(spark: SparkSession, place: str, text: str) -> None:
    """Write a small file (UTF-8), in place of one of that name: whoever finds it finds it whole.

    Raises when the file system does not take it; then no part of it is left, and the file before is, if it could not be
    written, or is gone, if it could not be renamed.
    """
    content = bytearray(text.encode("utf-8"))
    file_system, path = open_place(spark, place)
    _, half = open_place(spark, f"{path.getParent()}/_{path.getName()}.{uuid.uuid4().hex}")
    try:
        stream = file_system.create(half, False)
        try:
            stream.write(content)
        finally:
            stream.close()
        for _ in range(_RENAMES):
            file_system.delete(path, False)  # not every file system renames onto a file
            if file_system.rename(half, path):
                return
    finally:
        file_system.delete(half, False)
    raise problem(
        place,
        wanted="a file that is written beside it and renamed",
        found=f"a file system that refused to rename it {_RENAMES} times",
        do="See whether another run writes the same file, then run the job again.",
    )


@contextmanager
def _reading(spark: SparkSession, place: str) -> Iterator[Any]:
    file_system, path = open_place(spark, place)
    stream = file_system.open(path) if file_system.exists(path) else None
    try:
        yield stream
    finally:
        if stream is not None:
            stream.close()
