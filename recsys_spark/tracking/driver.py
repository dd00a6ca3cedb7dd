"""The run of a training belongs to its driver: it ends with the driver's block, whichever process was killed.

A driver that was killed itself ends nothing. So a run says whose it is, and the next training closes what is left.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from recsys_spark.config.secrets import hide
from recsys_spark.errors import RecsysError
from recsys_spark.tracking.place import TrackingPlace
from recsys_spark.tracking.runs import Run, open_run, running_runs

log = logging.getLogger("recsys_spark")

_WAREHOUSE: Final = "warehouse"
_WAREHOUSE_ID: Final = "warehouse.id"
_RUN_ID: Final = "run.id"
_HOST: Final = "driver.host"
_PROCESSES: Final = "driver.processes"
"""Which processes a number means: those of one start of one kernel, in one container or outside of all."""
_PID: Final = "driver.pid"
_STARTED: Final = "driver.started"
_SAME_START_SECONDS: Final = 2.0
"""Two processes of one number start further apart; one process's start is told a little differently as clocks are set.
"""


@contextmanager
def tracked_run(place: TrackingPlace, *, warehouse: str, warehouse_id: str, run_id: str, stage: str) -> Iterator[Run]:
    """A run of one stage of one slice (warehouse and `run.id`) that ends as the block does.

    FINISHED, FAILED by an error, KILLED by an interrupt. Runs that dead drivers left RUNNING are closed first.
    `warehouse_id` tells warehouses apart whose paths are equal, as those of two containers are.
    """
    own = _tags_of(warehouse, warehouse_id, run_id)
    _close_abandoned(place, own)
    run = open_run(place, run_id, tags={"stage": stage, **own})
    try:
        yield run
    except BaseException as error:
        with suppress(RecsysError):  # what stopped the block is what the user has to know
            run.finish("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    run.finish()


def _tags_of(warehouse: str, warehouse_id: str, run_id: str) -> dict[str, str]:
    """Whose a run is: its slice, and this process."""
    place = warehouse if "://" in warehouse else str(Path(warehouse).absolute())
    return {
        _WAREHOUSE: hide(place),
        _WAREHOUSE_ID: warehouse_id,
        _RUN_ID: run_id,
        _HOST: socket.gethostname(),
        _PROCESSES: _processes(),
        _PID: str(os.getpid()),
        _STARTED: f"{psutil.Process().create_time():.2f}",
    }


def _processes() -> str:
    """Linux's word for this start of the kernel and for the processes that see each other; empty on other systems."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    with suppress(OSError):
        return f"{boot.read_text().strip()} {namespace.readlink()}"
    return ""


def _close_abandoned(place: TrackingPlace, own: Mapping[str, str]) -> None:
    """End as KILLED the experiment's runs whose driver is gone."""
    for run, tags in running_runs(place):
        if own.keys() <= tags.keys() and _is_abandoned(tags, own):
            run.finish("KILLED")
            log.info("  MLflow run %s was left open by a driver that is gone: closed as KILLED", run.id)


def _is_abandoned(tags: Mapping[str, str], own: Mapping[str, str]) -> bool:
    """Whether the driver of those tags is gone.

    Where its processes are those that we see, that can be looked up. Elsewhere it is known where the slice is ours:
    only one driver at a time writes a slice.
    """
    if all(tags[name] == own[name] for name in (_HOST, _PROCESSES)):
        is_own = all(tags[name] == own[name] for name in own)  # left by an earlier training of this process
        return is_own or not _is_alive(int(tags[_PID]), float(tags[_STARTED]))
    return all(tags[name] == own[name] for name in (_WAREHOUSE_ID, _RUN_ID))


def _is_alive(pid: int, started: float) -> bool:
    """Whether the process that had this number then still runs."""
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) < _SAME_START_SECONDS
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
