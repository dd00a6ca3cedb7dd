"""What Spark, Delta and their JVM say when they fail, in the words of the cause, with the way out."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark.errors import PySparkException, PythonException

from recsys_spark.errors import Problem, RecsysError, problem
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.contract import Table

JAVA_ERRORS = (PySparkException, Py4JJavaError)

_FAILED_READ: Final = "[FAILED_READ_FILE"
_UNREADABLE: Final = re.compile(r"\[FAILED_READ_FILE|FileNotFoundException|ChecksumException|is not a Parquet file")
_BAD_VALUE: Final = re.compile(r"SQLSTATE: (22|23505|42K0B)")
"""SQL's class of data exceptions, a map's key given twice, a pattern of a time that is none."""
_FROM_A_WORKER: Final = "recsys_spark.errors.RecsysError: "


@dataclass(frozen=True)
class _Kind:
    """One kind of failure: words that it is known by, what was wanted instead, and the way out."""

    words: re.Pattern[str]
    wanted: str
    do: str


_GOES_ON: Final = "Then run it again: it goes on after the last finished stage."
_FULL_DISK: Final = _Kind(
    re.compile(r"No space left on device|Disk quota exceeded|There is not enough space on the disk"),
    "room on every disk that is written",
    f"Make room in the warehouse and in spark.local.dir and TMPDIR, where Spark keeps what it sorts. {_GOES_ON}",
)
_KINDS: Final = (
    _FULL_DISK,
    _Kind(
        re.compile(r"java\.lang\.OutOfMemoryError|Java heap space|GC overhead limit"),
        "enough memory for Spark's JVM",
        f"Raise spark-submit's --driver-memory or --executor-memory, or give Spark fewer cores. {_GOES_ON}",
    ),
    _Kind(
        re.compile(
            r"Python worker exited unexpectedly|Python worker failed to connect|ExecutorLostFailure|Lost executor"
            r"|Slave lost|Worker lost"
        ),
        "workers that live until their task is done",
        "One was killed: by hand, by the scheduler, or by the system because memory ran out (its log says so). "
        f"Give it more memory (spark.executor.memoryOverhead, score.worker_mib) or Spark fewer cores. {_GOES_ON}",
    ),
    _Kind(
        re.compile(r"AccessControlException|AccessDeniedException|\(Permission denied\)|Read-only file system"),
        "the right to read and write there",
        f"Give the user who runs the job the rights. {_GOES_ON}",
    ),
)


_CONFLICT: Final = re.compile(
    r"io\.delta\.exceptions\.|\[DELTA_(CONCURRENT_|PROTOCOL_CHANGED|METADATA_CHANGED)|DELTA_TABLE_ALREADY_EXISTS"
)
_DAMAGED_LOG: Final = re.compile(
    r"\[DELTA_(VERSIONS_NOT_CONTIGUOUS|TRUNCATED_TRANSACTION_LOG|STATE_RECOVER_ERROR|MISSING_PART_FILES)"
)
_NO_READING: Final = re.compile(
    r"FAILED_READ_FILE|ChecksumException|FileNotFoundException|JsonParseException|JsonMappingException"
)


def is_conflict(error: Exception) -> bool:
    """Whether Delta refused a commit because another one came first."""
    return bool(_CONFLICT.search("\n".join([type(error).__module__, *_messages(error, with_names=True)])))


def is_damaged_log(error: Exception) -> bool:
    """Whether Delta could not read the log of a table."""
    lines = "\n".join(_messages(error, with_names=True)).split("\n")
    return any(_DAMAGED_LOG.search(line) or _NO_READING.search(line.rpartition("_delta_log")[0]) for line in lines)


def cause_of(error: BaseException) -> str:
    """The innermost cause, in one line: `Encountered error while reading file X: CSV header does not …`."""
    messages = [_one_line(message) for message in _messages(error)]
    file = next(filter(None, map(_unread_file, messages)), None)
    return f"{file}: {messages[-1]}" if file and file not in messages[-1] else messages[-1]


def _unread_file(message: str) -> str:
    """The file that a message names between words of Spark's, whatever letters it has; empty where it names none."""
    file, stop, _ = message.partition(_FAILED_READ)[2].partition("reading file ")[2].partition(". ")
    return file if stop else ""


@contextmanager
def explain_bad_input(where: str, root: str | None = None) -> Iterator[None]:
    """Turn a failure of a known kind into an error that a user can mend; every other failure stays what it is.

    Known are: a file that cannot be read, of a source or of a table below `root`; a value that the configuration's SQL
    cannot work with; a full disk; too little memory; a killed worker; a missing right; an error of ours in a worker.
    """
    try:
        yield
    except RecsysError:
        raise
    except Exception as error:
        explained = _explain(error, where, root)
        if explained is None:
            raise
        raise explained from error


@contextmanager
def explain_failures(where: str, root: str) -> Iterator[None]:
    """Like `explain_bad_input`, and what Spark says beyond that becomes an error too, with its whole trace in a file.

    A fault of Python code, on the driver or in a worker, keeps its own traceback.
    """
    try:
        with explain_bad_input(where, root):
            yield
    except PythonException:
        raise
    except (*JAVA_ERRORS, Py4JError) as error:
        raise problem(
            where,
            wanted="work that Spark finishes",
            found=cause_of(error),
            do=f"That is no fault of the input that the platform knows: the whole trace is in {_keep_trace(error)}.",
        ) from error


