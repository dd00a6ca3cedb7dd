"""A Delta version as a list of Parquet files: what workers read who have no Spark.

A table's folder also holds files of older versions, and files hold rows that a deletion vector took away; reading them
all would bring deleted rows back. So the driver asks Spark once which files hold the rows of one version, and where in
them; workers read exactly these rows and compare their number with what Spark counted.
"""

from __future__ import annotations

import base64
import heapq
import math
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import RecsysError, problem

_HADOOP_S3: Final = re.compile(r"^s3[an]://")
"""Hadoop's names of S3, which pyarrow knows as s3:// only."""

_URI: Final = "_metadata.file_path"


@dataclass(frozen=True)
class SnapshotFile:
    """One Parquet file: its URI, percent-encoded as Spark gives it, and which of its rows the version holds.

    They are `rows` in number: all of the file's where `live` is empty, else those whose bits are set in it (base64; one
    bit a row, the lowest of a byte first).
    """

    uri: str
    rows: int
    live: str = ""

    def is_live(self, num_rows: int) -> npt.NDArray[np.bool_]:
        """Whether the version holds them, of the file's rows [N]."""
        if not self.live:
            return np.ones(num_rows, dtype=np.bool_)
        bits = np.frombuffer(base64.b64decode(self.live), dtype=np.uint8)
        return np.unpackbits(bits, count=num_rows, bitorder="little").astype(np.bool_)


