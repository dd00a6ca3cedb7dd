"""Exact top-K of all user-item pairs: users stay, item blocks stream by, a running K per user is kept.

The order is total: score descending, then `place` ascending, where an item's place is its number when all
items are sorted by item_id (bytes of UTF-8, as Spark sorts strings). Score and place are packed into one
uint64, so that "better" is "smaller" and one integer comparison decides everything:

    key = (0xFFFFFFFF - ordered bits of the float32 score) << 32 | place

Vectors lie on the grid of `kernels/grid.py`; therefore scores are exact, and the lists are the same whatever
the block sizes, the order of the blocks, the processor or the BLAS.

How a block is searched. Its columns are dealt into groups of `width`; the maximum of every group is one
vectorised pass. The K-th largest group maximum is a lower bound of the K-th best score (K different groups
hold an item at least that good), which serves as threshold while the running list is not yet a good one.
Afterwards the running K-th best score is the threshold. Only groups whose maximum reaches the threshold are
looked into, only items that reach it (ties included) become keys, and only keys below the running K-th are
merged. No full row is ever sorted.

Excluded pairs (items a user has had) are set to minus infinity before the search, so lists stay full while
candidates exist. Their scores are kept on the side: the list *with* them is the K best of the list without
them and of these pairs, so both seen rules cost one pass.

Dropped: `np.argpartition` of every full row (dearer than the product itself at D = 128); over-fetching K and
the longest history, and filtering later (one heavy user slows all down); resolving ties by comparing strings.

Axes: U users, N items of a block, D dimensions, K list length, E excluded pairs, S rows of a strip, G groups,
P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recsys_spark.kernels.grid import Float32Array, is_on_grid

IntArray = npt.NDArray[np.integer[Any]]
Int64Array = npt.NDArray[np.int64]
KeyArray = npt.NDArray[np.uint64]

STRIP_BYTES: Final = 8 * 2**20
"""Scores searched in one go (256 users x 8,192 items). At D = 128 on a shared machine 4, 8 and 16 MiB could not be
told apart; 32 MiB took about 1.3 times as long."""

MAX_GROUP_WIDTH: Final = 16
"""Columns per group. Wider groups mean fewer maxima, but more items looked at for each survivor."""

NO_PAIR: Final = np.uint64(2**64 - 1)
"""The key of an empty place: worse than any pair, since its score bits would be those of a NaN."""

_LOWEST: Final = np.finfo(np.float32).min
_EXCLUDED: Final = np.float32(-np.inf)
_BITS_OF_SIGN: Final = np.uint32(0x80000000)
_ALL_BITS: Final = np.uint32(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


@dataclass(frozen=True)
class ItemBlock:
    """N items: `vectors_ND` on the grid, `places_N` (order of ties), `item_idx_N` (names in exclusions).

    Places and item_idx are unique over all blocks; places lie in [0, 2^32 - 1).
    """

    vectors_ND: Float32Array
    places_N: IntArray
    item_idx_N: IntArray


@dataclass(frozen=True)
class Exclusions:
    """E pairs that may not be listed, sorted by (user row, item_idx), without repetition, as CSR.

    User u's items are `item_idx_E[offsets_U1[u]:offsets_U1[u + 1]]`. Items that are in no block are ignored.
    """

    offsets_U1: IntArray
    item_idx_E: IntArray

    @classmethod
    def from_pairs(cls, rows_P: IntArray, item_idx_P: IntArray, *, num_users: int) -> Exclusions:
        """Sort and deduplicate pairs given in any order; `rows_P` lie in [0, num_users)."""
        order = np.lexsort((item_idx_P, rows_P))
        rows, items = rows_P[order], item_idx_P[order]
        is_new = np.ones(len(rows), dtype=bool)
        is_new[1:] = (rows[1:] != rows[:-1]) | (items[1:] != items[:-1])
        counts = np.bincount(rows[is_new], minlength=num_users)
        return cls(np.concatenate([[0], np.cumsum(counts)]), items[is_new])


@dataclass(frozen=True)
class TopLists:
    """P listed pairs, users ascending, best first; `counts_U` (at most K) tells where lists end."""

    counts_U: Int64Array
    places_P: Int64Array
    scores_P: Float32Array

    @property
    def rows_P(self) -> Int64Array:
        """User row of each pair."""
        return np.repeat(np.arange(len(self.counts_U)), self.counts_U)

    @property
    def ranks_P(self) -> Int64Array:
        """Rank of each pair within its list, from 1."""
        starts = np.cumsum(self.counts_U) - self.counts_U
        return np.arange(len(self.places_P)) - np.repeat(starts, self.counts_U) + 1


class RunningTopK:
    """The K best items of U users among the item blocks seen so far.

    running = RunningTopK(users_UD, top_k=100, excluded=excluded)
    for block in item_blocks:
        running.update(block)
    drop, keep = running.lists(), running.lists_with_excluded()
    """

    def __init__(self, users_UD: Float32Array, *, top_k: int, excluded: Exclusions | None = None) -> None:
        _require(top_k >= 1, f"top_k >= 1; found {top_k}")
        _require_vectors(users_UD, "users")
        self._users_UD = users_UD
        self._top_k = top_k
        self._keys_UK = np.full((len(users_UD), top_k), NO_PAIR, dtype=np.uint64)
        self._excluded = _ExcludedPairs(excluded or _no_exclusions(len(users_UD)), num_users=len(users_UD))

    def update(self, block: ItemBlock) -> None:
        """Let the block's items compete. ValueError when it is off the grid or does not fit together."""
        _require_block(block, dim=self._users_UD.shape[1])
        num_items = len(block.vectors_ND)
        if not num_items:
            return
        width = group_width(num_items, self._top_k)
        num_groups = -(-num_items // width)
        places_N = block.places_N.astype(np.uint64)
        pairs = self._excluded.locate(block.item_idx_N)
        rows_at_once = strip_rows(num_items)
        scores_SN = np.full((min(rows_at_once, len(self._users_UD)), num_groups * width), _EXCLUDED)
        for start in range(0, len(self._users_UD), rows_at_once):
            stop = min(start + rows_at_once, len(self._users_UD))
            strip_SN = scores_SN[: stop - start]
            np.matmul(self._users_UD[start:stop], block.vectors_ND.T, out=strip_SN[:, :num_items])
            self._excluded.take_out(pairs, strip_SN, start, stop, places_N)
            keys_SK = self._keys_UK[start:stop]
            rows_P, columns_P, scores_P = find_survivors(strip_SN, keys_SK, width)
            merge_pairs(keys_SK, rows_P, pack_keys(scores_P, places_N[columns_P]))

    def lists(self) -> TopLists:
        """The lists without the excluded pairs (all pairs compete when none were given)."""
        return _unpack_lists(self._keys_UK)

    def lists_with_excluded(self) -> TopLists:
        """The lists as if nothing had been excluded."""
        keys_UK, pairs = self._keys_UK.copy(), self._excluded
        rows_at_once = strip_rows(self._top_k + pairs.longest)
        for start in range(0, len(keys_UK), rows_at_once):
            first, last = np.searchsorted(pairs.rows_E, [start, start + rows_at_once])
            strip_SK = keys_UK[start : start + rows_at_once]
            merge_pairs(strip_SK, pairs.rows_E[first:last] - start, pairs.keys_E[first:last])
        return _unpack_lists(keys_UK)


class _ExcludedPairs:
    """The excluded pairs of the users of one `RunningTopK`, and the keys of those met so far."""

    def __init__(self, excluded: Exclusions, *, num_users: int) -> None:
        offsets, num_pairs = excluded.offsets_U1, len(excluded.item_idx_E)
        counts = np.diff(offsets)
        is_csr = len(offsets) == num_users + 1 and offsets[0] == 0 and offsets[-1] == num_pairs
        _require(
            bool(is_csr and (counts >= 0).all()),
            f"ascending offsets from 0 to {num_pairs} for {num_users} users",
        )
        self.longest = int(counts.max(initial=0))
        self.rows_E = np.repeat(np.arange(num_users), counts)
        same_user = np.diff(self.rows_E) == 0
        _require(bool((np.diff(excluded.item_idx_E)[same_user] > 0).all()), "item_idx ascending for each user")
        self.keys_E = np.full(num_pairs, NO_PAIR, dtype=np.uint64)
        self._item_idx, self._item_of_pair_E = np.unique(excluded.item_idx_E, return_inverse=True)
        self._column_of_item = np.full(len(self._item_idx), -1, dtype=np.int64)

    def locate(self, item_idx_N: IntArray) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Which excluded pairs lie in a block: (pair, user row, column), by user row."""
        if not len(self.keys_E):
            return self.rows_E, self.rows_E, self.rows_E
        slots = np.searchsorted(self._item_idx, item_idx_N)
        columns = np.flatnonzero(self._item_idx[np.minimum(slots, len(self._item_idx) - 1)] == item_idx_N)
        self._column_of_item[slots[columns]] = columns
        columns_E = self._column_of_item[self._item_of_pair_E]
        self._column_of_item[slots[columns]] = -1
        pairs = np.flatnonzero(columns_E >= 0)
        return pairs, self.rows_E[pairs], columns_E[pairs]

    def take_out(
        self,
        located: tuple[Int64Array, Int64Array, Int64Array],
        strip_SN: Float32Array,
        start: int,
        stop: int,
        places_N: KeyArray,
    ) -> None:
        """Keep the keys of the pairs of users [start, stop) and set their scores to minus infinity."""
        pairs, rows, columns = located
        first, last = np.searchsorted(rows, [start, stop])
        rows, columns = rows[first:last] - start, columns[first:last]
        self.keys_E[pairs[first:last]] = pack_keys(strip_SN[rows, columns], places_N[columns])
        strip_SN[rows, columns] = _EXCLUDED


def find_survivors(
    scores_SN: Float32Array, keys_SK: KeyArray, width: int
) -> tuple[Int64Array, Int64Array, Float32Array]:
    """Every pair that may enter the running lists: (row, column, score), rows ascending; `width` divides N.

    Pairs at the threshold are among them: the place decides later. Minus infinity never is.
    """
    num_rows, top_k = keys_SK.shape
    grouped_SWG = scores_SN.reshape(num_rows, width, -1)
    maxima_SG = grouped_SWG.max(axis=1) if width > 1 else scores_SN
    threshold_S = unpack_scores(keys_SK.max(axis=1))
    num_groups = maxima_SG.shape[1]
    if num_groups > top_k:
        is_open = np.count_nonzero(maxima_SG >= threshold_S[:, None], axis=1) > 2 * top_k
        if is_open.any():
            bound = np.partition(maxima_SG[is_open], num_groups - top_k, axis=1)[:, num_groups - top_k]
            threshold_S[is_open] = np.maximum(threshold_S[is_open], np.maximum(bound, _LOWEST))
    rows_H, groups_H = np.nonzero(maxima_SG >= threshold_S[:, None])
    hit_scores_HW = grouped_SWG[rows_H, :, groups_H]
    hits_P, slots_P = np.nonzero(hit_scores_HW >= threshold_S[rows_H, None])
    return rows_H[hits_P], slots_P * num_groups + groups_H[hits_P], hit_scores_HW[hits_P, slots_P]


def merge_pairs(keys_SK: KeyArray, rows_P: Int64Array, keys_P: KeyArray) -> None:
    """Let the pairs (rows ascending) compete for the running lists, in place; these stay unsorted."""
    top_k = keys_SK.shape[1]
    better = keys_P < keys_SK.max(axis=1)[rows_P]
    rows_P, keys_P = rows_P[better], keys_P[better]
    counts_S = np.bincount(rows_P, minlength=len(keys_SK))
    touched = np.flatnonzero(counts_S)
    if not len(touched):
        return
    counts = counts_S[touched]
    starts = np.cumsum(counts) - counts
    slots_P = np.arange(len(rows_P)) - np.repeat(starts, counts)
    pool = np.full((len(touched), top_k + counts.max()), NO_PAIR, dtype=np.uint64)
    pool[:, :top_k] = keys_SK[touched]
    pool[np.repeat(np.arange(len(touched)), counts), top_k + slots_P] = keys_P
    pool.partition(top_k - 1, axis=1)
    keys_SK[touched] = pool[:, :top_k]


def pack_keys(scores_P: Float32Array, places_P: KeyArray) -> KeyArray:
    """One uint64 per pair that is smaller when the pair is better; places fit 32 bits, scores are no NaN."""
    bits = (scores_P + np.float32(0.0)).view(np.uint32)  # + 0.0: minus zero and zero are the same score
    ordered = np.where(bits & _BITS_OF_SIGN, ~bits, bits | _BITS_OF_SIGN)
    return ((_ALL_BITS - ordered).astype(np.uint64) << _HALF) | places_P


def unpack_scores(keys: KeyArray) -> Float32Array:
    """The float32 scores packed in keys; the lowest float32 for an empty place."""
    ordered = _ALL_BITS - (keys >> _HALF).astype(np.uint32)
    bits = np.where(ordered & _BITS_OF_SIGN, ordered ^ _BITS_OF_SIGN, ~ordered)
    return np.where(keys == NO_PAIR, _LOWEST, bits.view(np.float32))


def strip_rows(num_columns: int) -> int:
    """Users whose scores are searched in one go."""
    return max(1, STRIP_BYTES // (4 * num_columns))


def group_width(num_items: int, top_k: int) -> int:
    """Columns per group: the widest power of two that leaves 4 groups per list place, for a tight bound."""
    width = MAX_GROUP_WIDTH
    while width > 1 and num_items < 4 * top_k * width:
        width //= 2
    return width


def block_bytes(user_block: int, item_block: int, *, dim: int, top_k: int, num_excluded: int = 0) -> int:
    """Upper bound, in bytes, of what `RunningTopK` and one item block hold while a block is searched.

    Vectors of both sides (4 bytes a coordinate), running keys and their copy in the final lists (8 bytes
    each, three times), excluded pairs (48 bytes each), and one strip of scores: 4 bytes a score, and up to 20
    times that for the survivors when every item of the block ties. The strip never holds more than
    max(STRIP_BYTES, one row). The factor 20 was fitted to a measured run of that case, not derived.
    """
    strip = 4 * min(user_block, strip_rows(item_block)) * (item_block + MAX_GROUP_WIDTH + top_k)
    vectors = 4 * dim * (user_block + item_block) + 32 * item_block
    return vectors + 24 * user_block * top_k + 48 * num_excluded + 21 * strip


def _unpack_lists(keys_UK: KeyArray) -> TopLists:
    keys_UK = np.sort(keys_UK, axis=1)
    is_pair = keys_UK != NO_PAIR
    keys_P = keys_UK[is_pair]
    places_P = (keys_P & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return TopLists(np.count_nonzero(is_pair, axis=1), places_P, unpack_scores(keys_P))


def _no_exclusions(num_users: int) -> Exclusions:
    return Exclusions(np.zeros(num_users + 1, dtype=np.int64), np.empty(0, dtype=np.int64))


def _require(holds: bool, wanted: str) -> None:
    if not holds:
        raise ValueError(f"top-K kernel: wanted {wanted}")


def _require_block(block: ItemBlock, *, dim: int) -> None:
    _require_vectors(block.vectors_ND, "items")
    num_items, found = block.vectors_ND.shape
    _require(found == dim, f"items as wide as users ({dim}); found {found}")
    _require(len(block.places_N) == len(block.item_idx_N) == num_items, "one place and one item_idx per item")
    lowest, highest = block.places_N.min(initial=0), block.places_N.max(initial=0)
    _require(bool(lowest >= 0 and highest < 2**32 - 1), "places in [0, 2^32 - 1)")


def _require_vectors(vectors: Float32Array, name: str) -> None:
    _require(vectors.ndim == 2 and vectors.dtype == np.float32, f"{name} as float32 of shape [rows, dim]")
    _require(is_on_grid(vectors), f"{name} on the grid (kernels/grid.py), which makes their products exact")
