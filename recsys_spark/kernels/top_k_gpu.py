"""Exact top-K on a GPU: the same lists as `kernels/top_k.py`, bit for bit, by plain float32 products.

On the grid every float32 product and sum is exact in any order, so a GPU's scores are the CPU's. TF32 and other reduced
modes would round: they are switched off while scores are made. Keys (score and place in one whole number, smaller is
better) make `torch.topk` obey the total order, ties included, which its order of equal scores would not.

A GPU has products to spare and little patience for branches: there is no first pass in 8 bits here. Tests run this code
on the CPU, where it gives what it gives on a GPU.

Axes: U users, S users of a strip, T items of a tile, D dimensions, K list length, E excluded pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import Tensor

from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.grid import GRID_STEPS, Float32Array
from recsys_spark.kernels.item_matrix import ItemMatrix
from recsys_spark.kernels.scan import NO_PAIR, UNIT
from recsys_spark.kernels.top_k import TopLists

TILE_USERS: Final = 4096
TILE_ITEMS: Final = 8192
"""256 MiB of keys, and as much again while `topk` runs."""

_NO_KEY: Final = 2**63 - 1
"""NO_PAIR as a signed number: worse than any key."""


def find_top_k_on(
    device: torch.device, users_UD: Float32Array, items: ItemMatrix, *, top_k: int, excluded: Exclusions
) -> TopLists:
    """The K best items of every user that are not excluded, worked out on `device`."""
    keys_UK = np.full((len(users_UD), top_k), NO_PAIR, dtype=np.uint64)
    with _exact_products():
        for first in range(0, len(users_UD), TILE_USERS):
            users_S = np.arange(first, min(first + TILE_USERS, len(users_UD)))
            strip = excluded.of_users(users_S)
            users_SD = torch.from_numpy(users_UD[users_S]).to(device)
            best_SK = torch.full((len(users_S), top_k), _NO_KEY, dtype=torch.int64, device=device)
            for start in range(0, items.num_items, TILE_ITEMS):
                keys_ST = _tile_keys(users_SD, items, start)
                _blank(keys_ST, strip, start)
                best_SK = torch.topk(torch.cat([best_SK, keys_ST], dim=1), top_k, largest=False).values
            found_SK = best_SK.cpu().numpy().astype(np.uint64)
            keys_UK[users_S] = np.where(found_SK == _NO_KEY, NO_PAIR, found_SK)
    return TopLists(keys_UK)


def _tile_keys(users_SD: Tensor, items: ItemMatrix, start: int) -> Tensor:
    stop = min(start + TILE_ITEMS, items.num_items)
    steps_TD = torch.from_numpy(np.ascontiguousarray(items.steps_ND[start:stop])).to(users_SD.device)
    places_T = torch.from_numpy(items.place_N[start:stop].astype(np.int64)).to(users_SD.device)
    scores_ST = users_SD @ (steps_TD.float() / GRID_STEPS).T
    return ((UNIT - (scores_ST * UNIT).long()) << 32) | places_T


def _blank(keys_ST: Tensor, excluded: Exclusions, start: int) -> None:
    is_here_E = (excluded.rows_E >= start) & (excluded.rows_E < start + keys_ST.shape[1])
    users_E = np.repeat(np.arange(len(keys_ST)), np.diff(excluded.offsets_U1))[is_here_E]
    columns_E = excluded.rows_E[is_here_E] - start
    keys_ST[torch.from_numpy(users_E).to(keys_ST.device), torch.from_numpy(columns_E).to(keys_ST.device)] = _NO_KEY
    if len(excluded.barred_GB):
        segments_G, numbers_S = np.unique(excluded.segments_U, return_inverse=True)
        is_barred_GT = torch.from_numpy(excluded.barred_tile(segments_G, start, start + keys_ST.shape[1]))
        is_barred_ST = is_barred_GT.to(keys_ST.device, torch.bool)[torch.from_numpy(numbers_S).to(keys_ST.device)]
        keys_ST.masked_fill_(is_barred_ST, _NO_KEY)


@contextmanager
def _exact_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
