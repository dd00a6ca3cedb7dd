"""One measured way to embed texts as a row, and our rows against what was wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.score_rows import verdict


@dataclass(frozen=True)
class Row:
    """One line of the table: `size` texts in `seconds`, how much faster than the naive loop, how near to float32."""

    name: str
    size: int
    seconds: float
    ratio: float
    min_cosine: float | None = None

    def __str__(self) -> str:
        cosine = "" if self.min_cosine is None else f"{self.min_cosine:.5f}"
        speed = self.size / self.seconds
        return f"{self.name:58}{self.size:>8,}{speed:>11,.1f}{self.seconds:>10.2f}{self.ratio:>8.1f}{cosine:>10}"


HEADER = f"{'name':58}{'texts':>8}{'texts/s':>11}{'seconds':>10}{'ratio':>8}{'cosine >=':>10}"

OURS: Final = "ours, "
"""Begins the name of our row, after the set of texts."""

WANTED: Final = {"short": 24.0, "long": 4.0}
"""Lowest ratio to the naive loop by set of texts."""

WANTED_COSINE: Final = 0.9999
"""Lowest cosine of a vector with float32's."""


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Two lines for each set of texts: how fast ours is, and how near to float32."""
    lines = []
    for texts, least in WANTED.items():
        for ours in rows:
            if ours.name.startswith(f"{texts}: {OURS}") and ours.min_cosine is not None:
                speed = f"{texts} texts: {ours.ratio:.1f}x as fast as the naive loop"
                lines.append(verdict(ours.ratio >= least, speed, f">= {least:g}x"))
                cosine = f"{texts} texts: cosine with float32 at least {ours.min_cosine:.5f}"
                lines.append(verdict(ours.min_cosine >= WANTED_COSINE, cosine, f">= {WANTED_COSINE}"))
    return lines
