"""What a person reads when ranks end early: which one, of what, and what to do; no stack traces."""

from __future__ import annotations

import json

import pytest
from horovod.runner.common.util.timeout import TimeoutException

from recsys_spark.bridges.horovod_launch import LaunchError, RankEnd
from recsys_spark.bridges.rank_ends import explain, last_words
from recsys_spark.bridges.rank_entry import FAILURE_MARK

TRACEBACK = """Traceback (most recent call last):
  File "gloo_exec_fn.py", line 30, in <module>
    main()
    ^^^^^^
horovod.common.exceptions.HorovodInternalError: Connection closed by peer

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "rank.py", line 1, in <module>
KeyError: 'x'
"""
OF_HOROVOD = RuntimeError("Horovod detected that one or more processes exited with non-zero status …")
LEFT_ALONE = "HorovodInternalError: Connection closed by peer [127.0.0.1]:2612"


def end(exit_code, *, stdout="", stderr="", raised=None, was_started=True):
    ended = RankEnd(was_started=was_started, exit_code=exit_code)
    if raised is not None:
        stderr += FAILURE_MARK + json.dumps({"problems": [], "error": raised}) + "\n"
    for stream, name, text in ((ended.stdout, "stdout", stdout), (ended.stderr, "stderr", stderr)):
        stream.write("".join(f"[1]<{name}>:{line}" for line in text.splitlines(keepends=True)))  # after \r, too
    return ended


def told(*ends, error=OF_HOROVOD, of_threads=()):
    return str(explain(LaunchError(error, list(ends), list(of_threads)), start_timeout_seconds=7))


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (137, "was killed by signal 9 (SIGKILL, out of memory?)", "lower train.batch_rows or train.ranks"),
        (-9, "was killed by signal 9 (SIGKILL, out of memory?)", "or give the workers more memory"),
        (139, "was killed by signal 11 (SIGSEGV)", "A library in native code crashed."),
        (135, "was killed by signal 7 (SIGBUS)", "Usually a disk or /dev/shm is full"),
        (143, "was killed by signal 15 (SIGTERM)", "Ctrl-C, a scheduler or a person stopped it"),
        (3, "ended with exit code 3", "It told no exception: a library ended it."),
        (255, "ended with exit code 255", "It told no exception"),
        (None, "was lost with its Spark task (its executor or Python worker ended)", "more memory"),
    ],
)
def test_the_rank_that_ended_first_is_named_not_the_one_it_left_alone(code, words, advice):
    message = told(end(1, raised=LEFT_ALONE), end(code))
    assert message.startswith(f"training ranks: wanted 2 ranks that start and finish; found rank 1 {words}. ")
    assert advice in message
    assert "rank 0" not in message
    assert "start_timeout" not in message


@pytest.mark.parametrize("of_the_other", [end(134), end(143), end(None), end(0), end(1, raised=LEFT_ALONE)])
def test_an_exception_of_a_rank_goes_before_what_follows_from_it(of_the_other):
    message = told(end(1, raised="OSError: disk full", stderr=TRACEBACK), of_the_other)
    assert message.startswith("training ranks: wanted 2 ranks that start and finish; found rank 0 raised OSError: disk")
    assert "Traceback" not in message


def test_an_exception_from_before_our_code_is_known_by_its_traceback():
    message = told(
        end(1, stderr="Traceback (most recent call last):\n  File\nModuleNotFoundError: No module 'torch'\n")
    )
    assert "found rank 0 raised ModuleNotFoundError: No module 'torch'. Mend what it says" in message


def test_ranks_that_ended_alike_are_all_named():
    message = told(end(137), end(0), end(137))
    assert "found rank 0 was killed by signal 9 (SIGKILL, out of memory?); rank 2 was killed by signal 9" in message
    assert message.count("dmesg") == 1


def test_the_last_lines_come_without_tracebacks_horovods_log_and_control_characters():
    log = "[2026-11-27 00:49:05.179997: E operations.cc:697] [0]: Horovod background loop uncaught exception: [x]\n"
    shown = told(
        end(137, stdout="one\n\x1b[2Jtwo\rthree\n", stderr=TRACEBACK + log + "Killed\n" + "x" * 400)
    ).splitlines()
    assert shown[1:] == ["The last lines of rank 0:", "  one", r"  \x1b[2Jtwo", "  three", "  Killed", "  " + "x" * 300]


def test_no_password_is_shown():
    place = "postgresql://mlflow:hunter2@db:5432/runs"
    message = told(end(1, stdout=f"tracking at {place}\n", raised=f"OperationalError: cannot reach {place}"))
    assert message.count("postgresql://mlflow:***@db") == 2
    assert "hunter2" not in message


def test_only_the_last_lines_are_shown():
    shown = told(end(137, stdout="".join(f"line {number}\n" for number in range(50_000)))).splitlines()
    assert shown[2:] == [f"  line {number}" for number in range(49_990, 50_000)]


def test_half_of_a_report_is_no_report():
    assert "rank 0 ended with exit code 4" in told(end(4, stderr=FAILURE_MARK + '{"problems": [], "err'))


def test_a_start_that_took_too_long_is_told_as_that_and_only_then_the_setting():
    never = end(None, was_started=False)
    cancelled = RuntimeError("[SPARK_JOB_CANCELLED] Job 1 cancelled")
    message = told(never, never, error=TimeoutException("Timed out waiting for x"), of_threads=[cancelled])
    assert message == (
        "training ranks: wanted 2 ranks that start and finish; found not all of them within 7 s. "
        "Wait until the cluster has as many task slots free, or raise train.start_timeout_seconds."
    )


def test_a_spark_task_that_failed_is_told_by_its_last_line():
    of_spark = RuntimeError(f"PythonException: {TRACEBACK}\n\tat org.apache.spark.Worker\n\nDriver stacktrace:")
    message = told(end(None, was_started=False), error=Exception("Spark job has failed"), of_threads=[of_spark])
    assert "found a Spark task that failed: KeyError: 'x'. Workers need the libraries" in message


def test_what_is_not_known_is_told_in_its_first_line():
    message = told(end(None, was_started=False), error=ValueError("no interface\n  in common"))
    assert message.endswith("found ValueError: no interface. Spark's log may say more.")


@pytest.mark.parametrize(("text", "words"), [(TRACEBACK, "KeyError: 'x'"), ("no traceback", ""), ("", "")])
def test_the_last_words_of_a_traceback_say_what_was_raised(text, words):
    assert last_words(text) == words
