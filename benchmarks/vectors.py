"""Worlds to search: vectors on the grid of several kinds and what each user has seen, the same for one seed everywhere.

A world is kept as .npy files in a folder, so that every measured process - ours, a peer in an environment of its own,
a Spark driver - reads the same bytes. Only numpy is needed for that.

Axes: U users, N items, D dimensions, E seen items per user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recsys_spark.kernels.grid import GRID_STEPS, Float32Array, snap_to_grid

IntArray = npt.NDArray[np.integer[Any]]
Float64Array = npt.NDArray[np.float64]

_CLUSTERS: Final = 500
_SPREAD: Final = 0.8
"""Length of the noise around a centre of length 1: two members of a cluster have a cosine of about 0.6."""

_DISTINCT: Final = 1_000
"""Different vectors among the items of kind `many_equal`: with 50,000 items every score comes about 50 times."""


@dataclass(frozen=True)
class World:
    """Users and items on the grid; `places_N` orders equal scores; `seen_UE` are item rows, ascending for each user."""

    users_UD: Float32Array
    items_ND: Float32Array
    places_N: IntArray
    seen_UE: IntArray

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name))

    @classmethod
    def load(cls, folder: Path) -> World:
        return cls(*(np.load(folder / f"{field.name}.npy") for field in fields(cls)))


def make_world(kind: str, *, num_users: int, num_items: int, dim: int, num_seen: int, seed: int = 0) -> World:
    """Users and items of one of KINDS."""
    rng = np.random.default_rng(seed)
    users_UD, items_ND = KINDS[kind](rng, num_users, num_items, dim)
    return around(users_UD, items_ND, num_seen=num_seen, seed=seed)


def make_unsnapped(
    kind: str, *, num_users: int, num_items: int, dim: int, seed: int = 0
) -> tuple[Float64Array, Float64Array]:
    """Users and items of one of UNSNAPPED, of any length: those of `make_world` before they were snapped."""
    return UNSNAPPED[kind](np.random.default_rng(seed), num_users, num_items, dim)


def around(users_UD: Float32Array, items_ND: Float32Array, *, num_seen: int, seed: int = 0) -> World:
    """The world of given vectors: places in random order, `num_seen` random items seen by every user."""
    rng = np.random.default_rng((seed, 1))
    places_N = rng.permutation(len(items_ND))
    seen_UE = np.stack([rng.choice(len(items_ND), num_seen, replace=False) for _ in users_UD])
    return World(users_UD, items_ND, places_N, np.sort(seen_UE, axis=1).astype(np.int32))


# --- the kinds --------------------------------------------------------------------------------------------------------

Unsnapped = Callable[[np.random.Generator, int, int, int], tuple[Float64Array, Float64Array]]
"""Draws users [U, D] and items [N, D] for given U, N and D; of any length, on no grid."""

Snapped = Callable[[np.random.Generator, int, int, int], tuple[Float32Array, Float32Array]]
"""The same on the grid."""


def _random(rng: np.random.Generator, num_users: int, num_items: int, dim: int) -> tuple[Float64Array, Float64Array]:
    """No structure at all: the best item is hardly better than the hundredth, which is hardest for any bound."""
    return rng.standard_normal((num_users, dim)), rng.standard_normal((num_items, dim))


def _clustered(rng: np.random.Generator, num_users: int, num_items: int, dim: int) -> tuple[Float64Array, Float64Array]:
    """Users and items around the same centres, like the output of a trained model."""
    centres = snap_to_grid(rng.standard_normal((_CLUSTERS, dim)))

    def members(count: int) -> Float64Array:
        noise = rng.standard_normal((count, dim)) * (_SPREAD / np.sqrt(dim))
        around_centres: Float64Array = centres[rng.integers(0, _CLUSTERS, count)] + noise
        return around_centres

    return members(num_users), members(num_items)


def _snapped(draw: Unsnapped) -> Snapped:
    def draw_and_snap(
        rng: np.random.Generator, num_users: int, num_items: int, dim: int
    ) -> tuple[Float32Array, Float32Array]:
        users_UD, items_ND = draw(rng, num_users, num_items, dim)
        return snap_to_grid(users_UD), snap_to_grid(items_ND)

    return draw_and_snap


def _many_equal(
    rng: np.random.Generator, num_users: int, num_items: int, dim: int
) -> tuple[Float32Array, Float32Array]:
    """Few different items, each many times: only the order of equal scores makes the list."""
    users_UD, distinct = _snapped(_random)(rng, num_users, min(_DISTINCT, num_items), dim)
    return users_UD, distinct[rng.integers(0, len(distinct), num_items)]


def _norms(rng: np.random.Generator, num_users: int, num_items: int, dim: int) -> tuple[Float32Array, Float32Array]:
    """Lengths from 1e-30 to 1e30 before they are snapped; a third of the items is then shortened, some to zero."""
    huge_and_tiny = 10.0 ** rng.uniform(-30, 30, (num_users + num_items, 1))
    vectors = snap_to_grid(rng.standard_normal((num_users + num_items, dim)) * huge_and_tiny)
    users_UD, items_ND = vectors[:num_users], vectors[num_users:]
    shorter = items_ND[::3] * 2.0 ** rng.uniform(-14, 0, (len(items_ND[::3]), 1))
    items_ND[::3] = np.trunc(shorter * GRID_STEPS) / GRID_STEPS + 0.0
    return users_UD, items_ND


UNSNAPPED: Final[dict[str, Unsnapped]] = {"random": _random, "clustered": _clustered}
"""The kinds whose vectors are snapped once they are drawn, and left so."""

KINDS: Final[dict[str, Snapped]] = {
    **{kind: _snapped(draw) for kind, draw in UNSNAPPED.items()},
    "many_equal": _many_equal,
    "norms": _norms,
}
