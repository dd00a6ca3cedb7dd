"""Which items a training step compares: what the batch's users chose, and items drawn from the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_spark.kernels.batches import Ints, SequenceBatch

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TargetSampler:
    """Draws a step's targets and negatives, and knows how often it draws each item.

    `target_counts_N` counts each item among all training targets: how often it is drawn as a target, hence as a
    negative of the other users.
    """

    target_counts_N: npt.NDArray[np.int64]
    known_items: npt.NDArray[np.int64]
    targets_per_row: int
    random_negatives: int

    def draw_targets(self, batch: SequenceBatch, rng: np.random.Generator) -> Ints:
        """item numbers [B, P]: P of each row's targets, with replacement."""
        places_BP = rng.random((len(batch), self.targets_per_row)) * batch.num_targets_B[:, None]
        return np.take_along_axis(batch.target_items_BM, places_BP.astype(np.int64), axis=1)

    def draw_negatives(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Item numbers drawn evenly from the catalogue: the tail has to learn its place too."""
        return rng.choice(self.known_items, self.random_negatives)

    def log_expected(self, items_C: npt.NDArray[np.int64], *, num_targets: int, num_negatives: int) -> Floats:
        """Log of the expected number of draws of each item in a step with that many draws of each kind."""
        by_target = num_targets * self.target_counts_N[items_C] / max(1, self.target_counts_N.sum())
        by_chance = num_negatives / max(1, len(self.known_items))
        log_expected: Floats = np.log(by_target + by_chance + 1e-12).astype(np.float32)
        return log_expected


def other_targets(batch: SequenceBatch, items_C: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """[B, C]: whether the item is among all the targets of the row; `items_C` is sorted and without repeats."""
    is_target_BC = np.zeros((len(batch), len(items_C)), dtype=bool)
    places_BM = np.searchsorted(items_C, batch.target_items_BM).clip(max=len(items_C) - 1)
    is_hit_BM = items_C[places_BM] == batch.target_items_BM
    rows, columns = np.nonzero(is_hit_BM)
    is_target_BC[rows, places_BM[rows, columns]] = True
    return is_target_BC
