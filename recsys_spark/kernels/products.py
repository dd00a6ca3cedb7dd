"""Which product of a tile is the fastest on this processor: 8-bit whole numbers, or float32 by numpy or by torch.

Which library wins depends on the processor and on the kernel it picks: numpy's OpenBLAS is two to three times as fast
as torch's MKL on AMD, and slower on Intel. 8-bit products run at four times the speed of float32 where the processor
has instructions for them (AVX-512 VNNI, AMX), and slower than float32 where it has not. So they are timed, once per
process. All of them are exact on the grid: the choice changes no result.
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


def multiply_coarse(users_SC: npt.NDArray[np.int8], items_TC: npt.NDArray[np.int8], out_ST: npt.NDArray[Any]) -> None:
    """users_SC @ items_TC.T of 8-bit whole numbers as int32."""
    torch._int_mm(torch.from_numpy(users_SC), torch.from_numpy(items_TC).T, out=torch.from_numpy(out_ST))


def multiply_by_numpy(users_SD: Float32Array, items_TD: Float32Array, out_ST: Float32Array) -> None:
    np.matmul(users_SD, items_TD.T, out=out_ST)


def multiply_by_torch(users_SD: Float32Array, items_TD: Float32Array, out_ST: Float32Array) -> None:
    torch.mm(torch.from_numpy(users_SD), torch.from_numpy(items_TD).T, out=torch.from_numpy(out_ST))


@dataclass(frozen=True)
class Products:
    """The products to use: `is_coarse` for an 8-bit first pass, `multiply` for float32."""

    is_coarse: bool
    multiply: Callable[[Float32Array, Float32Array, Float32Array], None]
    speeds: tuple[tuple[str, float], ...] = ()
    """Measured, in 10^9 multiplications and additions a second."""

    @property
    def name(self) -> str:
        exact = "numpy" if self.multiply is multiply_by_numpy else "torch"
        return f"8 bits, then {exact} float32" if self.is_coarse else f"{exact} float32"


@lru_cache(maxsize=8)
def fastest_products(dim: int) -> Products:
    """Time the products of this many dimensions with the threads this process has (a tenth of a second).

    An 8-bit product that comes out wrong is not used: torch's is a private function that few builds test.
    """
    rng = np.random.default_rng(0)
    users_SD = snap_to_grid(rng.standard_normal((_PROBE_USERS, dim)))
    items_TD = snap_to_grid(rng.standard_normal((_PROBE_ITEMS, dim)))
    users_SC, items_TC = coarsen(users_SD).coarse_NC, coarsen(items_TD).coarse_NC
    scores_ST = np.empty((_PROBE_USERS, _PROBE_ITEMS), dtype=np.float32)
    products_ST = np.zeros(scores_ST.shape, dtype=np.int32)  # not what an earlier probe left in memory
    speeds = {
        "numpy": _speed(lambda: multiply_by_numpy(users_SD, items_TD, scores_ST), dim),
        "torch": _speed(lambda: multiply_by_torch(users_SD, items_TD, scores_ST), dim),
        "8 bits": _speed(lambda: multiply_coarse(users_SC, items_TC, products_ST), dim),
    }
    wanted_ST = users_SC.astype(np.float64) @ items_TC.T.astype(np.float64)
    is_fast = speeds["8 bits"] > MIN_COARSE_GAIN * max(speeds["numpy"], speeds["torch"])
    return Products(
        is_coarse=bool(is_fast and np.array_equal(products_ST, wanted_ST)),
        multiply=multiply_by_numpy if speeds["numpy"] >= speeds["torch"] else multiply_by_torch,
        speeds=tuple(speeds.items()),
    )


def _speed(multiply: Callable[[], None], dim: int) -> float:
    multiply()  # the first call prepares what later ones use
    seconds = []
    for _ in range(_PROBE_REPEATS):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return 2e-9 * _PROBE_USERS * _PROBE_ITEMS * dim / min(seconds)
