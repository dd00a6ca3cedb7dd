"""What a person reads when ranks fail, word by word, and that nothing of a failed run stays on the machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.distributed

FOUND = "training ranks: wanted 2 ranks that start and finish; found"
AT_WORK = "The last lines of rank 1:\n  rank 1 is at work \\x1b[31m"
MEMORY = (
    "The system kills the largest process when memory runs out (dmesg, or the container's events, say so): lower "
    "train.batch_rows or train.ranks, or give the workers more memory (spark.executor.memoryOverhead)."
)
MESSAGES = {
    "kill_the_second_rank": f"{FOUND} rank 1 was killed by signal 9 (SIGKILL, out of memory?). {MEMORY}\n{AT_WORK}",
    "exit_on_the_second_rank": (
        f"{FOUND} rank 1 ended with exit code 3. It told no exception: a library ended it.\n{AT_WORK}"
    ),
    "raise_on_the_second_rank": (
        f"{FOUND} rank 1 raised RuntimeError: disk full on this rank. "
        f"Mend what it says, then run the job again.\n{AT_WORK}"
    ),
    "raise_a_users_error_on_the_second_rank": "file x: wanted rows; found none. Mend it.",
    "lose_the_task_of_the_second_rank": (  # and with the task, maybe, the last lines of the rank
        f"{FOUND} rank 1 was lost with its Spark task (its executor or Python worker ended). {MEMORY}\n"
    ),
    "where_a_library_is_missing:finish": (
        f"{FOUND} a Spark task that failed: ModuleNotFoundError: No module named 'no_such_library'. "
        "Workers need the libraries of requirements.lock, Horovod too."
    ),
    "on_a_busy_cluster:finish": (
        f"{FOUND} not all of them within 6 s. "
        "Wait until the cluster has as many task slots free, or raise train.start_timeout_seconds."
    ),
    "finish": "all is well",
}
CANCELLED_AT_ITS_START = re.compile(
    r"Traceback \(most recent call last\):\n"
    r'  File "\S+/pyspark/daemon\.py", line \d+, in manager\n(?:  .*\n)*'
    r'  File "\S+/pyspark/serializers\.py", line \d+, in read_int\n(?:  .*\n)*(?:EOFError|ConnectionResetError: .*)\n'
)
"""What pyspark itself prints, now and then, of a Python worker whose task is cancelled while the worker starts."""


class Told(NamedTuple):
    """Everything on the terminal, what of it each run said, and what is left in the temporary folder."""

    screen: str
    by_task: dict[str, str]
    left: list[str]


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Told:
    temporary = tmp_path_factory.mktemp("temporary")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed.failing_runs", *MESSAGES],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=580,
    )
    by_task = {}
    for part in done.stdout.split("=== ")[1:]:
        task, _, said = part.partition("\n")
        by_task[task] = said
    return Told(done.stdout, by_task, [path.name for path in temporary.iterdir()])


@pytest.mark.parametrize("task", MESSAGES)
def test_the_message_says_which_rank_ended_of_what_and_what_to_do(told, task):
    assert MESSAGES[task] in told.by_task.get(task, told.screen)


def test_no_stack_trace_reaches_the_terminal(told):
    assert "=== the end" in told.screen
    screen = CANCELLED_AT_ITS_START.sub("", told.screen)
    for word in ("Traceback", "Exception in thread", "\tat ", "Py4J"):
        assert word not in screen


def test_archives_of_killed_ranks_are_gone_with_the_next_run(told):
    assert [name for name in told.left if name.startswith("recsys_spark")] == []
