"""The bench of scoring: limit, our kernel, peers and Spark in one run, about 45 minutes on two cores.

    make bench-score                                             all of it
    make bench-score ARGS='--quick'                              small sizes, to see that everything runs
    make bench-score ARGS='--only kernel,peers'                  some parts
    make bench-score ARGS='--warehouse warehouse'                also the vectors of the model that `make run` trained

Exact top-100 of 20,000 users x 50,000 items, 50 seen items excluded for every user. One thread for kernel, peers and
scaling; Spark has two cores with one thread in each worker, against the limit of two threads, and searches for 100,000
and 200,000 users too: a job has costs that do not grow with its users. What Spark takes for such a job without the
search stands beside it. What the grid costs in accuracy is part "grid", for 500 users: recall is there the share of a
list that is in the list of the vectors before they were snapped too. Prints its table and writes
benchmarks/results/score.json and score.svg; with --only or --quick, files whose names say so.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.measure import child_environment, run_child
from benchmarks.peers_env import peers_python
from benchmarks.score_grid import grid_cost
from benchmarks.score_peers import OF_THE_PLATFORM
from benchmarks.score_plot import draw
from benchmarks.score_rows import (
    OURS,
    OURS_IN_FLOAT32,
    Machine,
    Row,
    Size,
    as_line,
    heading,
    slopes,
    verdicts,
    write_json,
)
from benchmarks.vectors import KINDS, UNSNAPPED, around, make_world

RESULTS: Final = Path(__file__).with_name("results")
NUM_SEEN: Final = 50

STANDARD: Final = Size("random", 20_000, 50_000, 128, 100)
"""Random vectors: no bound prunes them well, so they are the hardest; every kind has a row of its own."""
DIMS: Final = (128, 384)
SCALED: Final = {
    "users": (10_000, 20_000, 40_000),
    "items": (25_000, 50_000, 100_000),
    "dim": (128, 256, 512),
    "top_k": (25, 100, 400),
}
QUICK: Final = 20
"""By how much --quick divides users and items."""

MILLION: Final = (Size("clustered", 5_000, 1_000_000, 64, 100), Size("clustered", 20_000, 1_000_000, 64, 100))
"""Samples of users against a large catalogue, from Delta to Delta: what a million cost is worked out from both."""

GRID: Final = Size("random", 500, 50_000, 128, 100)
"""What the grid costs in accuracy, for every width and every kind that can be had before it is snapped."""

PARTS: Final = ("kernel", "grid", "peers", "spark", "million", "scaling")
SPARK_WAYS: Final = {
    "ours": OURS,
    "faiss": "faiss in mapInArrow",
    "torch": "torch in a pandas UDF",
    "als": "Spark ALS, seen items listed",
    "floor": "Spark without any search",
}
MANY_USERS: Final[dict[int, dict[int, tuple[str, ...]]]] = {
    128: {100_000: ("ours", "als", "floor"), 200_000: ("ours", "floor")},
    384: {100_000: ("ours", "floor")},
}
"""The ways by width and users; ALS takes minutes, and longer the wider vectors are."""


class Bench:
    """Makes worlds, measures them in child processes and keeps the rows."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self._limits: dict[tuple[Size, int], float] = {}
        # faiss brings an OpenBLAS that does not know newer processors: it is measured as installed, and at its best.
        self._faiss_kernel = {"OPENBLAS_CORETYPE": "SKYLAKEX" if "avx512f" in machine.flags else "HASWELL"}

    def world(self, size: Size) -> Path:
        """The folder of a world, made when it is first asked for; worlds do not depend on K."""
        folder = self.world_folder(size)
        if not folder.exists():
            world = make_world(size.kind, num_users=size.users, num_items=size.items, dim=size.dim, num_seen=NUM_SEEN)
            world.save(folder)
        return folder

    def world_folder(self, size: Size) -> Path:
        return self.folder / f"{size.kind}-{size.users}-{size.items}-{size.dim}"

    def limit(self, size: Size, threads: int = 1) -> float:
        """Seconds of the fastest product; all kinds and K of a shape share it."""
        shape = (replace(size, kind="", top_k=0), threads)
        if shape not in self._limits:
            found = self._measure("score_kernel", "limit", size, threads)
            self._limits[shape] = found["seconds"]
            self._add("limit", "limit", size, threads, found)
        return self._limits[shape]

    def kernel(self, size: Size, part: str = "kernel") -> None:
        self.limit(size)
        self._add(part, OURS, size, 1, self._measure("score_kernel", "ours", size, 1))

    def kernel_in_float32(self, size: Size) -> None:
        """What a processor without 8-bit products would take, if its float32 ones were as fast."""
        self.limit(size)
        self._add("kernel", OURS_IN_FLOAT32, size, 1, self._measure("score_kernel", "ours-float32", size, 1))

    def grid(self, size: Size) -> None:
        self.limit(size)
        self._add("grid", "snapping, lists against raw", size, 1, grid_cost(size))

    def peers(self, size: Size) -> None:
        self.limit(size)
        foreign = peers_python()
        for name, peer, variables in (
            ("implicit", "implicit", {}),
            ("faiss, as installed", "faiss", {}),
            ("faiss, best kernel", "faiss", self._faiss_kernel),
            ("faiss in batches, best kernel", "faiss-batches", self._faiss_kernel),
            ("numpy product and argpartition", "numpy", {}),
            ("torch.mm and topk", "torch", {}),
        ):
            python = sys.executable if peer in OF_THE_PLATFORM else foreign
            self._add("kernel", name, size, 1, self._measure("score_peers", peer, size, 1, python, **variables))

    def spark(self, size: Size, ways: Iterable[str] = tuple(SPARK_WAYS)) -> None:
        """Two cores against the limit of two threads; every Python worker has one."""
        self.limit(size, threads=2)
        self._measure("score_spark", "prepare", size, 1)
        workers = {"faiss": {"PYSPARK_PYTHON": str(peers_python()), **self._faiss_kernel}}
        for way in ways:
            found = self._measure("score_spark", way, size, 1, **workers.get(way, {}))
            self._add("floor" if way == "floor" else "spark", SPARK_WAYS[way], size, 2, found)

    def million(self, few: Size, many: Size) -> None:
        """What users cost beside what does not grow with them, as the item matrix, is the two times' difference."""
        seconds = []
        for size in (few, many):
            self.limit(size, threads=2)
            self._measure("score_spark", "prepare", size, 1)
            found = self._measure("score_spark", "ours", size, 1)
            seconds.append(found["seconds"])
            if size == many:
                a_user = (seconds[1] - seconds[0]) / (many.users - few.users)
                hours = (seconds[0] + a_user * (1_000_000 - few.users)) / 3600
                found["note"] += f"; {1e6 * a_user:.0f} us a user, {hours:.2f} h for a million on these two cores"
            self._add("million", OURS, size, 2, found)

    def _measure(
        self, module: str, what: str, size: Size, threads: int, python: object = sys.executable, **variables: str
    ) -> dict[str, Any]:
        command = [python, "-m", f"benchmarks.{module}", what, self.world(size), "--top-k", size.top_k]
        return run_child(command, child_environment(threads, **variables))

    def _add(self, part: str, name: str, size: Size, threads: int, found: dict[str, Any]) -> None:
        self.rows.append(Row(part, name, size, threads, ratio=found["seconds"] / self.limit(size, threads), **found))
        print(as_line(self.rows[-1]), flush=True)


