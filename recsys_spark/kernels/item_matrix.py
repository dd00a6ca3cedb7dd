"""The catalogue as the scorer wants it: flat arrays, made once per machine and mapped into every worker.

Each vector is held twice. `steps` are its coordinates on the grid as whole numbers (x * 4096), from which a score is
exact. `coarse` are 8-bit whole numbers with one scale per vector, x ~ scale * coarse, for a first pass at four times
the speed; `error` is the length of what they leave out.

Rows are shuffled with a fixed seed, so that any stretch of them is a fair sample of the catalogue: the search sets
its first thresholds from one. Nothing of the result depends on it.

Axes: N rows of the matrix (items, then padding up to a whole number of groups), D dimensions, C dimensions padded to
whole 4-byte words, I item_idx, P places.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recsys_spark.kernels.grid import GRID_STEPS, Float32Array, OffGridError, first_off_grid

Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
IntArray = npt.NDArray[np.integer[Any]]

GROUP_ROWS: Final = 8
"""Items whose largest score is looked at first. 8 and 16 were equally fast; 16 makes more padding."""

MAX_DIM: Final = 2**14
"""Widest vectors: the error of a coarse one, at most sqrt(D) / 254, stays below 0.51, as kernels/scan.py assumes."""

_COARSE_LIMIT: Final = 127
_LEAST_SCALE: Final = np.float32(1 / (GRID_STEPS * _COARSE_LIMIT))
"""Scale of a zero vector: as small as any, since errors of a tile are bounded in units of the scale."""
_SHUFFLE_SEED: Final = 0


class CoarseVectors(NamedTuple):
    """8-bit copies of vectors: x = scale * coarse + rest, with |rest| <= error."""

    coarse_NC: npt.NDArray[np.int8]
    scale_N: Float32Array
    error_N: Float32Array


@dataclass(frozen=True, eq=False)  # equal to itself only, so that what is made of it can be kept by it
class ItemMatrix:
    """M items in shuffled order, padded with zero vectors to N rows (see the module's docstring).

    `place_N` is an item's number in the order of the item_ids, which decides ties; `idx_of_place_M` gives its
    item_idx back; `row_of_idx_I` finds the row of an item_idx, -1 for an index without a vector.
    """

    steps_ND: Int16Array
    coarse: CoarseVectors
    place_N: npt.NDArray[np.uint32]
    idx_of_place_M: Int32Array
    row_of_idx_I: Int32Array

    @property
    def num_items(self) -> int:
        return len(self.idx_of_place_M)

    @property
    def dim(self) -> int:
        return self.steps_ND.shape[1]

    def vectors_of(self, item_idx: IntArray) -> Float32Array:
        """The vectors [..., D] of item_idx of any shape; zeros for negative ones and for items without a vector."""
        is_known = (item_idx >= 0) & (item_idx < len(self.row_of_idx_I))
        rows = np.where(is_known, self.row_of_idx_I[np.where(is_known, item_idx, 0)], -1)
        vectors: Float32Array = self.steps_ND[rows].astype(np.float32) / np.float32(GRID_STEPS)
        vectors[rows < 0] = 0
        return vectors


class ItemMatrixBuilder:
    """Fills an `ItemMatrix` block by block, in memory or in files of a folder.

    builder = ItemMatrixBuilder(place_of_item, item_idx_of_item, dim=128, folder=Path(…))
    for vectors in blocks:
        builder.add(vectors)
    matrix = builder.finish()
    """

    def __init__(self, places_M: IntArray, item_idx_M: IntArray, *, dim: int, folder: Path | None = None) -> None:
        """`places_M` is a permutation of 0 … M - 1, `item_idx_M` holds distinct numbers from 0, both in the order
        in which vectors are added. OSError when the disk has no room for the files."""
        if not 1 <= dim <= MAX_DIM:
            raise ValueError(f"item matrix: wanted 1 to {MAX_DIM} dimensions; found {dim}")
        self._num_items, self._num_added = len(places_M), 0
        num_rows = -(-self._num_items // GROUP_ROWS) * GROUP_ROWS
        rows_M = np.random.default_rng(_SHUFFLE_SEED).permutation(self._num_items)
        self._rows_M = rows_M

        def blank(name: str, shape: tuple[int, ...], dtype: type) -> npt.NDArray[Any]:
            if folder is None:
                return np.zeros(shape, dtype)
            return blank_file(folder / f"{name}.npy", shape, dtype)

        self._matrix = ItemMatrix(
            steps_ND=blank("steps", (num_rows, dim), np.int16),
            coarse=CoarseVectors(
                blank("coarse", (num_rows, padded_dim(dim)), np.int8),
                blank("scale", (num_rows,), np.float32),
                blank("error", (num_rows,), np.float32),
            ),
            place_N=blank("place", (num_rows,), np.uint32),
            idx_of_place_M=blank("idx_of_place", (self._num_items,), np.int32),
            row_of_idx_I=blank("row_of_idx", (int(item_idx_M.max(initial=-1)) + 1,), np.int32),
        )
        self._matrix.coarse.scale_N[:] = _LEAST_SCALE
        self._matrix.place_N[rows_M] = places_M
        self._matrix.idx_of_place_M[places_M] = item_idx_M
        self._matrix.row_of_idx_I[:] = -1
        self._matrix.row_of_idx_I[item_idx_M] = rows_M

    def add(self, vectors_ND: Float32Array) -> None:
        """The next vectors. OffGridError when one is off the grid, ValueError for another width."""
        steps = grid_steps(vectors_ND, "items", dim=self._matrix.dim)
        rows = self._rows_M[self._num_added : self._num_added + len(steps)]
        self._matrix.steps_ND[rows] = steps
        held, coarse = self._matrix.coarse, coarsen(vectors_ND)
        held.coarse_NC[rows], held.scale_N[rows], held.error_N[rows] = coarse
        self._num_added += len(steps)

    def finish(self) -> ItemMatrix:
        """The whole matrix; ValueError when vectors are missing."""
        if self._num_added != self._num_items:
            raise ValueError(f"item matrix: wanted {self._num_items} vectors; found {self._num_added}")
        return self._matrix


def blank_file(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros in a new .npy file, mapped. OSError at once when the disk has no room for all of them.

    The file would be sparse otherwise, and a disk that fills while pages are written kills the process (SIGBUS).
    """
    mapping: npt.NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return mapping


def open_item_matrix(folder: Path) -> ItemMatrix:
    """What a finished `ItemMatrixBuilder` left in a folder, mapped and not read: processes share its pages."""

    def mapped(name: str) -> npt.NDArray[Any]:
        mapping: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="c")  # torch wants arrays it may write
        return mapping  # to; nobody does

    return ItemMatrix(
        steps_ND=mapped("steps"),
        coarse=CoarseVectors(mapped("coarse"), mapped("scale"), mapped("error")),
        place_N=mapped("place"),
        idx_of_place_M=mapped("idx_of_place"),
        row_of_idx_I=mapped("row_of_idx"),
    )


