"""A causal transformer over a user's events, with a learnt decayed mean of them beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from recsys_spark.kernels.attention import ready_attention

_NUM_TYPES = 32
_NUM_HOUR_BUCKETS = 20
"""Powers of two of hours: bucket 19 begins at 2^18 hours, 30 years."""


class UserTower(nn.Module):
    """Events [B, L] -> unit user vectors [B, D].

    Shapes: B users, L events (oldest first, padding at the end), D dimensions, H heads.

    Only the state after the last event is asked for, so the last layer computes that one alone: with two layers this
    saves two fifths of the work and changes nothing. The decayed mean gives the user a place among the items from the
    first step on: what was had often and lately is near, and the transformer learns where to go from there.
    """

    def __init__(self, dim: int, *, max_events: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.type_embedding = nn.Embedding(_NUM_TYPES, dim)
        self.hours_embedding = nn.Embedding(_NUM_HOUR_BUCKETS, dim)
        self.place_embedding = nn.Embedding(max_events, dim)
        for embedding in (self.type_embedding, self.hours_embedding, self.place_embedding):
            nn.init.normal_(embedding.weight, std=0.02)
        self.layers = nn.ModuleList(_Layer(dim, heads, dropout) for _ in range(layers - 1))
        self.last_layer = _Layer(dim, heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)  # the user begins as the mean of the items
        nn.init.zeros_(self.out.bias)
        self.log_recency_embedding = nn.Embedding(_NUM_HOUR_BUCKETS, 1)
        nn.init.zeros_(self.log_recency_embedding.weight)

    def forward(self, items_BLD: Tensor, types_BL: Tensor, hours_BL: Tensor, num_events_B: Tensor) -> Tensor:
        width = items_BLD.shape[1]
        last_B = num_events_B - 1
        buckets_BL = hour_buckets(hours_BL)
        from_last_BL = last_B[:, None] - torch.arange(width, device=items_BLD.device)
        hidden_BLD = (
            items_BLD
            + self.type_embedding(types_BL.clamp(max=_NUM_TYPES - 1))
            + self.hours_embedding(buckets_BL)
            + self.place_embedding(from_last_BL.clamp(min=0))
        )
        for layer in self.layers:
            hidden_BLD = layer(hidden_BLD)
        last_BD = self.last_layer.last_state(hidden_BLD, last_B, is_event_BL=from_last_BL >= 0)
        weights_BL = self.log_recency_embedding(buckets_BL).squeeze(-1).masked_fill(from_last_BL < 0, -torch.inf)
        with torch.autocast(items_BLD.device.type, enabled=False):  # unit length in float32, whatever comes before
            mean_BD = (weights_BL.float().softmax(dim=1)[:, None] @ items_BLD.float()).squeeze(1)
            return nnf.normalize(self.out(self.norm(last_BD.float())) + mean_BD, dim=1)


class _Layer(nn.Module):
    """A pre-norm transformer layer, causal."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self._dropout = dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """Each event sees itself and those before it; padding stands behind every event and is never seen."""
        normed_BLD = self.attention_norm(hidden_BLD)
        return self._finish(hidden_BLD, self._attend(normed_BLD, normed_BLD, is_causal=True))

    def last_state(self, hidden_BLD: Tensor, last_B: Tensor, *, is_event_BL: Tensor) -> Tensor:
        """State [B, D] after each user's last event."""
        normed_BLD = self.attention_norm(hidden_BLD)
        rows_B = torch.arange(len(last_B), device=last_B.device)
        attended_B1D = self._attend(
            normed_BLD[rows_B, last_B][:, None], normed_BLD, seen_B11L=is_event_BL[:, None, None]
        )
        return self._finish(hidden_BLD[rows_B, last_B], attended_B1D.squeeze(1))

    def _attend(
        self, asking_BQD: Tensor, normed_BLD: Tensor, *, is_causal: bool = False, seen_B11L: Tensor | None = None
    ) -> Tensor:
        def split_heads(x_BLD: Tensor) -> Tensor:
            return x_BLD.view(*x_BLD.shape[:2], self._heads, -1).transpose(1, 2)

        query_BQD = self.query(asking_BQD)
        key_BLD, value_BLD = self.key_value(normed_BLD).chunk(2, dim=2)
        if normed_BLD.device.type == "cpu":  # bfloat16 attention costs three times float32's there, backward most
            query_BQD, key_BLD, value_BLD = query_BQD.float(), key_BLD.float(), value_BLD.float()
        with torch.autocast("cpu", enabled=False), ready_attention():
            attended_BHQd = nnf.scaled_dot_product_attention(
                split_heads(query_BQD),
                split_heads(key_BLD),
                split_heads(value_BLD),
                attn_mask=seen_B11L,
                dropout_p=self._dropout if self.training else 0.0,
                is_causal=is_causal,
            )
        attended_BQD: Tensor = self.attention_out(attended_BHQd.transpose(1, 2).flatten(2))
        return attended_BQD

    def _finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = hidden + self._drop(attended)
        return hidden + self._drop(self.mlp(hidden))

    def _drop(self, x: Tensor) -> Tensor:
        """Dropout; without any, torch would still draw a mask: 4 % of a step."""
        return nnf.dropout(x, self._dropout, self.training) if self._dropout else x


def hour_buckets(hours: Tensor) -> Tensor:
    """0 for the first hour, then one bucket for each doubling."""
    return torch.log2(hours.clamp(min=0) + 1).long().clamp(max=_NUM_HOUR_BUCKETS - 1)
