"""Runs ranks that fail, one run after the other, and prints what a person would read; in a process of its own, because
Horovod, Spark's JVM and its Python workers all write to the terminal."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager

from horovod.spark import runner

from recsys_spark.bridges.ranks import run_ranks
from recsys_spark.errors import RecsysError
from recsys_spark.tables.session import build_session
from tests.conftest import SMALL, delta_jars

START_TIMEOUT_SECONDS = {"on_a_busy_cluster": 6}


def main(tasks: list[str]) -> None:
    spark = build_session("ranks that fail", SMALL, delta_jars=delta_jars())
    for task in tasks:
        circumstances, _, function = task.rpartition(":")
        print(f"=== {task}", flush=True)
        with CIRCUMSTANCES[circumstances](spark):
            try:
                run_ranks(
                    spark,
                    f"tests.distributed.rank_tasks:{function}",
                    {},
                    num_ranks=2,
                    start_timeout_seconds=START_TIMEOUT_SECONDS.get(circumstances, 120),
                    say=print,
                )
                print("all is well", flush=True)
            except RecsysError as error:
                print(error, flush=True)
    print("=== the end", flush=True)
    spark.stop()


@contextmanager
def as_usual(_spark):
    yield


@contextmanager
def on_a_busy_cluster(spark):
    """Another job has one of the two task slots."""
    job = threading.Thread(target=lambda: spark.sparkContext.parallelize([0], 1).foreach(lambda _: time.sleep(15)))
    job.start()
    time.sleep(2)
    yield
    job.join()


@contextmanager
def where_a_library_is_missing(_spark):
    before, runner._task_fn = runner._task_fn, _import_what_is_not_there
    yield
    runner._task_fn = before


def _import_what_is_not_there(*_):
    import no_such_library  # noqa: F401


CIRCUMSTANCES = {
    "": as_usual,
    "on_a_busy_cluster": on_a_busy_cluster,
    "where_a_library_is_missing": where_a_library_is_missing,
}

if __name__ == "__main__":
    main(sys.argv[1:])
