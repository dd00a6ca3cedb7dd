"""What may not be listed, as the search wants it: single pairs, and items barred for whole segments of users.

Axes: U users, S users of a strip, E excluded pairs, P given pairs, G segments, N rows of the item matrix, B = N / 8
bytes of their bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys_spark.kernels.item_matrix import Int64Array, IntArray, ItemMatrix

ByteArray = npt.NDArray[np.uint8]

_BITS: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
"""How many bits are set in each byte."""


@dataclass(frozen=True)
class Exclusions:
    """E pairs, sorted by (user, row of the item matrix) without repetition, as CSR; and barred items as bits.

    User u's pairs are the rows `rows_E[offsets_U1[u]:offsets_U1[u + 1]]`. Row r is barred for user u as well when bit
    r % 8 (0 is the lowest) of byte r // 8 is set in `barred_GB[segments_U[u]]`. Nothing is barred when G = 0.
    """

    offsets_U1: Int64Array
    rows_E: Int64Array
    segments_U: Int64Array
    barred_GB: ByteArray

    @classmethod
    def none(cls, num_users: int) -> Exclusions:
        return cls._of_pairs(np.empty(0, dtype=np.int64), num_users)

    @classmethod
    def from_pairs(cls, users_P: IntArray, item_idx_P: IntArray, items: ItemMatrix, *, num_users: int) -> Exclusions:
        """Of pairs (user in [0, num_users), item_idx) in any order; items without a vector have none to exclude."""
        is_known = (item_idx_P >= 0) & (item_idx_P < len(items.row_of_idx_I))
        rows_P = np.full(len(item_idx_P), -1, dtype=np.int64)
        rows_P[is_known] = items.row_of_idx_I[item_idx_P[is_known]]
        is_found = rows_P >= 0
        return cls._of_pairs(np.unique(users_P[is_found].astype(np.int64) << 32 | rows_P[is_found]), num_users)

    @classmethod
    def _of_pairs(cls, pairs_E: Int64Array, num_users: int) -> Exclusions:
        """Of sorted pairs user << 32 | row; nothing is barred."""
        offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs_E >> 32, minlength=num_users))])
        return cls(offsets, pairs_E & 0xFFFFFFFF, np.zeros(num_users, dtype=np.int64), np.zeros((0, 0), np.uint8))

    @property
    def num_users(self) -> int:
        return len(self.segments_U)

    def barring(self, segments_U: Int64Array, barred_GB: ByteArray) -> Exclusions:
        """The same pairs with other barred items."""
        return replace(self, segments_U=segments_U, barred_GB=barred_GB)

    def of_users(self, users_S: Int64Array) -> Exclusions:
        """The exclusions of some users, numbered anew."""
        counts = np.diff(self.offsets_U1)[users_S]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets_U1[users_S] - offsets[:-1], counts)
        pairs = replace(self, offsets_U1=offsets, rows_E=self.rows_E[places])
        return pairs.barring(self.segments_U[users_S], self.barred_GB)

    def pairs_beyond(self, other: Exclusions) -> Exclusions:
        """The pairs whose item `other` excludes neither as a pair nor as a barred item; nothing is barred."""
        pairs_E = self._pairs_E
        pairs_E = pairs_E[~np.isin(pairs_E, other._pairs_E, assume_unique=True)]
        return self._of_pairs(pairs_E[~other._is_barred(pairs_E >> 32, pairs_E & 0xFFFFFFFF)], self.num_users)

    def barred_tile(self, segments_G: Int64Array, start: int, stop: int) -> ByteArray:
        """Of some segments, 1 for the barred ones of the rows from `start`, a multiple of 8, to `stop` [G, T].

        Without barred items G is 0.
        """
        if not len(self.barred_GB):
            return np.zeros((0, stop - start), dtype=np.uint8)
        bits_GB = self.barred_GB[segments_G, start // 8 : -(-stop // 8)]
        return np.unpackbits(bits_GB, axis=1, count=stop - start, bitorder="little")

    def num_barred(self) -> Int64Array:
        """Of each user, how many items are barred."""
        if not len(self.barred_GB):
            return np.zeros(self.num_users, dtype=np.int64)
        segments_G, numbers_U = np.unique(self.segments_U, return_inverse=True)
        counts_G = np.array([_BITS[self.barred_GB[segment]].sum(dtype=np.int64) for segment in segments_G])
        return counts_G[numbers_U]

    def num_pairs(self) -> Int64Array:
        """Of each user, how many pairs are excluded."""
        return np.diff(self.offsets_U1)

    @property
    def _pairs_E(self) -> Int64Array:
        return np.repeat(np.arange(self.num_users), np.diff(self.offsets_U1)) << 32 | self.rows_E

    def _is_barred(self, users_P: Int64Array, rows_P: Int64Array) -> npt.NDArray[np.bool_]:
        if not len(self.barred_GB):
            return np.zeros(len(users_P), dtype=np.bool_)
        bits_P = self.barred_GB[self.segments_U[users_P], rows_P >> 3] >> (rows_P & 7).astype(np.uint8)
        is_barred_P: npt.NDArray[np.bool_] = (bits_P & 1).astype(np.bool_)
        return is_barred_P
