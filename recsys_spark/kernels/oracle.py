"""The lists by the plainest means, to check a run against: every score in float64, a sort, a walk down the order.

It shares nothing with the search but the item matrix, its keys and what is excluded.

Axes: U users, K list length, M items (rows of the item matrix), T of them at a time, D dimensions, C caps.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from recsys_spark.kernels.caps import Caps
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.grid import GRID_STEPS, Float32Array
from recsys_spark.kernels.item_matrix import Int64Array, ItemMatrix
from recsys_spark.kernels.scan import NO_PAIR, UNIT, KeyArray
from recsys_spark.kernels.top_k import BoolArray

_ITEMS_AT_A_TIME: Final = 2**14


def oracle_keys(
    vectors_UD: Float32Array,
    items: ItemMatrix,
    *,
    top_k: int,
    excluded: Exclusions,
    caps: Caps | None,
    most_C: Int64Array,
) -> KeyArray:
    """The lists [U, K] as keys of kernels/scan.py, best first; a second and more for a user and ten million items."""
    keys_UK = np.full((len(vectors_UD), top_k), NO_PAIR, dtype=np.uint64)
    for user, vector_D in enumerate(vectors_UD):
        keys_M = _keys_of_all(vector_D, items)
        keys_M = np.sort(keys_M[_is_allowed(excluded, user, items.num_items)])
        listed = keys_M[:top_k] if caps is None else _walk(keys_M, top_k, caps, most_C)
        keys_UK[user, : len(listed)] = listed
    return keys_UK


def oracle_bytes(num_items: int, dim: int) -> int:
    """Upper bound of what one user takes: a key with copies while they are sorted, flags, and a part's vectors."""
    return 40 * num_items + 10 * dim * _ITEMS_AT_A_TIME


def _keys_of_all(vector_D: Float32Array, items: ItemMatrix) -> KeyArray:
    keys_M = np.empty(items.num_items, dtype=np.uint64)
    for start in range(0, items.num_items, _ITEMS_AT_A_TIME):
        part = slice(start, min(start + _ITEMS_AT_A_TIME, items.num_items))
        scores_T = items.steps_ND[part].astype(np.float64) / GRID_STEPS @ vector_D.astype(np.float64)
        keys_M[part] = (UNIT - scores_T * UNIT).astype(np.uint64) << np.uint64(32) | items.place_N[part]
    return keys_M


def _is_allowed(excluded: Exclusions, user: int, num_items: int) -> BoolArray:
    is_allowed_M = np.ones(num_items, dtype=np.bool_)
    if len(excluded.barred_GB):
        bits_B = excluded.barred_GB[excluded.segments_U[user]]
        is_allowed_M = np.unpackbits(bits_B, count=num_items, bitorder="little") == 0
    is_allowed_M[excluded.rows_E[excluded.offsets_U1[user] : excluded.offsets_U1[user + 1]]] = False
    return is_allowed_M


def _walk(keys_M: KeyArray, top_k: int, caps: Caps, most_C: Int64Array) -> list[np.uint64]:
    """Down a user's order, past every item one of whose groups has its number."""
    listed: list[np.uint64] = []
    counts: Counter[tuple[int, int]] = Counter()
    for key in keys_M:
        groups = [(cap, group) for cap, group in enumerate(caps.groups_CM[:, np.uint32(key)].tolist()) if group >= 0]
        if all(counts[group] < most_C[group[0]] for group in groups):
            listed.append(key)
            counts.update(groups)
            if len(listed) == top_k:
                break
    return listed
