"""What the training loop needs of the other ranks; one rank needs nothing, which is the test double of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Communicator(Protocol):
    """Collective operations: every rank calls each of them in the same order."""

    rank: int
    size: int

    def sum(self, tensor: Tensor) -> Tensor:
        """Elementwise sum over the ranks."""

    def gather(self, tensor: Tensor) -> Tensor:
        """All ranks' tensors one behind the other along the first axis, in order of rank."""

    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks; a missing gradient counts as zero."""

    def broadcast(self, parameters: Sequence[Tensor]) -> None:
        """Give every rank rank 0's values."""


class OneRank:
    """The communicator of a single process."""

    rank = 0
    size = 1

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        pass

    def broadcast(self, parameters: Sequence[Tensor]) -> None:
        pass
