"""Why the ranks did not finish, in words for whoever has to mend it, without the stack traces."""

from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, Final, cast

from recsys_spark.bridges.horovod_launch import LaunchError, OutputTail, RankEnd
from recsys_spark.bridges.rank_entry import FAILURE_MARK
from recsys_spark.config.secrets import hide
from recsys_spark.errors import Problem, RecsysError, printable, problem
from recsys_spark.tables.failures import cause_of

_LINES: Final = 10
"""Last lines of a rank's output that an error quotes."""
_WIDTH: Final = 300
"""Characters of a line that an error quotes."""

_MEMORY: Final = (
    "The system kills the largest process when memory runs out (dmesg, or the container's events, say so): lower "
    "train.batch_rows or train.ranks, or give the workers more memory (spark.executor.memoryOverhead)."
)
_ADVICE: Final = {
    signal.SIGKILL: _MEMORY,
    signal.SIGTERM: "Ctrl-C, a scheduler or a person stopped it: run it again.",
    signal.SIGBUS: "Usually a disk or /dev/shm is full: free some room, or set TMPDIR of the executors elsewhere.",
}
_HINT: Final = {signal.SIGKILL: ", out of memory?"}

_PREFIX: Final = re.compile(r"\[\d+\]<std(?:out|err)>:")
"""What Horovod writes before each line, and after each carriage return."""
_CHAINED: Final = ("During handling of the above exception", "The above exception was the direct cause")
_TRACEBACK: Final = "Traceback (most recent call last):"
_CANCELLED: Final = "[SPARK_JOB_CANCELLED]"
_OF_HOROVOD: Final = re.compile(r"\[\d{4}-\d\d-\d\d [\d:.]+: [A-Z] ")
_OF_ANOTHER_RANK: Final = "HorovodInternalError"
"""What a rank raises because another one is gone."""


class _Kind(IntEnum):
    """Ways to end, from the likeliest cause of the other ranks' end to the least likely."""

    KILLED = auto()
    RAISED = auto()
    LOST = auto()
    EXITED = auto()
    ABORTED = auto()  # by a library: it has crashed, or has lost the other ranks
    STOPPED = auto()
    LEFT_ALONE = auto()


@dataclass(frozen=True)
class _Account:
    """What can be said of one rank's end."""

    kind: _Kind
    words: str
    do: str


def explain(failed: LaunchError, *, start_timeout_seconds: int) -> RecsysError:
    """The error to show: a user's error that a rank raised as it is, else which rank ended of what, else why none
    started."""
    reports = [_report(end) for end in failed.ends]
    problems = [Problem(**fields) for report in reports for fields in report.get("problems", [])]
    if problems:
        return RecsysError(list(dict.fromkeys(problems)))
    wanted = f"{len(failed.ends)} ranks that start and finish"
    ended = [place for place, end in enumerate(failed.ends) if end.was_started and end.exit_code != 0]
    if not ended:
        found, do = _why_none_started(failed, start_timeout_seconds)
        return problem("training ranks", wanted=wanted, found=found, do=do)
    accounts = {rank: _account(failed.ends[rank], reports[rank]) for rank in ended}
    likeliest = min(account.kind for account in accounts.values())
    causes = {rank: account for rank, account in accounts.items() if account.kind == likeliest}
    advice = dict.fromkeys(account.do for account in causes.values())
    lines = [line for rank in causes for line in _last_lines(rank, failed.ends[rank])]
    return problem(
        "training ranks",
        wanted=wanted,
        found="; ".join(f"rank {rank} {account.words}" for rank, account in causes.items()),
        do="\n".join([*advice, *lines]),
    )


def last_words(text: str) -> str:
    """The line of the last Python traceback in a text that says what was raised; "" without one."""
    traceback = text.rpartition(f"{_TRACEBACK}\n")[2] if _TRACEBACK in text else ""
    said = [line for line in traceback.splitlines() if line.strip() and not line.startswith((" ", "\t"))]
    return _shown(said[0]) if said else ""


