"""What the grid costs in accuracy: lists of snapped vectors against those of the unit vectors they were snapped from.

Both in float64, with no item excluded; equal scores by row of the item.

Axes: U users, N items, D dimensions, S users of a block, K list length.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from benchmarks.measure import best_seconds
from benchmarks.oracle import FloatArray
from benchmarks.score_rows import Size
from benchmarks.vectors import IntArray, make_unsnapped
from recsys_spark.kernels.grid import snap_to_grid

BLOCK_USERS: Final = 50
"""Users at a time: two tables of scores of 20 MB each for 50,000 items."""


def grid_cost(size: Size) -> dict[str, Any]:
    """Seconds to snap users and items, the mean overlap of the lists as `recall`, the largest difference as `note`."""
    raw_UD, raw_ND = make_unsnapped(size.kind, num_users=size.users, num_items=size.items, dim=size.dim)
    seconds, (snapped_UD, snapped_ND) = best_seconds(lambda: (snap_to_grid(raw_UD), snap_to_grid(raw_ND)))
    shared, difference = compare((_units(raw_UD), _units(raw_ND)), (snapped_UD, snapped_ND), top_k=size.top_k)
    return {"seconds": seconds, "recall": shared, "note": f"scores differ by {difference:.4f} at most"}


def compare(
    vectors: tuple[FloatArray, FloatArray], others: tuple[FloatArray, FloatArray], *, top_k: int
) -> tuple[float, float]:
    """For two worlds of users [U, D] and items [N, D]: the mean share of a user's list that is in the other one too,
    and the largest difference of any pair's scores."""
    shared, difference = 0, 0.0
    (users_UD, items_ND), (other_users_UD, other_items_ND) = vectors, others
    for first in range(0, len(users_UD), BLOCK_USERS):
        block = slice(first, first + BLOCK_USERS)
        scores_SN = _scores(users_UD[block], items_ND)
        other_scores_SN = _scores(other_users_UD[block], other_items_ND)
        difference = max(difference, float(np.abs(scores_SN - other_scores_SN).max()))
        lists = zip(_lists(scores_SN, top_k), _lists(other_scores_SN, top_k), strict=True)
        shared += sum(len(np.intersect1d(list_K, other_K)) for list_K, other_K in lists)
    return shared / (len(users_UD) * top_k), difference


def _scores(users_SD: FloatArray, items_ND: FloatArray) -> FloatArray:
    scores_SN: FloatArray = users_SD.astype(np.float64) @ items_ND.astype(np.float64).T
    return scores_SN


def _lists(scores_SN: FloatArray, top_k: int) -> IntArray:
    """The rows of the best K items, equal scores by row: a stable sort keeps them so."""
    return np.argsort(-scores_SN, axis=1, kind="stable")[:, :top_k]


def _units(vectors_ND: FloatArray) -> FloatArray:
    units_ND: FloatArray = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return units_ND
