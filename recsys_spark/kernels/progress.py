"""A progress bar made of lines: it reads well in a terminal, in a cluster's log and through a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable

_WIDTH = 20


class Progress:
    """Says where training is, at most every `every_seconds`."""

    def __init__(self, *, epochs: int, steps: int, say: Callable[[str], None], every_seconds: float = 5.0) -> None:
        self.say = say
        self._epochs = epochs
        self._steps = steps
        self._every_seconds = every_seconds
        self._started = self._said = time.monotonic()
        self._rows_since_said = 0
        self._losses: list[float] = []

    def update(self, *, epoch: int, step: int, loss: float, rows: int) -> None:
        """Count a finished step of `rows` samples over all ranks."""
        self._rows_since_said += rows
        self._losses.append(loss)
        now = time.monotonic()
        if now - self._said < self._every_seconds and step < self._steps:
            return
        done = (epoch - 1) * self._steps + step
        left = (now - self._started) / done * (self._epochs * self._steps - done)
        speed = self._rows_since_said / max(1e-9, now - self._said)
        filled = _WIDTH * step // self._steps
        self.say(
            f"epoch {epoch}/{self._epochs} {'█' * filled}{'░' * (_WIDTH - filled)} {step}/{self._steps}  "
            f"loss {sum(self._losses) / len(self._losses):.4f}  {speed:,.0f} samples/s  "
            f"{int(left) // 60}:{int(left) % 60:02d} left"
        )
        self._said, self._rows_since_said, self._losses = now, 0, []
