"""The training loop: batches, a communicator and a tracker in; the best model and what was seen out.

It knows nothing of Spark, Horovod, Petastorm or MLflow: with a list of batches and `OneRank` it runs in a unit test.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from recsys_spark.errors import problem
from recsys_spark.kernels.batches import CHECKSUM_MODULUS, ItemTexts, SequenceBatch
from recsys_spark.kernels.communicator import Communicator
from recsys_spark.kernels.losses.sampled_softmax import sampled_softmax
from recsys_spark.kernels.progress import Progress
from recsys_spark.kernels.sampling import TargetSampler, other_targets
from recsys_spark.kernels.text_encoder import encode_all
from recsys_spark.kernels.two_tower import TwoTower
from recsys_spark.kernels.validation import Validation, validate


class Tracker(Protocol):
    """Where curves go."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Note values at a step."""


class Feed(Protocol):
    """The training rows of this rank."""

    num_steps: int

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        """Every row of the rank once, in `num_steps` batches; the order depends on the number."""


@dataclass(frozen=True)
class TrainSettings:
    """See conf/base.yaml, section train. `precision` is what the towers' activations are computed in."""

    epochs: int
    patience: int
    learning_rate: float
    encoder_learning_rate: float
    weight_decay: float
    warmup_share: float
    live_texts: int
    batch_tokens: int
    validation_k: int
    seed: int
    precision: torch.dtype


@dataclass(frozen=True)
class TrainResult:
    """What training ended with: one validation per epoch, and what all ranks together were fed."""

    best_epoch: int
    best_metric: float
    validations: list[Validation]
    rows_fed: int
    rows_checksum: int


