"""The limit of every ratio: the fastest float32 product of all users with all items that numpy or torch gives here.

The output stands ready and is used again for every tile, so nothing is allocated and little goes to main memory. Which
library, precision mode and tile is fastest differs between processors: all are tried on some users, the best three are
timed on all, since a busy moment of the trial may hit the best.

Axes: U users, N items, D dimensions, S users of a tile, T items of a tile.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from benchmarks.measure import best_seconds
from recsys_spark.kernels.grid import Float32Array

Product = Callable[[Float32Array, Float32Array, Float32Array], None]
"""Writes users_SD @ items_TD.T into out_ST."""

_TILES: Final = ((256, 2048), (512, 2048), (256, 8192), (1024, 8192), (4096, 8192))
_TRIAL_USERS: Final = 2048
_FINALISTS: Final = 3


def fastest_product(users_UD: Float32Array, items_ND: Float32Array) -> tuple[float, str]:
    """Seconds of the fastest product of all pairs, and which one it was."""
    trial_UD = users_UD[:_TRIAL_USERS]
    contenders = itertools.product(_PRODUCTS, _TILES)
    best = sorted(contenders, key=lambda contender: _seconds(contender, trial_UD, items_ND))[:_FINALISTS]
    seconds, (name, tile) = min((_seconds(contender, users_UD, items_ND), contender) for contender in best)
    return seconds, f"{name}, tiles of {tile[0]} x {tile[1]:,}"


def _seconds(contender: tuple[str, tuple[int, int]], users_UD: Float32Array, items_ND: Float32Array) -> float:
    name, tile = contender
    product, ready = _PRODUCTS[name], np.zeros(tile[0] * tile[1], dtype=np.float32)

    def multiply() -> None:
        for start in range(0, len(items_ND), tile[1]):
            items_TD = items_ND[start : start + tile[1]]
            for first in range(0, len(users_UD), tile[0]):
                users_SD = users_UD[first : first + tile[0]]
                num_scores = len(users_SD) * len(items_TD)
                product(users_SD, items_TD, ready[:num_scores].reshape(len(users_SD), -1))

    return best_seconds(multiply)[0]


def _numpy(users_SD: Float32Array, items_TD: Float32Array, out_ST: Float32Array) -> None:
    np.matmul(users_SD, items_TD.T, out=out_ST)


def _torch_at(precision: str) -> Product:
    def product(users_SD: Float32Array, items_TD: Float32Array, out_ST: Float32Array) -> None:
        torch.set_float32_matmul_precision(precision)
        torch.mm(torch.from_numpy(users_SD), torch.from_numpy(items_TD).T, out=torch.from_numpy(out_ST))

    return product


_PRODUCTS: Final[dict[str, Product]] = {
    "numpy": _numpy,
    "torch at precision highest": _torch_at("highest"),
    "torch at precision medium": _torch_at("medium"),
}
