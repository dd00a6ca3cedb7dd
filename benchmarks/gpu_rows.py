"""One measured time on a GPU as a row, and how a time is taken there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

Result = TypeVar("Result")

_RUNS = 5


@dataclass(frozen=True)
class GpuRow:
    """`ratio` is `seconds` over those of the part's yardstick, which stands first in it."""

    part: str
    name: str
    size: str
    seconds: float
    ratio: float
    note: str = ""

    def __str__(self) -> str:
        return f"  {self.part:6} {self.name:44} {self.size:44} {self.seconds:10.4f} {self.ratio:8.3f}  {self.note}"


HEADING = f"  {'part':6} {'name':44} {'size':44} {'seconds':>10} {'ratio':>8}  note"


def median_seconds(work: Callable[[], Result], *, runs: int = _RUNS) -> tuple[float, Result]:
    """The median of some runs after a first one that is not counted, and what the last one gave."""
    work()
    seconds = []
    for _ in range(runs):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        result = work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)[runs // 2], result
