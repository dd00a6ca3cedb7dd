from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys_spark.errors import RecsysError
from recsys_spark.kernels.communicator import OneRank
from recsys_spark.kernels.progress import Progress
from recsys_spark.kernels.train_loop import CHECKSUM_MODULUS, Trainer
from tests.unit.kernel_world import (
    ListFeed,
    ListTracker,
    make_model,
    make_rows,
    make_sampler,
    make_settings,
    make_texts,
)


def fit(model, batches, validation, communicator=None, tracker=None, **settings):
    trainer = Trainer(model, make_texts(), make_sampler(), communicator or OneRank(), make_settings(**settings))
    said: list[str] = []
    progress = Progress(epochs=3, steps=len(batches), say=said.append, every_seconds=0)
    bests: list[int] = []
    result = trainer.fit(
        ListFeed(batches),
        validation,
        tracker or ListTracker(),
        progress,
        lambda _model, best: bests.append(best.num_rows),
    )
    return result, said, bests


def test_learns_what_users_choose_next():
    batches = [make_rows(24, seed=seed) for seed in range(6)]
    tracker = ListTracker()
    result, said, bests = fit(make_model(), batches, [make_rows(40, seed=99)], tracker=tracker, epochs=10, patience=10)
    losses = tracker.curve("train_loss")
    assert np.mean(losses[-6:]) < np.mean(losses[:6]) - 0.3
    assert result.best_metric == max(tracker.curve("validation_ndcg_5"))
    assert result.best_metric > 0.2  # a guess among all items reaches 0.1, one that knows the taste 0.2 to 0.25
    assert len(bests) >= 1 and bests[0] == 40
    assert any("loss" in line and "samples/s" in line and "left" in line for line in said)


def test_counts_and_checksums_every_row_of_every_epoch():
    batches = [make_rows(5, seed=1), make_rows(7, seed=2)]
    result, _, _ = fit(make_model(), batches, [make_rows(6)], epochs=2, patience=9)
    ids = np.concatenate([batch.row_id_B for batch in batches]) % CHECKSUM_MODULUS
    assert (result.rows_fed, result.rows_checksum) == (24, 2 * int(ids.sum()))


def test_stops_when_patience_brought_no_better_metric_and_keeps_the_best_weights():
    model = make_model()
    tracker = ListTracker()
    result, _, _ = fit(
        model, [make_rows(24)], [make_rows(30, seed=5)], tracker=tracker, epochs=40, patience=2, learning_rate=1.0
    )
    curve = tracker.curve("validation_ndcg_5")
    assert len(curve) < 40
    assert result.best_epoch == int(np.argmax(curve)) + 1
    assert len(curve) == result.best_epoch + 2
    again = Trainer(model, make_texts(), make_sampler(), OneRank(), make_settings())
    again.refresh_text_vectors()
    assert again.validate([make_rows(30, seed=5)]).ndcg == pytest.approx(result.best_metric, abs=1e-6)


def test_only_the_last_encoder_layer_is_fine_tuned():
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, [make_rows(24)], [make_rows(10)], epochs=2)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    encoder = {name for name in changed if name.startswith("text_encoder.")}
    assert encoder and all(".layer.1." in name for name in encoder)
    assert "id_embedding.weight" in changed and "log_alpha" in changed


def test_threads_of_a_rank_make_no_difference_from_one_training_to_the_next():
    """Enough numbers for torch to share a step's work out between threads."""
    threads, weights = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        for _ in range(4):
            model = make_model()
            fit(model, [make_rows(2000, seed=seed) for seed in range(3)], [make_rows(8)], epochs=1, live_texts=12)
            weights.append(torch.cat([value.flatten().float() for value in model.state_dict().values()]))
    finally:
        torch.set_num_threads(threads)
    assert [torch.equal(weights[0], others) for others in weights[1:]] == [True] * 3


def test_a_rank_without_validation_rows_takes_part_in_the_metric():
    rows, validation, ranks, results = make_rows(16), make_rows(10, seed=5), ThreadRanks(2), {}

    def work(rank: int) -> None:
        own = [[validation], []][rank]
        half = rows.rows(slice(8 * rank, 8 * rank + 8))
        results[rank], _, _ = fit(make_model(), [half], own, communicator=ranks.member(rank), epochs=1)

    with ThreadPoolExecutor(2) as pool:
        [rank.result(timeout=120) for rank in [pool.submit(work, rank) for rank in range(2)]]
    assert results[0].validations == results[1].validations
    assert results[0].validations[0].num_rows == 10 and results[0].best_metric > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_trains_as_the_processor_does():
    curves = []
    for model in (make_model(), make_model().to("cuda")):
        tracker = ListTracker()
        fit(model, [make_rows(24, seed=seed) for seed in range(6)], [make_rows(40)], tracker=tracker)
        curves.append(tracker.curve("train_loss"))
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-3)