def _account(end: RankEnd, report: dict[str, Any]) -> _Account:
    raised, code = _raised(end, report), end.exit_code
    if raised:
        kind = _Kind.LEFT_ALONE if _OF_ANOTHER_RANK in raised.partition(":")[0] else _Kind.RAISED
        return _Account(kind, f"raised {raised}", "Mend what it says, then run the job again.")
    if code is None:
        return _Account(_Kind.LOST, "was lost with its Spark task (its executor or Python worker ended)", _MEMORY)
    killed_by = _signal_of(code)
    if killed_by is None:
        return _Account(_Kind.EXITED, f"ended with exit code {code}", "It told no exception: a library ended it.")
    kind = {signal.SIGABRT: _Kind.ABORTED, signal.SIGTERM: _Kind.STOPPED}.get(killed_by, _Kind.KILLED)
    words = f"was killed by signal {killed_by.value} ({killed_by.name}{_HINT.get(killed_by, '')})"
    return _Account(kind, words, _ADVICE.get(killed_by, "A library in native code crashed."))


def _raised(end: RankEnd, report: dict[str, Any]) -> str:
    """The exception that ended the rank, by its own report, or by its traceback when it came from before our code."""
    of_traceback = last_words("\n".join(_lines(end.stderr))) if end.exit_code == 1 else ""
    return _shown(report.get("error", of_traceback))


def _signal_of(code: int) -> signal.Signals | None:
    """Shells and Horovod add 128 to the number of the signal."""
    try:
        return signal.Signals(code - 128 if code > 128 else -code)
    except ValueError:
        return None


def _why_none_started(failed: LaunchError, start_timeout_seconds: int) -> tuple[str, str]:
    from horovod.runner.common.util.timeout import TimeoutException

    if isinstance(failed.error, TimeoutException):
        found = f"not all of them within {start_timeout_seconds} s"
        return found, "Wait until the cluster has as many task slots free, or raise train.start_timeout_seconds."
    for error in failed.of_threads:
        if _CANCELLED in str(error):  # of the thread that runs the Spark job, as a result
            continue
        found = f"a Spark task that failed: {last_words(str(error)) or _shown(cause_of(error))}"
        return found, "Workers need the libraries of requirements.lock, Horovod too."
    found = f"{type(failed.error).__name__}: {failed.error}".splitlines()[0]
    return _shown(found), "Spark's log may say more."


def _report(end: RankEnd) -> dict[str, Any]:
    """What the rank said of its failure (rank_entry.py), if it did."""
    for line in reversed(_lines(end.stderr)):
        if line.startswith(FAILURE_MARK):
            with suppress(ValueError):  # half a line: the rest was lost with the connection
                return cast(dict[str, Any], json.loads(line.removeprefix(FAILURE_MARK)))
    return {}


def _shown(text: str) -> str:
    """One line for the terminal, without passwords."""
    return printable(hide(text))[:_WIDTH]


def _lines(output: OutputTail) -> list[str]:
    lines = str(output).splitlines()
    return [line[prefix.end() :] if (prefix := _PREFIX.match(line)) else line for line in lines]


def _last_lines(rank: int, end: RankEnd) -> list[str]:
    """The end of a rank's output: no tracebacks, nothing of Horovod's, nothing that steers a terminal."""
    lines = []
    is_in_traceback = False
    for line in [*_lines(end.stdout), *_lines(end.stderr)]:
        is_of_traceback = is_in_traceback or line.startswith((_TRACEBACK, *_CHAINED, FAILURE_MARK))
        is_in_traceback = line.startswith(_TRACEBACK) or (is_in_traceback and line.startswith((" ", "\t")))
        if line.strip() and not is_of_traceback and not _OF_HOROVOD.match(line):
            lines.append("  " + _shown(line))
    return [f"The last lines of rank {rank}:", *lines[-_LINES:]] if lines else []
