"""Exact top-K of all user-item pairs, in less time than the float32 product of the two matrices takes.

The order is total: score descending, then `place` ascending, where an item's place is its number when all items are
sorted by item_id (bytes of UTF-8, as Spark sorts strings). Vectors lie on the grid of `kernels/grid.py`; therefore
scores are exact, and the lists are the same whatever the blocks, the processor, the product or its library.

How the catalogue is searched. Tiles of users x items go through a product of 8-bit copies of the vectors, at four
times the speed of float32. By Cauchy-Schwarz it bounds every score from above; pairs whose bound reaches the user's
floor (some 200 of 50,000 items for K = 100) are scored exactly, from whole numbers. Where the processor has no
8-bit products, tiles of exact float32 scores take their place, and so they do for users of a tile for whom the bound
says too little (thousands of equal items).

The floor. A user's K-th best score is known at the end only, so it is guessed as the search goes: after a share f of
the catalogue, whose order is random, the best of all reach about the (f K)-th best so far. A list is proven when K of
its pairs reach the highest guess; the few users for whom one was too high are searched again without guesses.

Dropped: rescoring at the end of all pairs within the error of the K-th (more of them, and their vectors are no longer
in the cache); a heap per user (its branches cost as much as the product); one floor per tile from the K-th largest
group maximum (three times the pairs to rescore); one scale for all items (a single odd vector makes all bounds wide);
`np.argpartition` of every full row (dearer than the product); over-fetching K and the longest history (one heavy
user slows all down).

Axes: U users, S users of a strip, N rows of the item matrix, T items of a tile, D dimensions, K list length, L places
for keys, E excluded pairs, P listed pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recsys_spark.kernels import scan
from recsys_spark.kernels.exclusions import ByteArray, Exclusions
from recsys_spark.kernels.grid import GRID_STEPS, Float32Array
from recsys_spark.kernels.item_matrix import (
    GROUP_ROWS,
    CoarseVectors,
    Int16Array,
    Int64Array,
    ItemMatrix,
    coarsen,
    grid_steps,
)
from recsys_spark.kernels.products import Products, multiply_coarse
from recsys_spark.kernels.scan import BLANK_PRODUCT, BLANK_SCORE, LOWEST, NO_PAIR, Guess, KeyArray, Lists

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TileShape:
    """Users and items whose products are made at a time."""

    users: int
    items: int


COARSE_TILE: Final = TileShape(256, 4096)
"""With an 8-bit first pass. 8 MiB took 1.0 to 1.2 times as long, 64 x 8,192 1.3 times, 128 x 49,152 1.4 times."""

EXACT_TILE: Final = TileShape(512, 2048)
"""With float32 products alone: 256 x 4,096 took 1.04 times as long at 384 dimensions, and the same at 128."""

DENSE_SHARE: Final = 8
"""A user for whom one in this many items of a tile reaches the floor gets exact scores of the whole tile: a rescored
pair costs about as much as eight from a product."""


@dataclass(frozen=True)
class TopLists:
    """U lists as keys, best first; a list shorter than K ends with NO_PAIR."""

    keys_UK: KeyArray

    @property
    def counts_U(self) -> Int64Array:
        """Length of each list."""
        counts_U: Int64Array = (self.keys_UK != NO_PAIR).sum(axis=1, dtype=np.int64)
        return counts_U

    @property
    def places_P(self) -> Int64Array:
        """Places of the listed items, users ascending, best first."""
        return (self._keys_P & np.uint64(0xFFFFFFFF)).astype(np.int64)

    @property
    def scores_P(self) -> Float32Array:
        """Their scores: cosines, exactly."""
        whole = np.int64(scan.UNIT) - (self._keys_P >> np.uint64(32)).astype(np.int64)
        return whole.astype(np.float32) / np.float32(scan.UNIT)

    @property
    def _keys_P(self) -> KeyArray:
        keys_P: KeyArray = self.keys_UK[self.keys_UK != NO_PAIR]
        return keys_P


@dataclass(frozen=True)
class Users:
    """U users ready to be searched for."""

    vectors_UD: Float32Array
    steps_UD: Int16Array

    @classmethod
    def of(cls, vectors_UD: Float32Array, *, dim: int) -> Users:
        """OffGridError when vectors are off the grid, ValueError when they are not as wide as the items."""
        return cls(vectors_UD, grid_steps(vectors_UD, "users", dim=dim))

    @cached_property
    def coarse(self) -> CoarseVectors:
        """Their 8-bit copies, made when first asked for: only a search by 8-bit products does."""
        return coarsen(self.vectors_UD)

    def of_rows(self, users_S: Int64Array) -> Users:
        return Users(self.vectors_UD[users_S], self.steps_UD[users_S])


def find_top_k(users: Users, items: ItemMatrix, *, top_k: int, products: Products, excluded: Exclusions) -> TopLists:
    """The K best items of every user that are not excluded; a list is short when there are fewer.

    One pass over the item matrix, tile by tile; a second one for the users whose guesses were too high.
    """
    if top_k < 1:
        raise ValueError(f"top-K: wanted top_k >= 1; found {top_k}")
    search = _Search(users, items, top_k, products, excluded)
    keys_UK, is_proven_U = search.run(with_guesses=True)
    again = np.flatnonzero(~is_proven_U)
    if len(again):
        search = _Search(users.of_rows(again), items, top_k, products, excluded.of_users(again))
        keys_UK[again], _ = search.run(with_guesses=False)
    return TopLists(keys_UK)


def readmit(lists: TopLists, users: Users, items: ItemMatrix, excluded: Exclusions) -> TopLists:
    """The lists as if the given pairs, all of them excluded from `lists`, had been allowed."""
    keys_UK = lists.keys_UK.copy()
    keys_E = scan.pair_keys(users.steps_UD, excluded.offsets_U1, excluded.rows_E, items.steps_ND, items.place_N)
    scan.merge_pairs(keys_UK, excluded.offsets_U1, keys_E)
    return TopLists(keys_UK)


def search_bytes(num_users: int, *, dim: int, top_k: int, num_excluded: int, num_segments: int) -> int:
    """Upper bound, in bytes, of what searching for one block of users holds beside the item matrix.

    Of a user: the vector as float32, whole numbers and 8 bits, with copies while these are made (24 a dimension); 2 K
    keys as kept, as masked and as sorted, and in two final lists (64 K). Of an excluded pair: 80 while pairs are
    sorted. And one tile, with a float32 copy of its users and two of its items, since oneDNN orders them anew.
    """
    shapes = (COARSE_TILE, EXACT_TILE)
    most_users, most_items = max(shape.users for shape in shapes), max(shape.items for shape in shapes)
    tile = 4 * max(shape.users * shape.items for shape in shapes) + 4 * dim * (most_users + 2 * most_items)
    tile += most_items * (16 + min(num_segments, num_users))
    return tile + num_users * (24 * dim + 64 * top_k + 64) + 80 * num_excluded


class _Search:
    """One pass of some users over the item matrix."""

    def __init__(self, users: Users, items: ItemMatrix, top_k: int, products: Products, excluded: Exclusions) -> None:
        self._users, self._items, self._top_k = users, items, top_k
        self._products, self._excluded = products, excluded
        self._shape = COARSE_TILE if products.is_coarse else EXACT_TILE
        self._num_users = len(users.vectors_UD)
        self._segments_G, self._segment_of_U = np.unique(excluded.segments_U, return_inverse=True)
        self._lists = Lists(
            keys_UL=np.full((self._num_users, 2 * top_k), NO_PAIR, dtype=np.uint64),
            counts_U=np.zeros(self._num_users, dtype=np.int64),
            cutoffs_U=np.full(self._num_users, NO_PAIR, dtype=np.uint64),
            claims_U=np.full(self._num_users, LOWEST, dtype=np.int64),
        )
        self._buffer = np.empty(self._shape.users * self._shape.items, dtype=np.int32)

    def run(self, *, with_guesses: bool) -> tuple[KeyArray, BoolArray]:
        """Sorted keys [U, K], and whose lists are proven."""
        num_rows = len(self._items.steps_ND)
        for start in range(0, num_rows, self._shape.items):
            stop = min(start + self._shape.items, num_rows)
            guess = self._guess(start, stop) if with_guesses else Guess(self._top_k, from_tile=False)
            self._scan_tile(start, stop, guess)
        keys_UK = np.sort(_kept(self._lists), axis=1)[:, : self._top_k]
        worst_U = np.int64(scan.UNIT) - (keys_UK[:, -1] >> np.uint64(32)).astype(np.int64)
        is_full_U = keys_UK[:, -1] != NO_PAIR
        return keys_UK, (self._lists.claims_U <= -scan.UNIT) | (is_full_U & (worst_U >= self._lists.claims_U))

    def _guess(self, start: int, stop: int) -> Guess:
        """Three standard deviations of a Poisson count above the number of the final list's items to be expected.

        Claims are raised at tiles 0, 1, 2, 4, 8, …: in between they would hardly move, and raising costs.
        """
        tile = start // self._shape.items
        if tile & (tile - 1) and tile:
            return Guess(0, from_tile=False)
        expected = self._top_k * (start or stop) / max(1, self._items.num_items)
        rank = min(self._top_k, math.ceil(expected + 3 * math.sqrt(expected) + 3))
        return Guess(rank, from_tile=start == 0)

    def _scan_tile(self, start: int, stop: int, guess: Guess) -> None:
        items, exact_TD = self._items, _Lazy(self._items.steps_ND[start:stop])
        groups = (stop - start) // GROUP_ROWS
        places_T = items.place_N[start:stop]
        is_barred_GT = self._excluded.barred_tile(self._segments_G, start, stop)
        side = scan.CoarseSide(
            items.steps_ND[start:stop], items.coarse.scale_N[start:stop], items.coarse.error_N[start:stop]
        )
        worst_error = np.float32((side.error_N / side.scale_N).max() * (1 + 2**-20))
        for first in range(0, self._num_users, self._shape.users):
            users_S = np.arange(first, min(first + self._shape.users, self._num_users))
            vectors_SD = self._users.vectors_UD[first : first + self._shape.users]
            if self._products.is_coarse:
                products_ST = self._tile(len(users_S), stop - start, np.int32)
                coarse_UC, scale_U, error_U = self._users.coarse
                sides = scan.CoarseSide(self._users.steps_UD, scale_U, error_U)
                coarse_SC = coarse_UC[first : first + self._shape.users]
                multiply_coarse(coarse_SC, items.coarse.coarse_NC[start:stop], products_ST)
                self._blank(products_ST, users_S, start, is_barred_GT, BLANK_PRODUCT)
                is_left_S = scan.scan_coarse(
                    products_ST, first, sides, side, places_T, self._lists, guess, self._top_k, groups,
                    worst_error, (stop - start) // DENSE_SHARE,
                )  # fmt: skip
                users_S, vectors_SD = users_S[is_left_S], vectors_SD[is_left_S]
            if len(users_S):
                scores_ST = self._tile(len(users_S), stop - start, np.float32)
                self._products.multiply(vectors_SD, exact_TD.vectors, scores_ST)
                self._blank(scores_ST, users_S, start, is_barred_GT, BLANK_SCORE)
                scan.scan_exact(scores_ST, users_S, places_T, self._lists, guess, self._top_k, groups)

    def _tile(self, num_users: int, num_items: int, dtype: type) -> npt.NDArray[Any]:
        return self._buffer[: num_users * num_items].view(dtype).reshape(num_users, num_items)

    def _blank(
        self, tile_ST: npt.NDArray[Any], users_S: Int64Array, start: int, is_barred_GT: ByteArray, blank: float
    ) -> None:
        tile_ST[:, max(0, self._items.num_items - start) :] = blank
        excluded = self._excluded
        scan.blank_pairs(tile_ST, users_S, excluded.offsets_U1, excluded.rows_E, start, blank)
        if len(is_barred_GT):
            scan.blank_barred(tile_ST, self._segment_of_U[users_S], is_barred_GT, blank)


class _Lazy:
    """Float32 vectors of a tile, made when a user needs them."""

    def __init__(self, steps_TD: Int16Array) -> None:
        self._steps_TD = steps_TD
        self._vectors_TD: Float32Array | None = None

    @property
    def vectors(self) -> Float32Array:
        if self._vectors_TD is None:
            self._vectors_TD = self._steps_TD.astype(np.float32)
            self._vectors_TD *= np.float32(1 / GRID_STEPS)
        return self._vectors_TD


def _kept(lists: Lists) -> KeyArray:
    is_kept = np.arange(lists.keys_UL.shape[1]) < lists.counts_U[:, None]
    return np.where(is_kept, lists.keys_UL, NO_PAIR)