def _explain(error: Exception, where: str, root: str | None) -> RecsysError | None:
    if _jvm_is_gone(error):
        return problem(
            where,
            wanted="Spark's driver, whose JVM runs the job",
            found="no answer: it has ended",
            do="It was killed, or ended for want of memory (the lines above, or the system's log, say so): raise "
            f"spark-submit's --driver-memory. {_GOES_ON}",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return problem(where, wanted=_FULL_DISK.wanted, found=str(error), do=_FULL_DISK.do)
    if not isinstance(error, JAVA_ERRORS):
        return None
    text = "\n".join(_messages(error, with_names=True))
    if _FROM_A_WORKER in text:
        return _from_worker(text)
    kind = next((kind for kind in _KINDS if kind.words.search(text)), None)
    if kind is not None:
        return problem(where, wanted=kind.wanted, found=cause_of(error), do=kind.do)
    if _UNREADABLE.search(text):
        return _unreadable_file(error, where, root)
    if _BAD_VALUE.search(text):
        return problem(
            where,
            wanted="values that the configuration's SQL can work with",
            found=cause_of(error),
            do="Nothing was written. Write try_cast(… AS …), or whatever Spark advises, in rules.conditions, "
            "rules.caps, events.where or items.where.",
        )
    return None


def _unreadable_file(error: Exception, where: str, root: str | None) -> RecsysError:
    cause = cause_of(error)
    table = _table_of("\n".join(_messages(error)), root)
    if table is None:
        return problem(
            where,
            wanted="rows from files that can be read",
            found=cause,
            do="Nothing was written. Mend or remove that file, then run the job again.",
        )
    if is_damaged_log(error):
        return damaged_log(table, f"{root}/{table.name.lower()}", error)
    return problem(
        f"table {table.name}",
        wanted="every file that its log names, as it was written",
        found=cause,
        do=f"Restore the file from a copy, or {_way_to_make_anew(table, f'{root}/{table.name.lower()}')}",
    )


def damaged_log(table: Table, path: str, error: Exception) -> RecsysError:
    """The error of a table whose own log cannot be read."""
    return problem(
        f"table {table.name}",
        wanted=f"a Delta log that can be read in {path}/_delta_log",
        found=cause_of(error),
        do=f"Restore {path} from a copy, or {_remove_whole(table, path)}",
    )


def _way_to_make_anew(table: Table, path: str) -> str:
    if table.append_only:
        return _remove_whole(table, path)
    of_what = "for the delivery that it belongs to" if "batch" in table.slice_by else "and the configuration as it was"
    return f"run {table.written_by} with --force {of_what}: it writes its rows anew."


def _remove_whole(table: Table, path: str) -> str:
    again = "" if table.written_by == "every job" else f" and run {table.written_by} again"
    deliveries = " for every delivery" if "batch" in table.slice_by else ""
    return f"remove {path} whole{again}{deliveries}: the stages that depend on it then run once more."


def _table_of(text: str, root: str | None) -> Table | None:
    """The table below `root` that a file named in the messages belongs to."""
    if root is None:
        return None
    folder = re.sub(r"^[a-z0-9]+:/*", "/", root).rstrip("/")
    return next((table for table in TABLES if f"{folder}/{table.name.lower()}/" in unquote(text)), None)


def _from_worker(text: str) -> RecsysError:
    """Our own error that was raised in a Python worker, as it was before Spark wrapped it."""
    lines = text.split(_FROM_A_WORKER)[1].split("\n\n")[0].split("\n\tat ")[0].strip().splitlines()
    return RecsysError(
        [told for told in map(_as_problem, lines) if told]
        or Problem("a worker", "work without an error", " ".join(lines), "Mend that, then run the job again.")
    )


def _as_problem(line: str) -> Problem | None:
    """The problem that a line of our error's message tells; no pattern, as what was found may be a text of any kind."""
    where, is_told, rest = line.strip().partition(": wanted ")
    wanted, has_found, rest = rest.partition("; found ")
    found, has_remedy, do = rest.partition(". ")
    return Problem(where, wanted, found, do) if is_told and has_found and has_remedy else None


def _jvm_is_gone(error: Exception) -> bool:
    """Whether py4j reached no JVM: a connection that Python itself could not open counts when py4j asked for it."""
    if isinstance(error, Py4JNetworkError) or (type(error) is Py4JError and "Trace:" not in str(error)):
        return True
    return isinstance(error, ConnectionError) and any("py4j" in file for file in _files(error.__traceback__))


def _files(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next


def _keep_trace(error: BaseException) -> str:
    descriptor, path = tempfile.mkstemp(prefix="recsys_spark_trace_", suffix=".txt")
    java = getattr(error, "_stackTrace", "")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)) + (f"\n{java}" if java else ""))
    return path


def _messages(error: BaseException, *, with_names: bool = False) -> list[str]:
    """The messages from the outermost error to its innermost cause."""
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    messages = []
    while java is not None:
        name, message = java.getClass().getName(), java.getMessage()
        if with_names:
            messages.append(f"{name}: {message}")
        elif message or not messages:  # a cause without a word explains nothing
            messages.append(message or name.rpartition(".")[2])
        java = java.getCause()
    return messages or [str(error)]


def _one_line(message: str) -> str:
    without_trace = message.split("\n\tat ")[0].split("\n\nDriver stacktrace")[0]
    return " ".join(without_trace.split())