class Trainer:
    """One rank's share of the training of `model` (B rows, L events, C sampled items, D dimensions)."""

    def __init__(
        self,
        model: TwoTower,
        texts: ItemTexts,
        sampler: TargetSampler,
        communicator: Communicator,
        settings: TrainSettings,
    ) -> None:
        self._model = model
        self._texts = texts
        self._sampler = sampler
        self._communicator = communicator
        self._settings = settings
        self._device = next(model.parameters()).device
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._text_of_item_N = self._to_device(texts.text_of_item_N)
        communicator.broadcast([*model.parameters(), *model.buffers()])
        self._text_vectors_UH = torch.empty(0)

    def fit(
        self,
        feed: Feed,
        validation_rows: Sequence[SequenceBatch],
        tracker: Tracker,
        progress: Progress,
        on_best: Callable[[TwoTower, Validation], None],
    ) -> TrainResult:
        """Train until `epochs` are over or `patience` epochs brought no better validation metric.

        The model ends with the best epoch's weights. `on_best` is called after each epoch that was the best so far.

        Raises the typed error, on every rank, once the loss or the validation is NaN or infinity.
        """
        settings = self._settings
        optimizer = self._make_optimizer()
        schedule = _warmup_then_cosine(optimizer, feed.num_steps * settings.epochs, settings.warmup_share)
        best_weights, best_epoch, validations = copy.deepcopy(self._model.state_dict()), 0, []
        rows_fed = checksum = 0
        self.refresh_text_vectors()
        self._model.whiten_texts(self._text_vectors_UH)
        for epoch in range(1, settings.epochs + 1):
            self._model.train()
            self._model.text_encoder.eval()  # fine-tuned without dropout: its vectors stand beside refreshed ones
            for step, batch in enumerate(feed.epoch(epoch)):
                loss = self._step(batch, optimizer, np.random.default_rng([settings.seed, epoch, step]))
                _require_finite(loss, f"training, loss of epoch {epoch}, step {step + 1}")
                schedule.step()
                rows_fed += len(batch)
                checksum += int((batch.row_id_B % CHECKSUM_MODULUS).sum())
                done = (epoch - 1) * feed.num_steps + step + 1
                progress.update(epoch=epoch, step=step + 1, loss=loss, rows=len(batch) * self._communicator.size)
                tracker.log_metrics({"train_loss": loss}, done)
            self.refresh_text_vectors()
            validations.append(self.validate(validation_rows))
            # the weights after the epoch's last step are in no loss of it
            _require_finite(validations[-1].offset_b, f"training, offset_b of the validation after epoch {epoch}")
            tracker.log_metrics(validations[-1].as_metrics(), epoch)
            progress.say(f"epoch {epoch}: {validations[-1]}")
            if validations[-1].ndcg > max((v.ndcg for v in validations[:-1]), default=-1.0):
                best_epoch = epoch
                self._model.offset_b.fill_(validations[-1].offset_b)
                best_weights = copy.deepcopy(self._model.state_dict())
                on_best(self._model, validations[-1])
            elif epoch - best_epoch >= settings.patience:
                break
        self._model.load_state_dict(best_weights)
        best = max(validation.ndcg for validation in validations)
        fed = self._communicator.sum(torch.tensor([rows_fed, checksum], dtype=torch.int64)).tolist()
        return TrainResult(best_epoch, best, validations, rows_fed=fed[0], rows_checksum=fed[1])

    def refresh_text_vectors(self) -> None:
        """Encode every distinct text with the encoder as it is now; each rank its share, then all share the result."""
        shares = np.array_split(np.arange(len(self._texts.lengths_U)), self._communicator.size)
        mine = shares[self._communicator.rank]
        vectors = encode_all(
            self._model.text_encoder,
            self._texts.token_ids_UT[mine],
            self._texts.lengths_U[mine],
            batch_tokens=self._settings.batch_tokens,
            precision=self._settings.precision,
        )
        self._text_vectors_UH = self._communicator.gather(torch.from_numpy(vectors).to(self._device))

    def validate(self, rows: Sequence[SequenceBatch]) -> Validation:
        """The whole catalogue ranked for every validation row of every rank."""
        self._model.eval()
        with torch.inference_mode():
            items = torch.from_numpy(self._texts.known_items).to(self._device)
            catalogue_ND = torch.cat(
                [self._model.item_vectors(self._text_vectors(part), part) for part in items.split(65_536)]
            )
            return validate(
                catalogue_ND,
                self._texts.known_items,
                [(self._user_vectors(batch, None), batch) for batch in rows],
                alpha=float(self._model.alpha),
                k=self._settings.validation_k,
                communicator=self._communicator,
            )

    def _step(self, batch: SequenceBatch, optimizer: torch.optim.Optimizer, shared: np.random.Generator) -> float:
        """One step; `shared` gives the same numbers on every rank. Returns the mean loss over all ranks."""
        comm = self._communicator
        own = np.random.default_rng([int(shared.integers(2**31)), comm.rank])
        targets_BP = self._sampler.draw_targets(batch, own)
        all_targets = comm.gather(torch.from_numpy(targets_BP.reshape(-1).astype(np.int64))).numpy()
        negatives = self._sampler.draw_negatives(shared)
        items_C = np.unique(np.concatenate([all_targets, negatives]))
        live = self._encode_live(np.unique(self._texts.text_of_item_N[targets_BP]), own)
        loss_sum = self._loss(batch, targets_BP, items_C, live, len(all_targets), len(negatives)) * len(batch)
        total_rows = len(all_targets) // self._sampler.targets_per_row
        optimizer.zero_grad(set_to_none=True)
        (loss_sum * comm.size / total_rows).backward()  # the mean over ranks is the mean over all rows
        comm.average_gradients(self._parameters)
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        optimizer.step()
        return float(comm.sum(loss_sum.detach().cpu())) / total_rows

    def _loss(
        self,
        batch: SequenceBatch,
        targets_BP: npt.NDArray[Any],
        items_C: npt.NDArray[Any],
        live: _LiveTexts,
        num_targets: int,
        num_negatives: int,
    ) -> Tensor:
        log_expected_C = self._sampler.log_expected(items_C, num_targets=num_targets, num_negatives=num_negatives)
        candidates_C = self._to_device(items_C)
        vectors_CD = self._model.item_vectors(self._text_vectors(candidates_C, live), candidates_C)
        users_BD = self._user_vectors(batch, live)
        return sampled_softmax(
            users_BD @ vectors_CD.T,
            self._model.alpha,
            self._to_device(log_expected_C),
            self._to_device(np.searchsorted(items_C, targets_BP)),
            self._to_device(other_targets(batch, items_C)),
        )

    def _user_vectors(self, batch: SequenceBatch, live: _LiveTexts | None) -> Tensor:
        width = int(batch.num_events_B.max())
        events_BL = batch.event_items_BL[:, :width].clip(min=0)
        unique_U, places = np.unique(events_BL, return_inverse=True)
        items_U = self._to_device(unique_U.astype(np.int64))
        vectors_UD = self._model.item_vectors(self._text_vectors(items_U, live), items_U)
        with self._in_precision():
            return self._model.user_vectors(
                _take(vectors_UD, self._to_device(places.reshape(events_BL.shape))),
                self._to_device(batch.event_types_BL[:, :width]),
                self._to_device(batch.event_hours_BL[:, :width]),
                self._to_device(batch.num_events_B.astype(np.int64)),
            )

    def _encode_live(self, texts: npt.NDArray[Any], rng: np.random.Generator) -> _LiveTexts:
        """Run some of the step's texts through the encoder with gradient."""
        chosen = np.sort(rng.permutation(texts)[: self._settings.live_texts])
        if not len(chosen):
            return _LiveTexts(self._to_device(chosen), torch.empty(0))
        with self._in_precision():
            vectors = self._model.text_encoder(
                self._to_device(self._texts.token_ids_UT[chosen]), self._to_device(self._texts.lengths_U[chosen])
            )
        return _LiveTexts(self._to_device(chosen), vectors)

    def _text_vectors(self, items_n: Tensor, live: _LiveTexts | None = None) -> Tensor:
        """Text vectors [n, H] of items: this step's live ones where there are, else those of the last refresh."""
        texts_n = self._text_of_item_N[items_n]
        stale_nH = self._text_vectors_UH[texts_n]
        if live is None or not len(live.texts):
            return stale_nH
        places_n = torch.searchsorted(live.texts, texts_n).clamp(max=len(live.texts) - 1)
        is_live_n1 = (live.texts[places_n] == texts_n)[:, None]
        return torch.where(is_live_n1, _take(live.vectors, places_n), stale_nH)

    def _in_precision(self) -> torch.autocast:
        precision = self._settings.precision
        return torch.autocast(self._device.type, dtype=precision, enabled=precision != torch.float32)

    def _to_device(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """The pretrained encoder moves slowly, everything else fast; ids and scale are not decayed."""
        settings = self._settings
        groups: dict[str, list[nn.Parameter]] = {"encoder": [], "decayed": [], "free": []}
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad:
                is_free = parameter.ndim < 2 or "embedding" in name
                kind = "encoder" if name.startswith("text_encoder.") else "free" if is_free else "decayed"
                groups[kind].append(parameter)
        return torch.optim.AdamW(
            [
                {"params": groups["encoder"], "lr": settings.encoder_learning_rate},
                {"params": groups["decayed"], "lr": settings.learning_rate, "weight_decay": settings.weight_decay},
                {"params": groups["free"], "lr": settings.learning_rate, "weight_decay": 0.0},
            ],
            fused=True,
        )


@dataclass(frozen=True)
class _LiveTexts:
    """Texts (sorted rows) that ran through the encoder in this step, and their vectors with gradient."""

    texts: Tensor
    vectors: Tensor


def _take(vectors: Tensor, places: Tensor) -> Tensor:
    """`vectors[places]`, with a gradient that is the same each time: an index's is added up by several threads at once,
    in an order of chance (four equal trainings on two threads gave four models)."""
    return nnf.embedding(places, vectors)


def _require_finite(value: float, where: str) -> None:
    """Raises the typed error for NaN or infinity; `value` is a sum over all ranks, so that they stop together."""
    if not math.isfinite(value):
        raise problem(
            where,
            wanted="a finite number",
            found=str(value),
            do="Train again with a lower train.learning_rate, or a lower train.encoder_learning_rate.",
        )


def _warmup_then_cosine(
    optimizer: torch.optim.Optimizer, num_steps: int, warmup_share: float
) -> torch.optim.lr_scheduler.LambdaLR:
    warmup = max(1, int(num_steps * warmup_share))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, num_steps - warmup))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
