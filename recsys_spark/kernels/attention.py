"""Which of torch's attention kernels may run: those that take any shape as it comes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from torch.nn.attention import SDPBackend, sdpa_kernel

_READY: Final = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def ready_attention() -> AbstractContextManager[None]:
    """Without cuDNN's kernels, which torch prefers on newer GPUs: they are planned anew for every shape, and batches
    have as many shapes as lengths. Of 400 training steps on an H100, which take 18 ms each, planning took most of the
    time (the first step 5 s, many others 0.2 to 0.8 s).
    """
    context: AbstractContextManager[None] = sdpa_kernel(_READY)
    return context
