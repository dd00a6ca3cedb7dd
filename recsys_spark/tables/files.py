"""What lies below a path that a user names: every file of it, and what the first bytes of each say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config import SourceConfig
from recsys_spark.errors import RecsysError, problem
from recsys_spark.tables.failures import JAVA_ERRORS, cause_of
from recsys_spark.tables.hadoop import open_place

_GLOB: Final = re.compile(r"[*?\[\]{}\\]")
_FIRST_GLOB: Final = re.compile(r"(^|/)[^/]*[*?\[{].*")
_MARKERS: Final = re.compile(r"_SUCCESS|_(common_)?metadata|_(committed_(vacuum)?|started_)\d+|\..*\.crc|\.DS_Store")
"""Files that writers leave beside the rows: no row is lost with them."""
_FILTERS_BY_AGE: Final = ("modifiedbefore", "modifiedafter")
_SHOWN: Final = 5

_UNPACKED_BY_NAME: Final = re.compile(r"\.(gz|bz2|zst|snappy|lz4|deflate)$")
_FIRST_BYTES: Final = 4096
_FILES_LOOKED_INTO: Final = 64
"""Opening one takes a millisecond on a disk and some twenty on an object store."""
_RENAME: Final = "Spark unpacks files by their names: rename it to end with {}."
_UNPACK: Final = "Unpack it, and name what was in it."
_SET_FORMAT: Final = "Set {{section}}.source.format: {}."
_SIGNATURES: Final = (
    (b"\x1f\x8b", "gzip data", _RENAME.format(".gz")),
    (b"BZh", "bzip2 data", _RENAME.format(".bz2")),
    (b"\x28\xb5\x2f\xfd", "zstd data", _RENAME.format(".zst")),
    (b"\xfd7zXZ\x00", "xz data", _UNPACK),
    (b"PK\x03\x04", "a zip archive or an Excel file", _UNPACK),
    (b"\xd0\xcf\x11\xe0", "an Excel file", "Save it as CSV."),
    (b"PAR1", "a Parquet file", _SET_FORMAT.format("parquet")),
)
_UTF_16: Final = "Set {section}.source.options: {{encoding: UTF-16, multiLine: true}}."
_TO_UTF_8: Final = "Save it as UTF-8 (iconv -f UTF-16 -t UTF-8)."


@dataclass(frozen=True)
class SourceFile:
    """A file as the file system sees it: its path as Hadoop writes it, its size, and when it changed (ms)."""

    path: str
    num_bytes: int
    changed: int

    def __str__(self) -> str:
        return f"{self.path}, {self.num_bytes}, {self.changed}"


def list_files(spark: SparkSession, path: str) -> list[str]:
    """State of the files behind a path, folder or glob: `path, bytes, time of change` each, sorted."""
    return [str(file) for file in find_files(spark, path)]


def find_files(spark: SparkSession, path: str) -> list[SourceFile]:
    """Every file at or below a path, folder or glob, hidden ones too, sorted by path; none for no match.

    Raises the typed error for a place that cannot be listed, and where the JVM's locale cannot say the names.
    """
    _require_unicode_names(spark, path)
    try:
        return sorted(_walk(spark, path), key=str)
    except JAVA_ERRORS as error:
        raise problem(
            f"source {path}",
            wanted="a place that Spark can list",
            found=cause_of(error),
            do="Look at the path, at the rights on it, and whether spark-submit brings the connector of its scheme.",
        ) from None


def _walk(spark: SparkSession, path: str) -> Iterator[SourceFile]:
    file_system, place = open_place(spark, as_pattern(spark, path))
    for match in file_system.globStatus(place) or []:
        files = file_system.listFiles(match.getPath(), True)
        while files.hasNext():
            status = files.next()
            yield SourceFile(status.getPath().toString(), status.getLen(), status.getModificationTime())


def as_pattern(spark: SparkSession, path: str) -> str:
    """The path as Spark's readers take it, who read a glob in it: that of a file or folder that exists is escaped."""
    if not _GLOB.search(path):
        return path
    file_system, place = open_place(spark, path)
    return _GLOB.sub(r"\\\g<0>", path) if file_system.exists(place) else path


def folder_names(spark: SparkSession, path: str, files: Sequence[SourceFile]) -> list[str]:
    """Names of folders between a path (its part without a glob) and the files, each once."""
    is_literal = as_pattern(spark, path) != path
    file_system, base = open_place(spark, path if is_literal else _before_glob(path))
    prefix = file_system.makeQualified(base).toString().rstrip("/") + "/"
    below = [file.path.removeprefix(prefix).split("/")[:-1] for file in files if file.path.startswith(prefix)]
    return list(dict.fromkeys(name for names in below for name in names))