@dataclass(frozen=True)
class Snapshot:
    """Exactly the rows of one version of one table, as files in order; plain, so it travels to workers."""

    table: str
    version: int
    files: tuple[SnapshotFile, ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


def take_snapshot(rows: DataFrame, table: str, version: int, *, order_by: str | None = None) -> Snapshot:
    """The files that hold `rows`, which were read from version `version` of the Delta table `table`.

    Files come in the order of the least value each has of the column `order_by`: their order then follows what they
    hold, and is the same when equal rows are written again. Without it they come by URI, and Delta draws names.

    Runs a Spark job that reads this column alone; the driver gets a row per file. Where the table may have deletion
    vectors, `rows` may be filtered as they like, and files that miss some take a second job: the driver gets a bit for
    each of their rows. Else they may be filtered on partition columns only: another filter leaves files that hold more
    rows than the snapshot counts, and `read_batches` refuses them.
    """
    may_miss_rows = "row_index" in rows.select("_metadata.*").columns  # Delta gives it where deletion vectors may be
    place = F.min(order_by or _URI)
    files = _find_live(rows, place) if may_miss_rows else [SnapshotFile(*file) for file in _per_file(rows, place)]
    return Snapshot(table, version, tuple(files))


def _per_file(rows: DataFrame, place: Column, *more: Column) -> list[tuple[Any, ...]]:
    """Of each file, in the order of its place: the URI, how many of `rows` it holds, and `more`."""
    counted = rows.groupBy(F.col(_URI).alias("uri")).agg(place.alias("place"), F.count(F.lit(1)), *more).collect()
    return [(uri, *counts) for uri, _, *counts in sorted(counted, key=lambda file: (file["place"], file["uri"]))]


def _find_live(rows: DataFrame, place: Column) -> list[SnapshotFile]:
    """With `live`: of a file whose last row is as far as rows are many, rows are gone at the end only."""
    per_file = _per_file(rows, place, F.max("_metadata.row_index") + 1)
    with_gaps = [file for file, num_rows, stop in per_file if num_rows < stop]
    bits_of = _bits_of(rows.where(F.col(_URI).isin(with_gaps))) if with_gaps else {}
    return [
        SnapshotFile(file, num_rows, base64.b64encode(bits_of.get(file) or _ones(num_rows)).decode())
        for file, num_rows, _ in per_file
    ]


def _bits_of(rows: DataFrame) -> dict[str, bytes]:
    """By file, a bit for each of its rows up to the last of `rows`; Spark makes words of 64."""
    word, bit = "_metadata.row_index div 64 AS word", "cast(_metadata.row_index % 64 AS int)"
    per_word = rows.groupBy(F.col(_URI).alias("uri"), F.expr(word)).agg(
        F.expr(f"bit_or(shiftleft(1L, {bit}))").alias("bits")
    )
    per_file = per_word.groupBy("uri").agg(F.collect_list("word"), F.collect_list("bits")).toArrow()
    bits_of = {}
    for uri, words, bits in zip(*per_file.columns, strict=True):
        words_W = words.values.to_numpy()
        bits_N = np.zeros(words_W.max() + 1, dtype="<i8")
        bits_N[words_W] = bits.values.to_numpy()
        bits_of[uri.as_py()] = bits_N.tobytes()
    return bits_of


def _ones(num_rows: int) -> bytes:
    return np.packbits(np.ones(num_rows, dtype=np.bool_), bitorder="little").tobytes()


def read_batches(
    source: Snapshot | Sequence[SnapshotFile], columns: Sequence[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """The files' rows in the order of the files: batches of `batch_rows` rows across files, the last one
    shorter.

    Columns come in the order of `columns`. Partition columns are not in the files: a snapshot of one
    partition has one value of them, which the caller knows. Memory: about two batches and one row group's
    pages.

    Raises the typed error when a file is gone, lacks a column or does not hold the rows of the snapshot, and when
    pyarrow has no file system for a URI.
    """
    files = source.files if isinstance(source, Snapshot) else source
    return rebatch((batch for file in files for batch in _read_file(file, list(columns), batch_rows)), batch_rows)


def require_whole(files: Iterable[SnapshotFile]) -> None:
    """Raise unless the version holds all rows of the files: for readers that know no others. Reads the footers."""
    for file in files:
        with _open(file.uri) as stream:
            num_rows = pyarrow.parquet.ParquetFile(stream).metadata.num_rows
        if num_rows != file.rows:
            raise _wrong_rows(file, num_rows)


def rebatch(
    batches: Iterable[pa.RecordBatch], batch_rows: int, *, max_bytes: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order: `batch_rows` rows per batch, the last one shorter, none empty.

    Batches whose rows are so large that fewer of them reach `max_bytes` are shorter too: what is held is less than half
    of that and one batch of those that come, and once more while they are joined.
    """
    if batch_rows < 1:
        raise ValueError(f"wanted batch_rows >= 1; found {batch_rows}")
    most_bytes = math.inf if max_bytes is None else max_bytes
    pending: list[pa.RecordBatch] = []
    num_pending, num_bytes = 0, 0
    for batch in batches:
        pending.append(batch)
        num_pending, num_bytes = num_pending + len(batch), num_bytes + batch.nbytes
        if num_pending >= batch_rows or num_bytes >= most_bytes:
            whole = _join(pending)
            num_whole = num_pending - num_pending % batch_rows
            yield from (whole.slice(start, batch_rows) for start in range(0, num_whole, batch_rows))
            pending = [whole.slice(num_whole)]
            if len(pending[0]) and 2 * pending[0].nbytes >= most_bytes:
                yield pending.pop()
            num_pending, num_bytes = sum(map(len, pending)), sum(rest.nbytes for rest in pending)
    if num_pending:
        yield _join(pending)


def assign_files(files: Sequence[SnapshotFile], num_shards: int) -> list[tuple[SnapshotFile, ...]]:
    """Share the files out so that shards hold about the same number of rows; each file goes to one shard.

    Greedy (longest processing time first): the largest file left goes to the shard with the fewest rows, so
    two shards differ by at most one file's rows. The result depends on the files' order and numbers of rows alone,
    not on their names; a shard's files keep their order. With fewer files than shards the last shards are empty.
    """
    if num_shards < 1:
        raise ValueError(f"wanted num_shards >= 1; found {num_shards}")
    shards: list[list[int]] = [[] for _ in range(num_shards)]
    lightest = [(0, shard) for shard in range(num_shards)]
    for place in sorted(range(len(files)), key=lambda place: -files[place].rows):
        num_rows, shard = lightest[0]
        shards[shard].append(place)
        heapq.heapreplace(lightest, (num_rows + files[place].rows, shard))
    return [tuple(files[place] for place in sorted(shard)) for shard in shards]


def _join(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of one schema as one; a single one is not copied."""
    if len(batches) == 1:
        return batches[0]
    columns = [pa.concat_arrays([batch.column(i) for batch in batches]) for i in range(batches[0].num_columns)]
    return pa.RecordBatch.from_arrays(columns, schema=batches[0].schema)


def _read_file(file: SnapshotFile, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    with _open(file.uri) as stream:
        parquet = pa.parquet.ParquetFile(stream)
        missing = sorted(set(columns) - set(parquet.schema_arrow.names))
        if missing:
            raise problem(
                f"file {file.uri}",
                wanted=f"columns {', '.join(columns)}",
                found=f"no {', '.join(missing)} among {', '.join(parquet.schema_arrow.names)}",
                do="Partition columns are not in the files: leave them out; others: see tables/catalog.py.",
            )
        is_live_N = file.is_live(parquet.metadata.num_rows)
        if is_live_N.sum() != file.rows:
            raise _wrong_rows(file, parquet.metadata.num_rows)
        num_read = 0
        for batch in parquet.iter_batches(batch_size=batch_rows, columns=columns):
            chosen, is_live_n = batch.select(columns), is_live_N[num_read : num_read + len(batch)]
            num_read += len(batch)
            yield chosen if is_live_n.all() else chosen.filter(pa.array(is_live_n))
        if num_read != len(is_live_N):
            raise _wrong_rows(file, num_read)


def _open(uri: str) -> pa.NativeFile:
    try:
        ascii_uri = quote(_HADOOP_S3.sub("s3://", uri), safe=string.punctuation)  # Java leaves é, pyarrow not
        file_system, path = pa.fs.FileSystem.from_uri(ascii_uri)
        return file_system.open_input_file(path)
    except pa.ArrowInvalid as error:
        raise problem(
            f"file {uri}",
            wanted="a URI of a file system that pyarrow has",
            found=str(error),
            do="Keep the tables on a local or mounted path, on hdfs://, s3:// or gs://.",
        ) from None
    except FileNotFoundError:
        raise problem(
            f"file {uri}",
            wanted="the file of the snapshot",
            found="no such file on this machine",
            do="Workers need the path the driver sees; or VACUUM removed the version: run the stage again.",
        ) from None


def _wrong_rows(file: SnapshotFile, found: int) -> RecsysError:
    return problem(
        f"file {file.uri}",
        wanted=f"{file.rows:,} rows, as Spark counted in the snapshot",
        found=f"{found:,} rows in the file",
        do="Deletion vectors are on (switch them off, then REORG TABLE … APPLY (PURGE)), the snapshot was"
        " filtered on a column that is no partition column (in a table of an older release: remove it and run its job"
        " again), or the file was changed.",
    )
