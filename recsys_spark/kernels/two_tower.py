"""The model: an item tower over text and id, a user tower over events, one score = alpha * cosine + b."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from recsys_spark.kernels.text_encoder import TextEncoder
from recsys_spark.kernels.user_tower import UserTower

_FIRST_ALPHA = 15.0
"""Scale of the cosine before training; CLIP starts at 14.3 and learns it too."""

_SAME_TEXTS = 1e-10
"""Share of the text vectors' squared length that varies at most when nothing but rounding tells them apart."""


@dataclass(frozen=True)
class Shape:
    """What a model's weights need to be read back."""

    embedding_dim: int
    max_events: int
    user_layers: int
    user_heads: int
    dropout: float
    num_items: int
    num_ids: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class TwoTower(nn.Module):
    """N item numbers, V of them with a vector of their own, H text dimensions, D output dimensions."""

    id_row_N: Tensor
    offset_b: Tensor

    def __init__(self, text_encoder: TextEncoder, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.text_encoder = text_encoder
        self.text_projection = nn.Linear(text_encoder.hidden_size, shape.embedding_dim)
        # Row 0 is shared by all items too rare for a vector of their own: it learns how seldom such items are chosen,
        # their text says the rest. All begin with about the text's unit length, in random directions, so that two
        # items of one text are two items from the first step on. (Beginning with popularity in one dimension, as good
        # as the popularity baseline before the first step, ended lower: validation NDCG@20 0.124 against 0.142.)
        self.id_embedding = nn.Embedding(shape.num_ids + 1, shape.embedding_dim)
        nn.init.normal_(self.id_embedding.weight, std=shape.embedding_dim**-0.5)
        self.user_tower = UserTower(
            shape.embedding_dim,
            max_events=shape.max_events,
            layers=shape.user_layers,
            heads=shape.user_heads,
            dropout=shape.dropout,
        )
        self.log_alpha = nn.Parameter(torch.tensor(_FIRST_ALPHA).log())
        self.register_buffer("offset_b", torch.zeros(()))
        self.register_buffer("id_row_N", torch.zeros(shape.num_items, dtype=torch.int32))

    @property
    def alpha(self) -> Tensor:
        return self.log_alpha.exp()

    @torch.no_grad()
    def number_ids(self, target_counts_N: Tensor, min_targets: int) -> None:
        """Give each item chosen at least `min_targets` times a row of its own: 1, 2, 3, …; the others share row 0."""
        is_frequent_N = target_counts_N >= min_targets
        self.id_row_N.copy_(torch.where(is_frequent_N, is_frequent_N.cumsum(0), 0))

    @torch.no_grad()
    def whiten_texts(self, text_vectors_UH: Tensor) -> None:
        """Begin the text projection as the D whitened principal components of the catalogue's U texts.

        Pretrained text vectors share one large direction: without centring, everything is near everything, and items
        without an id vector flood every list. (Su et al. 2021, "Whitening sentence representations".)

        Texts that are all the same have no components: the projection keeps its random start.
        """
        mean_H = text_vectors_UH.mean(dim=0)
        if text_vectors_UH.var(dim=0, correction=0).sum() <= _SAME_TEXTS * mean_H.square().sum():
            return
        covariance_HH = torch.cov(text_vectors_UH.T.double())
        variances_H, directions_HH = torch.linalg.eigh(covariance_HH)  # ascending
        dim = min(self.text_projection.out_features, len(mean_H))
        # an eigenvector's sign is the library's choice: the largest entry is made positive, on every machine
        largest_H = directions_HH.gather(0, directions_HH.abs().argmax(dim=0, keepdim=True)).squeeze(0)
        directions_HH = directions_HH * largest_H.sign()
        scale_D = (variances_H[-dim:] + 1e-6 * variances_H[-1]).rsqrt()
        components_DH = (directions_HH[:, -dim:] * scale_D).T.to(mean_H.dtype)
        self.text_projection.weight.zero_()
        self.text_projection.weight[:dim] = components_DH
        self.text_projection.bias.zero_()
        self.text_projection.bias[:dim] = -components_DH @ mean_H

    def item_vectors(self, text_vectors_nH: Tensor, items_n: Tensor) -> Tensor:
        """Unit vectors [n, D] of items: their text's direction, moved by what their id has learnt.

        An item number the model has never seen (new in the catalogue) counts as rare.
        """
        return nnf.normalize(self.text_vectors(text_vectors_nH) + self.id_embedding(self._id_rows(items_n)), dim=1)

    def text_vectors(self, text_vectors_nH: Tensor) -> Tensor:
        """Unit vectors [n, D] of what items' texts say, alone."""
        return nnf.normalize(self.text_projection(text_vectors_nH), dim=1)

    def behaviour_vectors(self, items_n: Tensor) -> Tensor:
        """Unit vectors [n, D] of what items' ids have learnt from behaviour, alone; zeros for items too rare to."""
        id_rows_n = self._id_rows(items_n)
        return nnf.normalize(self.id_embedding(id_rows_n), dim=1) * (id_rows_n > 0)[:, None]

    def _id_rows(self, items_n: Tensor) -> Tensor:
        is_known_n = items_n < len(self.id_row_N)
        return torch.where(is_known_n, self.id_row_N[items_n.clamp(max=len(self.id_row_N) - 1)], 0)

    def user_vectors(self, items_BLD: Tensor, types_BL: Tensor, hours_BL: Tensor, num_events_B: Tensor) -> Tensor:
        """Unit vectors [B, D] of users from their events' item vectors."""
        user_vectors_BD: Tensor = self.user_tower(items_BLD, types_BL, hours_BL, num_events_B)
        return user_vectors_BD
