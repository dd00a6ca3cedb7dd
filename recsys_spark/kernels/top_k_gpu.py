"""Exact top-K on a GPU: the same lists as `kernels/top_k.py`, bit for bit, from products in half precision.

Filter. Tiles of users x items go through a float16 product, at eight times the speed of float32. Its largest scores
are found in two steps, groups of items first, and are made again in float32, which is exact on the grid.

Proof. A float16 score is off by at most `worst_error`. So when the last exact score of a list lies by more than that
above the best float16 score that was passed over, the list is the exact one. Users of whom this cannot be said (tens
of equal items) are searched again with more candidates, and after that (thousands of them) by exact scores of all.

Keys (score and place in one whole number, smaller is better) make `torch.topk` obey the total order, ties included,
which its order of equal scores would not.

Nothing waits for the device but the end of a search, unless items are barred or sent in tiles. Tests run this code on
the CPU too.

Dropped, by times on an H100 for 4,096 users x 50,000 items of 128 dimensions, whose float32 product takes 1.4 ms and
whose search 1.1 (1.7 with the way there and back): `topk` of whole rows (1.6 ms, the groups and what is in them 0.7);
candidates gathered and multiplied as a batch (0.5 to 0.8 ms, sampled products 0.1); groups of neighbouring columns
(their maxima take 1.7 ms, those of distant ones 0.2); scores in 8 bits (their errors are larger, and the product is
slower).

Axes: U users, S users of a strip, N rows of the item matrix, T items of a tile, W items of a group, G groups, D
dimensions, C candidates, K list length, E excluded pairs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as nnf

from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.grid import GRID_STEPS, Float32Array
from recsys_spark.kernels.item_matrix import ItemMatrix
from recsys_spark.kernels.scan import UNIT, KeyArray
from recsys_spark.kernels.top_k import BoolArray, TopLists

TILE_USERS: Final = 2**14
TILE_ITEMS: Final = 2**18
TILE_PAIRS: Final = 2**30
"""Most users, items and pairs of a tile: 2 GiB of float16 scores, and 2 GiB more where items are barred. With smaller
tiles the GPU waits for the processor; less memory makes them smaller all the same."""

_PAIR_BYTES: Final = 5
"""Of a pair of a tile: its score, whether it is barred, and what is made of them."""

GROUP_ITEMS: Final = 32

WIDER: Final = 4
"""How many times as many candidates a user gets in the second search."""

_NO_KEY: Final = 2**63 - 1
"""Worse than any key."""


@dataclass(frozen=True)
class DeviceItems:
    """The exact item matrix for a device: on it when that takes at most half of its free memory, else sent in tiles."""

    steps_ND: Tensor
    place_N: Tensor
    num_items: int
    device: torch.device

    @classmethod
    def of(cls, items: ItemMatrix, device: torch.device) -> DeviceItems:
        steps_ND, place_N = torch.from_numpy(items.steps_ND), torch.from_numpy(items.place_N.astype(np.int64))
        if device.type == "cuda" and steps_ND.nbytes + place_N.nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
            steps_ND, place_N = steps_ND.to(device), place_N.to(device)
        return cls(steps_ND, place_N, items.num_items, device)

    def tiles(self, size: int) -> Iterator[_Tile]:
        for start in range(0, self.num_items, size):
            stop = min(start + size, self.num_items)
            padding = GROUP_ITEMS - (stop - start) % GROUP_ITEMS
            vectors_TD = self.steps_ND[start:stop].to(self.device).float() / GRID_STEPS
            place_T = self.place_N[start:stop].to(self.device)
            yield _Tile(start, stop, nnf.pad(vectors_TD, (0, 0, 0, padding)), nnf.pad(place_T, (0, padding)))


@dataclass(frozen=True)
class _Tile:
    """The items from `start` to `stop`, filled up to whole groups with zero vectors, of which there is one at least."""

    start: int
    stop: int
    vectors_TD: Tensor
    place_T: Tensor


@dataclass(frozen=True)
class _Users:
    """Users on the device, and what may not be listed for them: pairs there, the bits of barred items in `excluded`."""

    vectors_UD: Tensor
    excluded: Exclusions
    user_E: Tensor
    row_E: Tensor
    segments_G: npt.NDArray[np.int64]
    segment_U: Tensor

    @classmethod
    def of(cls, vectors_UD: Float32Array, excluded: Exclusions, device: torch.device) -> _Users:
        offsets_U1 = torch.from_numpy(excluded.offsets_U1).to(device)
        numbers_U = torch.arange(len(vectors_UD), device=device)
        segments_G, segment_U = np.unique(excluded.segments_U, return_inverse=True)
        return cls(
            torch.tensor(vectors_UD, device=device),  # from_numpy warns of arrays that may not be written
            excluded,
            torch.repeat_interleave(numbers_U, offsets_U1.diff(), output_size=len(excluded.rows_E)),
            torch.from_numpy(excluded.rows_E).to(device),
            segments_G,
            torch.from_numpy(segment_U).to(device),
        )

    def barred(self, tile: _Tile) -> Tensor:
        """Bits of a tile's barred items for each segment of these users; G = 0 without any."""
        bits_GB = self.excluded.barred_GB
        bits_Gb = bits_GB[self.segments_G, tile.start // 8 : -(-tile.stop // 8)] if len(bits_GB) else bits_GB
        return torch.from_numpy(bits_Gb).to(self.segment_U.device)

    def blank(self, scores_ST: Tensor, part: slice, tile: _Tile, barred_Gb: Tensor) -> None:
        """Put minus infinity in place of scores that may not be listed: of excluded pairs (one of another tile: in the
        last column), of barred items, and of the filling."""
        offsets_U1 = self.excluded.offsets_U1
        pairs = slice(offsets_U1[part.start], offsets_U1[part.stop])
        rows_e = self.row_E[pairs]
        is_here_e = (rows_e >= tile.start) & (rows_e < tile.stop)
        columns_e = torch.where(is_here_e, rows_e - tile.start, scores_ST.shape[1] - 1)
        scores_ST[self.user_E[pairs] - part.start, columns_e] = -torch.inf
        if len(barred_Gb):
            bits_Sb = barred_Gb[self.segment_U[part]]
            bit_8 = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device=bits_Sb.device)
            is_barred_St = (bits_Sb[:, :, None] & bit_8).bool().flatten(1)
            scores_ST[:, : is_barred_St.shape[1]].masked_fill_(is_barred_St, -torch.inf)
        scores_ST[:, tile.stop - tile.start :] = -torch.inf


