"""Which product of a tile is the fastest on this processor: 8-bit whole numbers, or float32 by one of three libraries.

Which library wins depends on the processor and on the kernel it picks: numpy's OpenBLAS is two to three times as fast
as torch's MKL on AMD, and slower on Intel; oneDNN is a tenth faster than OpenBLAS on AMD. 8-bit products run at four
times the speed of float32 where the processor has instructions for them (AVX-512 VNNI, AMX), and slower than float32
where it has not. So they are timed, once per process. All of them are exact on the grid, and one that is not is not
used: the choice changes no result.

Dropped: `torch.ops.mkldnn._linear_pointwise`, oneDNN without torch's precision: it allocates its output, which took
twice as long as the product whenever the allocator gave the pages back in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from recsys_spark.kernels.grid import Float32Array, snap_to_grid
from recsys_spark.kernels.item_matrix import coarsen

MIN_COARSE_GAIN: Final = 1.5
"""How much faster an 8-bit product has to be: what it finds is scored once more."""

_PROBE_USERS, _PROBE_ITEMS, _PROBE_REPEATS = 256, 2048, 4
_CORNER_USERS, _CORNER_ITEMS = 3, 64


def multiply_coarse(users_SC: npt.NDArray[np.int8], items_TC: npt.NDArray[np.int8], out_ST: npt.NDArray[Any]) -> None:
    """users_SC @ items_TC.T of 8-bit whole numbers as int32."""
    torch._int_mm(torch.from_numpy(users_SC), torch.from_numpy(items_TC).T, out=torch.from_numpy(out_ST))


def _multiply_by_numpy(users_SD: Float32Array, items_TD: Float32Array, out_ST: Float32Array) -> None:
    np.matmul(users_SD, items_TD.T, out=out_ST)


def _multiply_by_torch(users_SD: Float32Array, items_TD: Float32Array, out_ST: Float32Array) -> None:
    torch.mm(torch.from_numpy(users_SD), torch.from_numpy(items_TD).T, out=torch.from_numpy(out_ST))


def _multiply_by_onednn(users_SD: Float32Array, items_TD: Float32Array, out_ST: Float32Array) -> None:
    """torch goes to oneDNN when bfloat16 would do, and oneDNN rounds to bfloat16 only where there is AMX."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        _multiply_by_torch(users_SD, items_TD, out_ST)
    finally:
        torch.set_float32_matmul_precision(before)


Multiply = Callable[[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], None]
"""Writes users @ items.T into its third argument."""

EXACT_PRODUCTS: Final[dict[str, Multiply]] = {
    "numpy": _multiply_by_numpy,
    "torch": _multiply_by_torch,
    "oneDNN": _multiply_by_onednn,
}
"""Products of float32, by the library that makes them."""


@dataclass(frozen=True)
class Products:
    """The products to use: `is_coarse` for an 8-bit first pass, `exact` names the one of float32."""

    is_coarse: bool
    exact: str
    speeds: tuple[tuple[str, float], ...] = ()
    """Measured, in 10^9 multiplications and additions a second."""

    @property
    def name(self) -> str:
        return f"8 bits, then {self.exact} float32" if self.is_coarse else f"{self.exact} float32"

    @property
    def multiply(self) -> Multiply:
        return EXACT_PRODUCTS[self.exact]


@lru_cache(maxsize=8)
def fastest_products(dim: int) -> Products:
    """Time the products of this many dimensions with the threads this process has (a tenth of a second).

    One that comes out wrong is not used: torch's of 8 bits is a private function that few builds test, and oneDNN's
    is exact on some processors only.
    """
    rng = np.random.default_rng(0)
    users_SD = snap_to_grid(rng.standard_normal((_PROBE_USERS, dim)))
    items_TD = snap_to_grid(rng.standard_normal((_PROBE_ITEMS, dim)))
    coarse = coarsen(users_SD).coarse_NC, coarsen(items_TD).coarse_NC
    speeds = {name: _speed(multiply, users_SD, items_TD, np.float32) for name, multiply in EXACT_PRODUCTS.items()}
    of_coarse = _speed(multiply_coarse, *coarse, np.int32)
    exact = max(speeds, key=lambda name: speeds[name])
    return Products(
        is_coarse=of_coarse > MIN_COARSE_GAIN * speeds[exact],
        exact=exact,
        speeds=(*speeds.items(), ("8 bits", of_coarse)),
    )


def _speed(multiply: Multiply, users_SX: npt.NDArray[Any], items_TX: npt.NDArray[Any], dtype: type) -> float:
    """10^9 operations a second; 0 when the product of the tile, or of a corner of it, is wrong."""
    corner = users_SX[:_CORNER_USERS], items_TX[:_CORNER_ITEMS]
    if not (_is_right(multiply, users_SX, items_TX, dtype) and _is_right(multiply, *corner, dtype)):
        return 0.0
    out_ST: npt.NDArray[Any] = np.empty((len(users_SX), len(items_TX)), dtype=dtype)
    seconds = []
    for _ in range(_PROBE_REPEATS):
        start = time.perf_counter()
        multiply(users_SX, items_TX, out_ST)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * out_ST.size * users_SX.shape[1] / min(seconds)


def _is_right(multiply: Multiply, users_SX: npt.NDArray[Any], items_TX: npt.NDArray[Any], dtype: type) -> bool:
    out_ST: npt.NDArray[Any] = np.zeros((len(users_SX), len(items_TX)), dtype=dtype)  # not what memory held before
    multiply(users_SX, items_TX, out_ST)
    return np.array_equal(out_ST, users_SX.astype(np.float64) @ items_TX.T.astype(np.float64))
