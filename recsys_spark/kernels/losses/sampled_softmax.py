"""Softmax of what the user chose against sampled items, corrected for how often each is sampled."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nnf

_NEVER = -1e9
"""Logit of an item that is no negative; finite, so that a user without any negative has a gradient of 0."""


def sampled_softmax(
    cosines_BC: Tensor, alpha: Tensor, log_expected_C: Tensor, positives_BP: Tensor, is_other_target_BC: Tensor
) -> Tensor:
    """Mean loss over the B x P (user, target) pairs.

    B users, C sampled items, P targets drawn per user. `cosines_BC` are user-item cosines, `alpha` their scale (1 /
    temperature), `log_expected_C` the log of the expected number of times the sampler draws each item,
    `positives_BP` each target's place among the C items, `is_other_target_BC` marks items that the user chose in
    the same window: an item that is right must not be pushed away because another one was drawn (an accidental hit).

    The correction makes the score itself, not score minus popularity, estimate log p(item | user) + const:
    Bengio & Senécal 2008; Yi et al., RecSys 2019. Subtracting is right: frequent items are over-represented
    among the negatives.
    """
    logits_BC = alpha * cosines_BC - log_expected_C
    negatives_BC = logits_BC.masked_fill(is_other_target_BC, _NEVER)
    positive_BP = logits_BC.gather(1, positives_BP)
    # log of (sum over negatives + the pair's own positive); targets are all masked out of the negatives
    log_negatives_B1 = torch.logsumexp(negatives_BC, dim=1, keepdim=True)
    return nnf.softplus(log_negatives_B1 - positive_BP).mean()
