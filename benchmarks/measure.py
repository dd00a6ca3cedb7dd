"""How a time is taken, the same for everybody: in a process of its own, the fastest of a few runs, one JSON line.

The parent fixes threads and kernels in the child's environment (`child_environment`), because libraries read it once,
when they are imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

ROOT: Final = Path(__file__).resolve().parents[1]

_MAX_RUNS: Final = 5
_ENOUGH_S: Final = 12.0
"""After this time no other run is begun: what takes long varies little."""

_ALONE: Final = 0.8
"""Share of its threads' time that a process has on an idle machine, at least: reading and set-up are not parallel."""

_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_KERNEL_VARIABLES: Final = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""What makes OpenBLAS run as on another processor. A limit measured so would be no limit."""

Result = TypeVar("Result")


def best_seconds(
    work: Callable[[], Result], *, max_runs: int = _MAX_RUNS, enough_s: float = _ENOUGH_S
) -> tuple[float, Result]:
    """The fastest of `max_runs` runs, or of those begun within `enough_s`, and what the last one gave."""
    started, seconds = time.perf_counter(), []
    while True:
        begun = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begun)
        if len(seconds) == max_runs or time.perf_counter() - started > enough_s:
            return min(seconds), result


def num_threads() -> int:
    """The threads that the parent gave this process."""
    return int(os.environ["OMP_NUM_THREADS"])


def print_row(measure: Callable[[], dict[str, Any]]) -> None:
    """Print what `measure` finds with the BLAS in use, and a warning where other processes took the cores."""
    started, had = time.perf_counter(), time.process_time()
    row = measure()
    share = (time.process_time() - had) / (time.perf_counter() - started) / num_threads()
    warning = f"BUSY MACHINE: had {share:.0%} of its cores" if share < _ALONE else ""
    note = "; ".join(filter(None, (row.get("note"), warning)))
    print(json.dumps({**row, "note": note, "blas": blas_in_use()}))


def blas_in_use() -> str:
    """The BLAS libraries of this process with the kernels they picked and their threads."""
    from threadpoolctl import threadpool_info  # it looks at what is loaded: to be asked last

    found = {
        f"{library['internal_api']} {library.get('architecture', '')} x{library['num_threads']}"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }
    return ", ".join(sorted(found))


def child_environment(num_threads: int, **more: str) -> dict[str, str]:
    """This process's variables with `num_threads` for every library and OpenBLAS free to pick its kernel."""
    kept = {name: value for name, value in os.environ.items() if name not in _KERNEL_VARIABLES}
    return {**kept, **dict.fromkeys(_THREAD_VARIABLES, str(num_threads)), "PYTHONPATH": str(ROOT), **more}


def run_child(command: Sequence[object], environment: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object of the child's last line; its other words are shown only when it fails."""
    done = subprocess.run([*map(str, command)], env=dict(environment), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-4000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row
