from __future__ import annotations

import math

import pytest
import torch

from recsys_spark.kernels.losses.sampled_softmax import sampled_softmax


def test_loss_of_a_pair_is_the_log_share_of_its_target_among_the_negatives():
    # one user, items a b c d; a was drawn as target, b is another target of the user, c and d are negatives
    cosines = torch.tensor([[0.5, 0.9, 0.1, -0.2]])
    log_expected = torch.tensor([2.0, 1.0, 4.0, 0.5]).log()
    is_target = torch.tensor([[True, True, False, False]])
    a, c, d = (math.exp(10 * cosine) / expected for cosine, expected in ((0.5, 2.0), (0.1, 4.0), (-0.2, 0.5)))
    loss = sampled_softmax(cosines, torch.tensor(10.0), log_expected, torch.tensor([[0]]), is_target)
    assert loss.item() == pytest.approx(-math.log(a / (a + c + d)), abs=1e-6)


def test_without_temperature_a_uniform_sampler_gives_plain_cross_entropy():
    cosines = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0], [3], [3], [6]])
    is_target = torch.zeros(4, 7, dtype=torch.bool).scatter(1, targets, True)
    loss = sampled_softmax(cosines, torch.tensor(1.0), torch.zeros(7), targets, is_target)
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(cosines, targets[:, 0]).item(), abs=1e-6)


def test_a_user_without_any_negative_has_no_loss_and_a_finite_gradient():
    cosines = torch.tensor([[0.3, 0.4]], requires_grad=True)
    everything = torch.ones(1, 2, dtype=torch.bool)
    loss = sampled_softmax(cosines, torch.tensor(5.0), torch.zeros(2), torch.tensor([[1]]), everything)
    loss.backward()
    assert loss.item() == 0.0
    assert cosines.grad is not None and cosines.grad.abs().sum().item() == 0.0
