"""One measured time as a row; rows as the printed table, as JSON, and against what was wanted."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys_spark.kernels.precision import EIGHT_BIT_PRODUCTS


@dataclass(frozen=True)
class Size:
    """What is searched: `kind` of vectors, `users` x `items` of `dim` coordinates, lists of `top_k`."""

    kind: str
    users: int
    items: int
    dim: int
    top_k: int

    def __str__(self) -> str:
        return f"{self.kind} {self.users:,} x {self.items:,}, d = {self.dim}, K = {self.top_k}"


@dataclass(frozen=True)
class Row:
    """`ratio` is `seconds` over the limit of the same size and number of threads; `recall` None: not compared.

    `peak_mib` is the most memory that all processes of a Spark row had; None: not looked at.
    """

    part: str
    name: str
    size: Size
    threads: int
    seconds: float
    ratio: float
    recall: float | None = None
    blas: str = ""
    note: str = ""
    peak_mib: int | None = None


@dataclass(frozen=True)
class Machine:
    """The processor a run was made on."""

    processor: str
    cores: int
    flags: frozenset[str]

    @classmethod
    def this(cls) -> Machine:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        pairs = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        flags = frozenset((pairs.get("flags") or pairs.get("Features", "")).split())
        return cls(pairs.get("model name", platform.machine()), len(os.sched_getaffinity(0)), flags)

    @property
    def has_8_bit_products(self) -> bool:
        return bool(self.flags & EIGHT_BIT_PRODUCTS)

    def __str__(self) -> str:
        found = sorted(self.flags & {*EIGHT_BIT_PRODUCTS, "avx2", "avx512f", "avx512_bf16", "amx_bf16"})
        return f"{self.processor}, {self.cores} cores, {' '.join(found) or 'no vector flags known'}"

    @staticmethod
    def load() -> str:
        """The load averages: a time taken beside other work is worth little."""
        return " ".join(f"{value:.1f}" for value in os.getloadavg())


WANTED: Final = {
    ("kernel", 128): (0.9, 1.5),
    ("kernel", 384): (0.6, 1.2),
    ("spark", 128): (1.4, 2.0),
    ("spark", 384): (0.9, 1.5),
}
"""Highest ratio to the limit: (with 8-bit products, elsewhere)."""

OURS: Final = "ours"
OURS_IN_FLOAT32: Final = "ours, without 8-bit products"
BY: Final = "by "
"""Begins the part of scaling rows; the axis that grows follows."""

ALS_WANTED: Final = 20.0
"""How many times faster than Spark ALS."""

MILLION_GIB: Final = 6
"""Most memory in all for a million items."""


def slope(rows: Sequence[Row], axis: str) -> float:
    """Of log seconds on log size, by least squares: 1 is linear."""
    sizes = [getattr(row.size, axis) for row in rows]
    return float(np.polyfit(np.log(sizes), np.log([row.seconds for row in rows]), 1)[0])


def rows_by_axis(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of the scaling part by the axis that grows in them."""
    axes = [row.part.removeprefix(BY) for row in rows if row.part.startswith(BY)]
    return {axis: [row for row in rows if row.part == BY + axis] for axis in dict.fromkeys(axes)}


def slopes(rows: Sequence[Row]) -> list[str]:
    return [f"  cost grows as {axis} ^ {slope(of_axis, axis):.2f}" for axis, of_axis in rows_by_axis(rows).items()]


def verdicts(rows: Sequence[Row], machine: Machine) -> list[str]:
    """A line for each thing wanted that these rows can tell of."""
    lines = []
    of_ours = [row for row in rows if row.name in (OURS, OURS_IN_FLOAT32) and row.part in ("kernel", "spark")]
    for ours in of_ours:
        if bounds := WANTED.get((ours.part, ours.size.dim)):
            most = bounds[0] if ours.name == OURS and machine.has_8_bit_products else bounds[1]
            found = f"{ours.part}, {ours.name}, {ours.size}: {ours.ratio:.2f}x the limit"
            lines.append(verdict(ours.ratio <= most, found, f"<= {most}x"))
        for peer in rows:
            if ours.name == OURS and (peer.part, peer.size) == (ours.part, ours.size) and peer not in of_ours:
                least, times = ALS_WANTED if "ALS" in peer.name else 1.0, peer.seconds / ours.seconds
                found = f"{ours.part}, {ours.size}: {times:.1f}x as fast as {peer.name}"
                lines.append(verdict(times >= least, found, f">= {least:g}x"))
    for row in rows:
        if row.part == "million" and row.peak_mib is not None:
            found = f"million, {row.size}: {row.peak_mib / 1024:.1f} GiB"
            lines.append(verdict(row.peak_mib <= MILLION_GIB * 1024, found, f"<= {MILLION_GIB} GiB"))
    return lines


def verdict(holds: bool, found: str, wanted: str) -> str:
    """What was found, and whether it is what was wanted."""
    return f"  {'reached' if holds else 'MISSED '}  {found} (wanted {wanted})"


def heading() -> str:
    return f"  {'part':8} {'name':31} {'size':50} {'threads':>7} {'seconds':>8} {'ratio':>6} {'recall':>6}  note, BLAS"


def as_line(row: Row) -> str:
    recall = "" if row.recall is None else f"{row.recall:.4f}"
    peak = "" if row.peak_mib is None else f"peak {row.peak_mib:,} MiB"
    numbers = f"{row.threads:7} {row.seconds:8.2f} {row.ratio:6.2f} {recall:>6}"
    remarks = "; ".join(filter(None, (peak, row.note, row.blas)))
    return f"  {row.part:8} {row.name:31} {row.size!s:50} {numbers}  {remarks}"


def write_json(rows: Sequence[Row], machine: Machine, file: Path) -> None:
    found: dict[str, Any] = {"machine": str(machine), "rows": [asdict(row) for row in rows]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
