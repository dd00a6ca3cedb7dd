"""A tiny catalogue, a tiny encoder and a few training rows, for tests of the kernels."""

from __future__ import annotations

import math

import numpy as np
import torch
from transformers import BertConfig, BertModel

from recsys_spark.kernels.batches import ItemTexts, SequenceBatch
from recsys_spark.kernels.sampling import TargetSampler
from recsys_spark.kernels.text_encoder import TextEncoder
from recsys_spark.kernels.train_loop import TrainSettings
from recsys_spark.kernels.two_tower import Shape, TwoTower

NUM_ITEMS, NUM_TEXTS, MAX_EVENTS, MAX_TARGETS = 30, 12, 6, 4


def make_texts() -> ItemTexts:
    rng = np.random.default_rng(7)
    lengths = rng.integers(2, 6, NUM_TEXTS).astype(np.int32)
    token_ids = np.where(np.arange(5) < lengths[:, None], rng.integers(1, 40, (NUM_TEXTS, 5)), 0).astype(np.int32)
    return ItemTexts(token_ids, lengths, rng.integers(0, NUM_TEXTS, NUM_ITEMS).astype(np.int64))


def make_rows(num_rows: int, seed: int = 0) -> SequenceBatch:
    """Users of two tastes: those of even items choose even items next, the others odd ones."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(0, 2, (num_rows, 1))
    num_events = rng.integers(1, MAX_EVENTS + 1, num_rows).astype(np.int32)
    num_targets = rng.integers(1, MAX_TARGETS + 1, num_rows).astype(np.int32)
    events = 2 * rng.integers(0, NUM_ITEMS // 2, (num_rows, MAX_EVENTS)) + taste
    targets = np.stack([2 * rng.permutation(NUM_ITEMS // 2)[:MAX_TARGETS] for _ in range(num_rows)]) + taste
    is_event = np.arange(MAX_EVENTS) < num_events[:, None]
    return SequenceBatch(
        row_id_B=np.arange(num_rows, dtype=np.int64) - 3,
        event_items_BL=np.where(is_event, events, -1).astype(np.int32),
        event_types_BL=np.where(is_event, 3, 0).astype(np.int32),
        event_hours_BL=np.where(is_event, 3 ** np.arange(MAX_EVENTS, 0, -1), 0).astype(np.int32),
        num_events_B=num_events,
        target_items_BM=np.where(np.arange(MAX_TARGETS) < num_targets[:, None], targets, -1).astype(np.int32),
        num_targets_B=num_targets,
    )


def make_model(seed: int = 0) -> TwoTower:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    shape = Shape(8, MAX_EVENTS, 2, 2, 0.0, NUM_ITEMS, num_ids=20)
    model = TwoTower(TextEncoder(BertModel(config)), shape)
    model.number_ids(torch.where(torch.arange(NUM_ITEMS) < 10, 3, 20), min_targets=10)
    model.text_encoder.train_last_layers(1)
    model.log_alpha.data.fill_(math.log(5))  # the usual scale is for hundreds of dimensions
    return model


def make_sampler(targets_per_row: int = 3, random_negatives: int = 8) -> TargetSampler:
    return TargetSampler(np.full(NUM_ITEMS, 20), np.arange(NUM_ITEMS), targets_per_row, random_negatives)


def make_settings(**changes: float) -> TrainSettings:
    usual = {
        "epochs": 3, "patience": 5, "learning_rate": 0.01, "encoder_learning_rate": 0.001, "weight_decay": 0.0,
        "warmup_share": 0.1, "live_texts": 4, "batch_tokens": 64, "validation_k": 5, "seed": 1,
        "precision": torch.float32,
    }  # fmt: skip
    return TrainSettings(**{**usual, **changes})


class ListFeed:
    """The feed of a unit test: the same batches every epoch."""

    def __init__(self, batches: list[SequenceBatch]) -> None:
        self.batches = batches
        self.num_steps = len(batches)

    def epoch(self, number: int) -> list[SequenceBatch]:
        return self.batches


class ListTracker:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))

    def curve(self, name: str) -> list[float]:
        return [metrics[name] for _, metrics in self.logged if name in metrics]
