"""Training steps of the two towers on one GPU: does the loss fall, and how long does a step take beside the CPU.

The model, its settings and the texts are those of the Complete Journey run (conf/base.yaml); the rows are made: users
buy from a few of 500 aisles, where an aisle is a stretch of the catalogue, so there is something to learn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.embed_texts import ENCODER, product_texts
from recsys_spark.kernels.batches import ItemTexts, SequenceBatch
from recsys_spark.kernels.communicator import OneRank
from recsys_spark.kernels.precision import fast_precision
from recsys_spark.kernels.progress import Progress
from recsys_spark.kernels.sampling import TargetSampler
from recsys_spark.kernels.text_encoder import TextEncoder, Tokenizer
from recsys_spark.kernels.train_loop import Trainer, TrainSettings
from recsys_spark.kernels.two_tower import Shape, TwoTower

BATCH_ROWS, MAX_EVENTS, MAX_TARGETS, MAX_TOKENS = 64, 128, 64, 32
_AISLES, _TASTES, _POPULAR = 500, 3, 12
_USERS_VALIDATED = 512


class MadeRows:
    """A feed of `num_steps` batches of made users."""

    def __init__(self, num_items: int, num_steps: int) -> None:
        self.num_steps = num_steps
        self._first_of_aisle = np.arange(_AISLES) * (num_items // _AISLES)

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        return (self.rows(BATCH_ROWS, seed=(number, step)) for step in range(self.num_steps))

    def rows(self, num: int, seed: tuple[int, int]) -> SequenceBatch:
        """Events and targets of a user come from the popular items of three aisles."""
        rng = np.random.default_rng(seed)
        tastes_BA = rng.integers(0, _AISLES, (num, _TASTES))
        num_events_B = rng.integers(8, MAX_EVENTS + 1, num).astype(np.int32)

        def draw(width: int) -> np.ndarray:
            aisles_Bw = np.take_along_axis(tastes_BA, rng.integers(0, _TASTES, (num, width)), axis=1)
            items: np.ndarray = self._first_of_aisle[aisles_Bw] + rng.integers(0, _POPULAR, (num, width))
            return items.astype(np.int32)

        is_event_BL = np.arange(MAX_EVENTS) < num_events_B[:, None]
        hours_BL = np.sort(rng.integers(0, 9000, (num, MAX_EVENTS)), axis=1)[:, ::-1]
        return SequenceBatch(
            row_id_B=rng.integers(0, 2**40, num),
            event_items_BL=np.where(is_event_BL, draw(MAX_EVENTS), -1).astype(np.int32),
            event_types_BL=np.where(is_event_BL, 3, 0).astype(np.int32),
            event_hours_BL=np.where(is_event_BL, hours_BL, 0).astype(np.int32),
            num_events_B=num_events_B,
            target_items_BM=draw(MAX_TARGETS),
            num_targets_B=np.full(num, MAX_TARGETS, dtype=np.int32),
        )


class Curve:
    """A tracker that keeps losses, and when they came."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.times: list[float] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if "train_loss" in metrics:
            self.losses.append(metrics["train_loss"])
            self.times.append(time.perf_counter())

    @property
    def seconds_per_step(self) -> float:
        """The median of the second half: kernels are made in the first steps."""
        return float(np.median(np.diff(self.times)[len(self.times) // 2 - 1 :]))

    def __str__(self) -> str:
        num = min(20, len(self.losses) // 2)
        first, last = np.mean(self.losses[:num]), np.mean(self.losses[-num:])
        steps = f"{len(self.losses)} steps in {self.times[-1] - self.times[0]:.1f} s"
        return f"{steps}, mean loss of the first {num} {first:.2f}, of the last {last:.2f}"


def train(device: torch.device, num_steps: int) -> tuple[Curve, str]:
    """Losses and times of one epoch of `num_steps` steps, and what its end said."""
    torch.manual_seed(0)
    texts = _texts()
    feed = MadeRows(texts.num_items, num_steps)
    counts_N = np.zeros(texts.num_items, dtype=np.int64)
    counts_N[(feed._first_of_aisle[:, None] + np.arange(_POPULAR)).ravel()] = 50
    shape = Shape(128, MAX_EVENTS, 2, 4, 0.0, texts.num_items, num_ids=int((counts_N > 0).sum()))
    model = TwoTower(TextEncoder.pretrained(ENCODER), shape)
    model.number_ids(torch.from_numpy(counts_N), 5)
    model.text_encoder.train_last_layers(2)
    settings = TrainSettings(
        epochs=1, patience=1, learning_rate=0.002, encoder_learning_rate=0.00003, weight_decay=0.01, warmup_share=0.05,
        live_texts=16, batch_tokens=2048, validation_k=20, seed=0, precision=fast_precision(device),
    )  # fmt: skip
    sampler = TargetSampler(counts_N, texts.known_items, targets_per_row=16, random_negatives=1024)
    trainer = Trainer(model.to(device), texts, sampler, OneRank(), settings)
    curve = Curve()
    said: list[str] = []
    progress = Progress(epochs=1, steps=num_steps, say=said.append, every_seconds=3600)
    trainer.fit(feed, [feed.rows(_USERS_VALIDATED, seed=(0, 0))], curve, progress, lambda _model, _validation: None)
    return curve, said[-1]


def _texts() -> ItemTexts:
    texts = product_texts()
    distinct, text_of_item_N = np.unique(texts, return_inverse=True)
    token_ids_UT, lengths_U = Tokenizer(ENCODER, MAX_TOKENS)(distinct.tolist())
    return ItemTexts(token_ids_UT, lengths_U, text_of_item_N.astype(np.int64))
