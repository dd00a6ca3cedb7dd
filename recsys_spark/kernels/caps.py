"""Lists that hold at most so many items of a group: of one category, of one seller.

A capped list is what one gets by going down a user's whole order and passing over every item one of whose groups has
its number already. The search finds the top of that order, longer than the list; users whose list is not full then are
searched again, without the items of groups that have their number. Every round fills a list, ends the catalogue, or
closes a group, so it ends, and nothing is assumed about how many items a group has.

Axes: U users, S users searched for again, K list length, F found keys, C caps, G groups (G1: and the end), M items,
N rows of the item matrix, B = N / 8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recsys_spark.kernels.compiled import compiled
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.item_matrix import Int32Array, Int64Array, ItemMatrix
from recsys_spark.kernels.scan import NO_PAIR, KeyArray
from recsys_spark.kernels.top_k import TopLists, Users

FETCH: Final = 2
"""Length of what is searched for, in lists."""

MAX_BITS_BYTES: Final = 2**26
"""Bits of barred items, of users that are searched again at a time: each has bits of its own."""

Find = Callable[[Users, int, Exclusions], TopLists]


class Caps(NamedTuple):
    """Each item's group for each cap, and the items of each group.

    `groups_CM` numbers an item's group by its place, from 0; -1 is none. `rows_CM` are all rows of the item matrix,
    group by group: those of group g are `rows_CM[c, starts_CG1[c, g]:starts_CG1[c, g + 1]]`.
    """

    groups_CM: Int32Array
    rows_CM: Int32Array
    starts_CG1: Int64Array

    @classmethod
    def of(cls, groups_CM: Int32Array, items: ItemMatrix) -> Caps:
        """Of the groups by place, of one cap at least."""
        num_groups = int(groups_CM.max(initial=-1)) + 1
        rows_CM = np.empty_like(groups_CM)
        starts_CG1 = np.empty((len(groups_CM), num_groups + 1), dtype=np.int64)
        for groups_M, rows_M, starts_G1 in zip(groups_CM, rows_CM, starts_CG1, strict=True):
            groups_by_row_M = groups_M[items.place_N[: items.num_items]]
            rows_M[:] = np.argsort(groups_by_row_M, kind="stable")  # those without a group come first
            np.cumsum(np.bincount(groups_by_row_M + 1, minlength=num_groups + 1), out=starts_G1)
        return cls(groups_CM, rows_CM, starts_CG1)


def find_capped(
    find: Find, users: Users, items: ItemMatrix, *, top_k: int, excluded: Exclusions, caps: Caps, most_C: Int64Array
) -> TopLists:
    """The capped list of every user, with at most `most_C` items of a group for each cap, and each at least 1.

    `find(users, length, excluded)` gives the lists without caps.
    """
    length = min(FETCH * top_k, items.num_items)
    keys_UK = np.full((excluded.num_users, top_k), NO_PAIR, dtype=np.uint64)
    is_open_U = _extend(keys_UK, find(users, length, excluded), caps, most_C)
    for open_S in _portions(np.flatnonzero(is_open_U), len(items.steps_ND) // 8):
        while len(open_S):
            keys_SK = keys_UK[open_S]
            rest = _without_closed(excluded.of_users(open_S), keys_SK, items, caps, most_C)
            is_open_S = _extend(keys_SK, find(users.of_rows(open_S), length, rest), caps, most_C)
            del rest  # or there would be two in the next round
            keys_UK[open_S] = keys_SK
            open_S = open_S[is_open_S]
    return TopLists(keys_UK)


def _portions(users_S: Int64Array, bytes_of_user: int) -> Iterator[Int64Array]:
    size = max(1, MAX_BITS_BYTES // max(1, bytes_of_user))
    return (users_S[start : start + size] for start in range(0, len(users_S), size))


def _without_closed(
    excluded: Exclusions, keys_UK: KeyArray, items: ItemMatrix, caps: Caps, most_C: Int64Array
) -> Exclusions:
    """The exclusions, and for each user what is listed already and the groups that have their number."""
    bits_UB = np.zeros((excluded.num_users, len(items.steps_ND) // 8), dtype=np.uint8)
    if len(excluded.barred_GB):
        np.take(excluded.barred_GB, excluded.segments_U, axis=0, out=bits_UB, mode="clip")  # "raise" makes a copy
    _bar_listed(bits_UB, keys_UK, items.idx_of_place_M, items.row_of_idx_I)
    _bar_closed(bits_UB, keys_UK, caps, most_C)
    return excluded.barring(np.arange(excluded.num_users), bits_UB)


def _extend(keys_UK: KeyArray, found: TopLists, caps: Caps, most_C: Int64Array) -> npt.NDArray[np.bool_]:
    """Grow the lists by what was found, in place; whose list is neither full nor at the end of the catalogue."""
    _extend_lists(keys_UK, found.keys_UK, caps.groups_CM, most_C)
    is_open_U: npt.NDArray[np.bool_] = (keys_UK[:, -1] == NO_PAIR) & (found.keys_UK[:, -1] != NO_PAIR)
    return is_open_U


@compiled
def _extend_lists(
    keys_UK: KeyArray, found_UF: KeyArray, groups_CM: npt.NDArray[np.int32], most_C: npt.NDArray[np.int64]
) -> None:
    for u in range(len(keys_UK)):
        count = 0
        while count < keys_UK.shape[1] and keys_UK[u, count] != NO_PAIR:
            count += 1
        for key in found_UF[u]:
            if count == keys_UK.shape[1] or key == NO_PAIR:
                break
            is_open = True
            for cap in range(len(most_C)):
                group, num_listed = groups_CM[cap, np.uint32(key)], 0
                if group >= 0:
                    for k in range(count):
                        num_listed += groups_CM[cap, np.uint32(keys_UK[u, k])] == group
                    is_open &= num_listed < most_C[cap]
            if is_open:
                keys_UK[u, count] = key
                count += 1


@compiled
def _bar_listed(
    bits_UB: npt.NDArray[np.uint8],
    keys_UK: KeyArray,
    idx_of_place_M: npt.NDArray[np.int32],
    row_of_idx_I: npt.NDArray[np.int32],
) -> None:
    """Bar each user's listed items."""
    for u in range(len(keys_UK)):
        for key in keys_UK[u]:
            if key != NO_PAIR:
                row = row_of_idx_I[idx_of_place_M[np.uint32(key)]]
                bits_UB[u, row >> 3] |= np.uint8(1) << np.uint8(row & 7)


@compiled
def _bar_closed(bits_UB: npt.NDArray[np.uint8], keys_UK: KeyArray, caps: Caps, most_C: npt.NDArray[np.int64]) -> None:
    """Bar all items of the groups of which a user's list holds as many as it may."""
    num_listed_G1 = np.zeros(caps.starts_CG1.shape[1], dtype=np.int64)  # the last one: no group, -1
    for cap in range(len(most_C)):
        for u in range(len(keys_UK)):
            for key in keys_UK[u]:
                group = caps.groups_CM[cap, np.uint32(key)] if key != NO_PAIR else -1
                if group >= 0:
                    num_listed_G1[group] += 1
                    if num_listed_G1[group] == most_C[cap]:
                        for row in caps.rows_CM[cap, caps.starts_CG1[cap, group] : caps.starts_CG1[cap, group + 1]]:
                            bits_UB[u, row >> 3] |= np.uint8(1) << np.uint8(row & 7)
            for key in keys_UK[u]:
                if key != NO_PAIR:
                    num_listed_G1[caps.groups_CM[cap, np.uint32(key)]] = 0
