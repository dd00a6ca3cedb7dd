"""What is right, worked out the slow and plain way for some of the users: float64 scores, one sort of all items.

On the grid float64 products are exact, and so are the float32 scores of the lists: they are compared for equality.
The order is total: score descending, then place ascending.

Axes: R checked users, K list length, N items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.vectors import IntArray, World

FloatArray = npt.NDArray[np.floating[Any]]


class WrongListError(AssertionError):
    """A list that is not the exact one; says whose, and where it departs first."""


@dataclass(frozen=True)
class Lists:
    """Lists of some users, best first: user rows, item rows and scores."""

    rows_R: IntArray
    items_RK: IntArray
    scores_RK: FloatArray

    def sample(self, size: int) -> Lists:
        """The first user, the last and others evenly between, so that every block of users is met."""
        chosen = np.unique(np.linspace(0, len(self.rows_R) - 1, min(size, len(self.rows_R))).astype(np.int64))
        return Lists(self.rows_R[chosen], self.items_RK[chosen], self.scores_RK[chosen])


def require_exact(world: World, lists: Lists) -> None:
    """Raise WrongListError unless items and scores equal the oracle's, place by place."""
    for at, (scores_N, best_K) in enumerate(_exact_lists(world, lists)):
        wrong = (lists.items_RK[at] != best_K) | (lists.scores_RK[at] != scores_N[best_K])
        if wrong.any():
            rank = int(np.argmax(wrong))
            wanted = f"item {best_K[rank]} with score {scores_N[best_K[rank]]}"
            found = f"item {lists.items_RK[at, rank]} with score {lists.scores_RK[at, rank]}"
            raise WrongListError(f"user {lists.rows_R[at]}, rank {rank + 1}: wanted {wanted}; found {found}")


def recall(world: World, lists: Lists) -> float:
    """Share of the lists' places that hold an unseen item, once, with a score that the exact list reaches.

    Any of several items with the K-th best score counts, since a peer need not know our order of ties.
    """
    num_right = 0
    for at, (scores_N, best_K) in enumerate(_exact_lists(world, lists)):
        num_right += np.count_nonzero(scores_N[np.unique(lists.items_RK[at])] >= scores_N[best_K[-1]])
    return num_right / lists.items_RK.size


def _exact_lists(world: World, lists: Lists) -> Iterator[tuple[FloatArray, IntArray]]:
    """For each user the float64 scores of all items (minus infinity: seen) and the rows of the best K."""
    top_k = lists.items_RK.shape[1]
    scores_RN = world.users_UD[lists.rows_R].astype(np.float64) @ world.items_ND.astype(np.float64).T
    for row, scores_N in zip(lists.rows_R, scores_RN, strict=True):
        scores_N[world.seen_UE[row]] = -np.inf
        yield scores_N, np.lexsort((world.places_N, -scores_N))[:top_k]