def _before_glob(path: str) -> str:
    """The folders of a path before its first glob."""
    return _FIRST_GLOB.sub("/" if path.startswith("/") else "", path) or "."


def _require_unicode_names(spark: SparkSession, path: str) -> None:
    """A JVM that was started under LC_ALL=C, as in many containers, passes over all local names that are not ASCII."""
    jvm: Any = spark.sparkContext._jvm
    encoding = jvm.java.lang.System.getProperty("sun.jnu.encoding")
    if encoding.upper() in ("UTF-8", "UTF8"):
        return
    scheme, _, _ = path.rpartition("://")
    local = path if not scheme else path.removeprefix("file://") if scheme == "file" else ""
    base = Path(_before_glob(local)) if local else None
    names = [str(base), *(str(below) for below in base.rglob("*"))] if base else []
    unsayable = [name for name in names if not name.isascii()]
    if unsayable:
        raise problem(
            f"source {path}",
            wanted="a locale in which the JVM can say the names of its files",
            found=f"{encoding}, which has no letters for {unsayable[0]}",
            do="export LC_ALL=C.UTF-8 before spark-submit, and for the executors (spark.executorEnv.LC_ALL).",
        )


# --- nothing is passed over ------------------------------------------------------------------------------------------


def require_all_read(spark: SparkSession, files: Sequence[SourceFile], rows: DataFrame, source: SourceConfig) -> None:
    """Raise when `rows` come from fewer than `files`: Spark passes over names that begin with _ or ., in silence.

    Markers of writers and empty files may be passed over, and what the source's own options leave out.
    """
    options = {name.lower(): str(value) for name, value in source.options.items()}
    if any(name in options for name in _FILTERS_BY_AGE):
        files = [file for file in files if re.search(r"/[_.][^/]*$", file.path)]
    if "pathglobfilter" in options:
        jvm: Any = spark.sparkContext._jvm
        chosen = jvm.org.apache.hadoop.fs.GlobFilter(options["pathglobfilter"])
        files = [file for file in files if chosen.accept(jvm.org.apache.hadoop.fs.Path(file.path))]
    read = {_as_hadoop_writes(uri) for uri in rows.inputFiles()}
    left_out = [
        file.path
        for file in files
        if file.num_bytes and file.path not in read and not _MARKERS.fullmatch(file.path.rpartition("/")[2])
    ]
    if left_out:
        more = f" and {len(left_out) - _SHOWN:,} more" if len(left_out) > _SHOWN else ""
        raise problem(
            f"source {source.path}",
            wanted=f"every one of its {len(files):,} files to be read",
            found=f"{len(left_out):,} that Spark passes over: {', '.join(left_out[:_SHOWN])}{more}",
            do="Names that begin with _ or . are hidden to Spark: rename or remove these files, or say which files"
            " are meant by a glob or options: {pathGlobFilter: '[!._]*'}.",
        )


def _as_hadoop_writes(uri: str) -> str:
    """Spark's file:///data/a%20b.csv as Hadoop's file:/data/a b.csv."""
    return re.sub(r"^file:/+", "file:/", unquote(uri))


# --- what the files are ----------------------------------------------------------------------------------------------


def require_text(spark: SparkSession, files: Sequence[SourceFile], source: SourceConfig, section: str) -> None:
    """Raise when a file of a text format begins like something else, with the option that reads it.

    Looks into the first files only, and not into those that Spark unpacks by their names.
    """
    encoding = next(
        (str(value) for name, value in source.options.items() if name.lower() in ("encoding", "charset")), ""
    )
    is_wide = encoding.upper().startswith(("UTF-16", "UTF-32", "UTF16", "UTF32"))
    wide = (_TO_UTF_8 if source.format == "jsonl" else _UTF_16).format(section=section)
    plain = [file for file in files if file.num_bytes and not _UNPACKED_BY_NAME.search(file.path.lower())]
    for file in plain[:_FILES_LOOKED_INTO]:
        start = _first_bytes(spark, file)
        for signature, kind, do in _SIGNATURES:
            if start.startswith(signature):
                raise _no_text(file, source, kind, do.format(section=section))
        if not is_wide and start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise _no_text(file, source, "a text in UTF-16", wide)
        if not is_wide and b"\x00" in start:
            raise _no_text(file, source, "bytes of value 0: UTF-16 without its mark, or no text", wide)


def _first_bytes(spark: SparkSession, file: SourceFile) -> bytes:
    file_system, place = open_place(spark, file.path)
    stream = file_system.open(place)
    try:
        return bytes(stream.readNBytes(_FIRST_BYTES))
    finally:
        stream.close()


def _no_text(file: SourceFile, source: SourceConfig, found: str, do: str) -> RecsysError:
    return problem(f"file {file.path}", wanted=f"the text of a {source.format} file", found=found, do=do)