def find_top_k_on(users_UD: Float32Array, items: DeviceItems, *, top_k: int, excluded: Exclusions) -> TopLists:
    """The K best items of every user that are not excluded, worked out on the device of the items."""
    with _exact_products():
        keys_UK, is_proven_U = _search(users_UD, items, top_k, excluded, times=1)
        for times in (WIDER, None):
            left = np.flatnonzero(~is_proven_U)
            if len(left):
                found = _search(users_UD[left], items, top_k, excluded.of_users(left), times=times)
                keys_UK[left], is_proven_U[left] = found
    return TopLists(keys_UK)


def _search(
    users_UD: Float32Array, items: DeviceItems, top_k: int, excluded: Exclusions, *, times: int | None
) -> tuple[KeyArray, BoolArray]:
    """Sorted keys [U, K], and whose lists are proven; with `times` as many candidates as usual, None: all items."""
    users = _Users.of(users_UD, excluded, items.device)
    num_users, dim = users_UD.shape
    pairs = _tile_pairs(items.device)
    size = min(TILE_ITEMS, pairs // min(max(1, num_users), TILE_USERS))
    size = max(1, size // GROUP_ITEMS) * GROUP_ITEMS
    strip = max(1, min(TILE_USERS, pairs // size) // (1 if times else 16))  # keys take 16 times the memory
    best_UK = torch.full((num_users, top_k), _NO_KEY, device=items.device)
    passed_over_U = torch.full((num_users,), -torch.inf, device=items.device)
    for tile in items.tiles(size):
        coarse_TD, barred_Gb = tile.vectors_TD.half(), users.barred(tile)
        width = (times or 0) * _num_candidates(top_k, (tile.stop - tile.start) / items.num_items)
        for first in range(0, num_users, strip):
            part = slice(first, min(first + strip, num_users))
            vectors_SD, best_SK = users.vectors_UD[part], best_UK[part]
            if times:
                scores_ST = vectors_SD.half() @ coarse_TD.T
                users.blank(scores_ST, part, tile, barred_Gb)
                columns_SC, coarse_SC = _largest(scores_ST, width, passed_over_U[part])
                scores_SC = _exact_scores(vectors_SD, tile.vectors_TD, columns_SC)
                keys_SC = _keys(scores_SC.where(coarse_SC.isfinite(), -torch.inf), tile.place_T[columns_SC])
            else:
                scores_ST = vectors_SD @ tile.vectors_TD.T
                users.blank(scores_ST, part, tile, barred_Gb)
                keys_SC = _keys(scores_ST, tile.place_T)
            best_SK.copy_(torch.cat([best_SK, keys_SC], dim=1).topk(top_k, largest=False, sorted=False).values)
    best_UK = best_UK.sort(dim=1).values
    last_U = 1 - (best_UK[:, -1] >> 32).double() / UNIT  # without a key: -127, below what was passed over
    is_proven_U = passed_over_U + worst_error(dim) < last_U
    keys_UK = torch.where(best_UK == _NO_KEY, -1, best_UK)  # -1 has the bits of NO_PAIR
    return _on_host(keys_UK).numpy().view(np.uint64), _on_host(is_proven_U).numpy()


def _tile_pairs(device: torch.device) -> int:
    """As many as half of the device's free memory holds, the other half being another worker's."""
    if device.type != "cuda":
        return TILE_PAIRS
    kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + kept_by_torch
    return min(TILE_PAIRS, free // (2 * _PAIR_BYTES))


def worst_error(dim: int) -> float:
    """Largest difference of a float16 score from the exact one.

    Multiples of 2^-12 up to 1/2 are float16 numbers; at most three coordinates of a vector are larger, and are off by
    at most 2^-12. So a vector is off by at most e = sqrt(3) 2^-12, a product by e (1 + e) + e < 2^-10. Products are
    added up in float32: 2 D roundings or truncations of numbers below 2, each at most 2^-23. Rounding the sum to
    float16 adds at most 2^-11.
    """
    return 2**-10 + 2**-11 + dim * 2**-22


def _num_candidates(top_k: int, share: float) -> int:
    """Of a tile with this share of the items, whose order is random: the list's items there, by three standard
    deviations of a Poisson count, and some that float16 cannot tell from them."""
    expected = top_k * share
    return math.ceil(expected + 3 * math.sqrt(expected)) + 16


def _largest(scores_ST: Tensor, width: int, passed_over_S: Tensor) -> tuple[Tensor, Tensor]:
    """Columns [S, C] and scores of the C = `width` largest scores; raises `passed_over_S` to what all others are below.

    Group g is the columns g, g + G, g + 2 G, …; those of the `width` groups with the largest maxima are looked into.
    """
    num_groups = scores_ST.shape[1] // GROUP_ITEMS
    scores_SWG = scores_ST.view(-1, GROUP_ITEMS, num_groups)
    largest_Sg, groups_Sg = _top(scores_SWG.amax(dim=1), width, passed_over_S)
    inside_SWg = scores_SWG.gather(2, groups_Sg[:, None].expand(-1, GROUP_ITEMS, -1))
    best_SC, places_SC = _top(inside_SWg.flatten(1), width, passed_over_S)
    kept = largest_Sg.shape[1]
    return places_SC // kept * num_groups + groups_Sg.gather(1, places_SC % kept), best_SC


def _top(scores_Sn: Tensor, width: int, passed_over_S: Tensor) -> tuple[Tensor, Tensor]:
    if width >= scores_Sn.shape[1]:
        return scores_Sn, torch.arange(scores_Sn.shape[1], device=scores_Sn.device).expand(len(scores_Sn), -1)
    best_SC, places_SC = scores_Sn.topk(width, sorted=False)
    torch.maximum(passed_over_S, best_SC.amin(dim=1).float(), out=passed_over_S)
    return best_SC, places_SC


def _exact_scores(users_SD: Tensor, items_TD: Tensor, columns_SC: Tensor) -> Tensor:
    """Exact scores [S, C] of chosen items: float32 products of the pairs that a sparse matrix names."""
    num_users, num_columns = columns_SC.shape
    ends_S1 = torch.arange(0, columns_SC.numel() + 1, num_columns, device=columns_SC.device)
    pairs = torch.sparse_csr_tensor(
        ends_S1,
        columns_SC.flatten(),
        torch.zeros(columns_SC.numel(), device=columns_SC.device),
        (num_users, len(items_TD)),
        check_invariants=False,
    )
    scores: Tensor = torch.sparse.sampled_addmm(pairs, users_SD, items_TD.T, beta=0.0).values()
    return scores.view(num_users, num_columns)


def _keys(scores_Sn: Tensor, places_n: Tensor) -> Tensor:
    """Keys of exact scores, as in kernels/scan.py; none where the score is minus infinity."""
    keys_Sn = ((UNIT - (scores_Sn * UNIT).long()) << 32) | places_n
    return torch.where(scores_Sn.isfinite(), keys_Sn, _NO_KEY)


def _on_host(tensor: Tensor) -> Tensor:
    """A copy through memory that the device writes to directly, and that torch keeps: ten times as fast."""
    if tensor.device.type != "cuda":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)


@contextmanager
def _exact_products() -> Iterator[None]:
    """No TF32 in float32 products, sums of float16 products in float32, and no word on sparse matrices being new."""
    before = torch.get_float32_matmul_precision()
    matmul = torch.backends.cuda.matmul
    reduced = matmul.allow_fp16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
            yield
    finally:
        torch.set_float32_matmul_precision(before)
        matmul.allow_fp16_reduced_precision_reduction = reduced
