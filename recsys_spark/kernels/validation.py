"""The metric an epoch is judged by: NDCG over the whole catalogue, nothing sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.kernels.batches import SequenceBatch
from recsys_spark.kernels.communicator import Communicator


@dataclass(frozen=True)
class Validation:
    """One look at the validation window.

    `offset_b` is minus the mean over users of log sum_items exp(alpha * cosine): with it a score is, on average, the
    log of the item's share of the catalogue's probability.
    """

    ndcg: float
    recall: float
    offset_b: float
    num_rows: int
    k: int

    def as_metrics(self) -> dict[str, float]:
        return {f"validation_ndcg_{self.k}": self.ndcg, f"validation_recall_{self.k}": self.recall}

    def __str__(self) -> str:
        return f"validation NDCG@{self.k} {self.ndcg:.4f}, recall@{self.k} {self.recall:.4f} ({self.num_rows:,} users)"


def validate(
    catalogue_ND: Tensor,
    items_N: npt.NDArray[np.int64],
    users: Sequence[tuple[Tensor, SequenceBatch]],
    *,
    alpha: float,
    k: int,
    communicator: Communicator,
) -> Validation:
    """Rank the N items for each user vector [B, D]; sums go over all ranks.

    Memory: one score matrix of the largest batch, 4 * B * N bytes.
    """
    totals = torch.zeros(4, dtype=torch.float64)
    discount = 1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
    for user_vectors_BD, batch in users:
        scores_BN = user_vectors_BD @ catalogue_ND.T
        top_BK = scores_BN.topk(min(k, len(items_N)), dim=1).indices.cpu().numpy()
        is_hit_BK = (items_N[top_BK][:, :, None] == batch.target_items_BM[:, None, :]).any(axis=2)
        gain_B = (torch.from_numpy(is_hit_BK).double() * discount[: top_BK.shape[1]]).sum(dim=1)
        num_targets_B = torch.from_numpy(batch.num_targets_B.astype(np.int64))
        ideal_B = discount.cumsum(0)[num_targets_B.clamp(max=k) - 1]
        totals[0] += (gain_B / ideal_B).sum()
        totals[1] += (torch.from_numpy(is_hit_BK.sum(axis=1)) / num_targets_B).sum()
        totals[2] += torch.logsumexp(alpha * scores_BN, dim=1).double().sum().cpu()
        totals[3] += len(batch)
    ndcg, recall, log_sum, num_rows = communicator.sum(totals).tolist()
    return Validation(ndcg / num_rows, recall / num_rows, -log_sum / num_rows, int(num_rows), k)