def main() -> None:
    options = parse_arguments()
    machine = Machine.this()
    of_parts = [] if set(options.only) == set(PARTS) else options.only
    file = RESULTS / f"{'_'.join(['score', *of_parts, *['quick'] * options.quick])}.json"
    print(f"{machine}\n\n{heading()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), machine)
        try:
            measure(bench, options)
        finally:
            write_json(bench.rows, machine, file)
    print("\n".join(["", *slopes(bench.rows), *([] if options.quick else verdicts(bench.rows, machine))]))
    draw(bench.rows, machine, file.with_suffix(".svg"))
    print(f"\n  {file}, {file.with_suffix('.svg')}; load at the end {machine.load()}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, by comma: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK}th of users and items")
    parser.add_argument("--warehouse", type=Path, help="of `make run`: part kernel searches its vectors too")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"--only: wanted some of {', '.join(PARTS)}; found {', '.join(sorted(unknown))}")
    if options.warehouse and "kernel" not in options.only:
        parser.error("--warehouse: wanted part kernel in --only, which searches its vectors")
    return options


def measure(bench: Bench, options: argparse.Namespace) -> None:
    shrink = QUICK if options.quick else 1
    standard = [smaller(replace(STANDARD, dim=dim), shrink) for dim in DIMS]
    if "kernel" in options.only:
        real = [add_real(bench, options.warehouse.resolve())] if options.warehouse else []  # first: it may not be there
        made = [replace(size, kind=kind) for size, kind in itertools.product(standard, KINDS)]
        for size in [*made, *real]:
            bench.kernel(size)
        for size in made:
            bench.kernel_in_float32(size)
    if "grid" in options.only:
        for dim, kind in itertools.product(DIMS, UNSNAPPED):
            bench.grid(smaller(replace(GRID, dim=dim, kind=kind), shrink))
    for size in standard:
        if "peers" in options.only:
            bench.peers(size)
        if "spark" in options.only:
            bench.spark(size)
            for users, ways in MANY_USERS[size.dim].items():
                bench.spark(replace(size, users=users // shrink), ways)
    if "million" in options.only:
        bench.million(*(smaller(size, shrink) for size in MILLION))
    if "scaling" in options.only:
        for axis, values in SCALED.items():
            for value in values:
                bench.kernel(smaller(at(axis, value), shrink), part=f"by {axis}")


def at(axis: str, value: int) -> Size:
    """The standard size but for one axis."""
    changes: dict[str, Any] = {axis: value}
    return replace(STANDARD, **changes)


def smaller(size: Size, shrink: int) -> Size:
    return replace(size, users=size.users // shrink, items=size.items // shrink)


def add_real(bench: Bench, warehouse: Path) -> Size:
    """Puts the world of a warehouse's vectors among the made ones."""
    folder = bench.folder / "real"
    command = [sys.executable, "-m", "benchmarks.score_spark", "export", folder, "--warehouse", warehouse]
    run_child(command, child_environment(1))
    world = around(np.load(folder / "users.npy"), np.load(folder / "items.npy"), num_seen=NUM_SEEN)
    size = replace(
        STANDARD, kind="real", users=len(world.users_UD), items=len(world.items_ND), dim=world.items_ND.shape[1]
    )
    world.save(bench.world_folder(size))
    return size


if __name__ == "__main__":
    main()