def item_matrix(vectors_MD: Float32Array, places_M: IntArray, item_idx_M: IntArray) -> ItemMatrix:
    """The matrix of vectors that are all in memory."""
    builder = ItemMatrixBuilder(places_M, item_idx_M, dim=vectors_MD.shape[1])
    builder.add(vectors_MD)
    return builder.finish()


def grid_steps(vectors_ND: Float32Array, name: str, *, dim: int | None = None) -> Int16Array:
    """Vectors on the grid as whole numbers of its steps; OffGridError when they are not there.

    ValueError for another type or width, naming whose vectors they are.
    """
    if vectors_ND.ndim != 2 or vectors_ND.dtype != np.float32:
        raise ValueError(f"top-K: wanted {name} as float32 [N, D]; found {vectors_ND.dtype} {vectors_ND.shape}")
    if dim is not None and vectors_ND.shape[1] != dim:
        raise ValueError(f"top-K: wanted {name} of {dim} dimensions; found {vectors_ND.shape[1]}")
    if (row := first_off_grid(vectors_ND)) is not None:
        raise OffGridError(row)
    return (vectors_ND * np.float32(GRID_STEPS)).astype(np.int16)


def coarsen(vectors_ND: Float32Array) -> CoarseVectors:
    """Vectors in 8 bits, each with the scale that its largest coordinate needs."""
    largest_N = np.abs(vectors_ND).max(axis=1, initial=0)
    scale_N = np.maximum(largest_N / np.float32(_COARSE_LIMIT), _LEAST_SCALE)
    rounded_ND = vectors_ND / scale_N[:, None]
    np.rint(rounded_ND, out=rounded_ND)
    coarse_NC = np.zeros((len(vectors_ND), padded_dim(vectors_ND.shape[1])), dtype=np.int8)
    coarse_NC[:, : vectors_ND.shape[1]] = rounded_ND
    # A product in float32 is off by 2^-24 of a coordinate, the sum of squares in float64 by nothing that matters: both
    # are in the slack of kernels/scan.py.
    rest_ND = np.subtract(vectors_ND, np.multiply(rounded_ND, scale_N[:, None], out=rounded_ND), out=rounded_ND)
    error_N = np.sqrt(np.einsum("nd,nd->n", rest_ND, rest_ND, dtype=np.float64)).astype(np.float32)
    return CoarseVectors(coarse_NC, scale_N, error_N)


def padded_dim(dim: int) -> int:
    """Whole words of four 8-bit numbers, as processors multiply them; torch's product of width 1 is wrong."""
    return -(-dim // 4) * 4


def item_bytes(num_items: int, dim: int) -> int:
    """Bytes of an `ItemMatrix`: 2 D + C a vector, and 20 for scale, error, place and the two ways to item_idx."""
    return num_items * (2 * dim + padded_dim(dim) + 20)