class ThreadRanks:
    """Collectives between threads: what Horovod does between processes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size, timeout=60)
        self._slots: list[object] = [None] * size

    def member(self, rank: int):
        group = self

        class Member:
            size = group.size

            def __init__(self) -> None:
                self.rank = rank

            def _exchange(self, value):
                group._slots[rank] = value
                group._barrier.wait()
                everybody = list(group._slots)
                group._barrier.wait()
                return everybody

            def sum(self, tensor):
                return torch.stack(self._exchange(tensor)).sum(0)

            def gather(self, tensor):
                return torch.cat(self._exchange(tensor))

            def average_gradients(self, parameters):
                for parameter in parameters:
                    own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    parameter.grad = torch.stack(self._exchange(own.clone())).mean(0)

            def broadcast(self, parameters):
                for parameter in parameters:
                    parameter.data.copy_(self._exchange(parameter.data.clone())[0])

        return Member()


def draw_every_target(self, batch, rng):
    """Targets without chance: which rank holds a row must not matter for what is drawn."""
    places = np.arange(self.targets_per_row) % batch.num_targets_B[:, None]
    return np.take_along_axis(batch.target_items_BM, places, axis=1)


def test_two_ranks_with_half_the_rows_train_the_same_model_as_one_rank_with_all(monkeypatch):
    monkeypatch.setattr("recsys_spark.kernels.sampling.TargetSampler.draw_targets", draw_every_target)
    rows = [make_rows(16, seed=seed) for seed in range(4)]
    validation = make_rows(12, seed=50)
    single, pair = make_model(), [make_model(), make_model(seed=9)]  # rank 1 starts elsewhere: it gets rank 0's weights
    alone, _, _ = fit(single, rows, [validation], live_texts=0, epochs=1)
    ranks, results = ThreadRanks(2), {}

    def work(rank: int) -> None:
        half = slice(8 * rank, 8 * rank + 8)
        results[rank], _, _ = fit(
            pair[rank],
            [batch.rows(half) for batch in rows],
            [validation.rows(slice(6 * rank, 6 * rank + 6))],
            communicator=ranks.member(rank),
            live_texts=0,
            epochs=1,
            patience=9,
        )

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    [thread.start() for thread in threads]
    [thread.join(timeout=120) for thread in threads]
    assert results[0].rows_fed == results[1].rows_fed == alone.rows_fed
    assert results[0].best_metric == pytest.approx(alone.best_metric, abs=1e-4)
    for (name, one), two, three in zip(
        single.state_dict().items(), pair[0].state_dict().values(), pair[1].state_dict().values(), strict=True
    ):
        assert torch.equal(two, three), f"ranks differ in {name}"
        assert torch.allclose(one.float(), two.float(), atol=1e-3), name


@pytest.mark.parametrize(
    ("num_steps", "where"), [(2, "loss of epoch 1, step 2"), (1, "offset_b of the validation after epoch 1")]
)
def test_weights_that_are_no_numbers_stop_the_training(num_steps, where):
    with pytest.raises(RecsysError, match=rf"{where}: wanted a finite number; found nan.*train\.learning_rate"):
        fit(make_model(), [make_rows(8)] * num_steps, [make_rows(6)], learning_rate=1e38)


def test_a_loss_that_is_no_number_on_one_rank_stops_all_with_the_same_error(monkeypatch):
    loss = Trainer._loss
    monkeypatch.setattr(Trainer, "_loss", lambda self, *a: loss(self, *a) * [1, np.nan][self._communicator.rank])
    ranks, models = ThreadRanks(2), [make_model(), make_model()]

    def work(rank: int) -> None:
        fit(models[rank], [make_rows(8)], [make_rows(6)], communicator=ranks.member(rank))

    with ThreadPoolExecutor(2) as pool:
        errors = [pool.submit(work, rank) for rank in range(2)]
    first, second = (error.exception() for error in errors)
    assert isinstance(first, RecsysError) and first.problems == second.problems
    assert "loss of epoch 1, step 1" in str(first)


def test_losses_of_the_first_steps_are_the_golden_ones():
    tracker = ListTracker()
    fit(make_model(), [make_rows(16, seed=seed) for seed in range(20)], [make_rows(4)], tracker=tracker, epochs=1)
    golden = json.loads((Path(__file__).parents[1] / "golden" / "train_losses.json").read_text())
    assert tracker.curve("train_loss") == pytest.approx(golden, abs=2e-3)
