"""Ways to run the text encoder on this machine; kernels/trials.py has the rule by which one is taken.

Dropped: torch's own dynamic quantisation to int8 (one scale per batch: smallest cosine 0.94, and a text's vector
depends on its neighbours; deprecated); `set_float32_matmul_precision("medium")` (233 texts/s where float32 had 212);
other attentions (as fast).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recsys_spark.kernels.precision import fast_precision, has_8_bit_products
from recsys_spark.kernels.text_encoder import TextEncoder, encode_all

FLOAT32: Final = "float32"
PREFERRED: Final = ("cuda_float16", "cuda_float32", "bfloat16_weights", "bfloat16", "float32_onednn", FLOAT32, "int8")
"""Names of the back ends, in the order they are taken in."""

_CPU, _CUDA = torch.device("cpu"), torch.device("cuda")


def _always() -> bool:
    return True


def _never() -> bool:
    return False


@dataclass(frozen=True)
class BackEnd:
    """A way to run the encoder: how it is made ready from the model's own, and what it is run in."""

    name: str
    prepare: Callable[[TextEncoder], TextEncoder]
    is_there: Callable[[], bool]
    precision: torch.dtype = torch.float32
    by_itself: Callable[[], bool] = _always
    """Whether it may be taken on this machine without being asked for."""
    clock: Callable[[], float] = time.thread_time
    """What its seconds are told by: of a processor's, those that other programs had do not count."""

    def encode(
        self,
        prepared: TextEncoder,
        token_ids_NT: npt.NDArray[np.int32],
        lengths_N: npt.NDArray[np.int32],
        *,
        batch_tokens: int,
    ) -> npt.NDArray[np.float32]:
        """Vectors float32 [N, H] by an encoder that `prepare` made."""
        return encode_all(prepared, token_ids_NT, lengths_N, batch_tokens=batch_tokens, precision=self.precision)


class _OneDnnLinear(nn.Module):
    """A float32 linear layer through oneDNN, its weights in oneDNN's own order; torch itself would ask MKL."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = linear.weight.detach().to_mkldnn()
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y


class _Int8Linear(nn.Module):
    """A linear layer in int8: one scale per output channel of the weights, one per row of the input.

    A row's result depends on that row alone, so a text has one vector whatever stands beside it in its batch.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._scales_O = linear.weight.detach().abs().amax(dim=1).clamp(min=1e-12) / 127
        self._weights_IO = (linear.weight.detach() / self._scales_O[:, None]).round().to(torch.int8).t().contiguous()
        self._bias = 0.0 if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        scales = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        sums = torch._int_mm((rows / scales).round_().to(torch.int8), self._weights_IO)
        y = sums.float().mul_(scales).mul_(self._scales_O).add_(self._bias)
        return y.view(*x.shape[:-1], -1)


def _with_linears(make: Callable[[nn.Linear], nn.Module]) -> Callable[[TextEncoder], TextEncoder]:
    """A copy of the encoder whose linear layers are replaced."""

    def prepare(encoder: TextEncoder) -> TextEncoder:
        prepared = copy.deepcopy(encoder)
        for module in list(prepared.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, make(child))
        return prepared

    return prepare


def _as_it_is(encoder: TextEncoder) -> TextEncoder:
    return encoder


def _in_bfloat16(encoder: TextEncoder) -> TextEncoder:
    return copy.deepcopy(encoder).bfloat16()


def _on_cuda(encoder: TextEncoder) -> TextEncoder:
    return copy.deepcopy(encoder).to(_CUDA)


def _on_cuda_in_float16(encoder: TextEncoder) -> TextEncoder:
    return _on_cuda(encoder).half()


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _has_int8() -> bool:
    return _has_onednn() and has_8_bit_products()


def _has_bfloat16() -> bool:
    return fast_precision(_CPU) == torch.bfloat16


def _gains_by_bfloat16() -> bool:
    """AMX, or AMD's AVX-512 BF16: that of Intel encoded 0.6 times as many texts as float32."""
    processor = Path("/proc/cpuinfo")
    return torch.cpu._is_amx_tile_supported() or (processor.exists() and "AuthenticAMD" in processor.read_text())


BACK_ENDS: Final = (
    BackEnd(FLOAT32, _as_it_is, _always),
    BackEnd("float32_onednn", _with_linears(_OneDnnLinear), _has_onednn),
    BackEnd("bfloat16", _as_it_is, _has_bfloat16, torch.bfloat16, by_itself=_gains_by_bfloat16),
    BackEnd("bfloat16_weights", _in_bfloat16, _has_bfloat16, by_itself=_gains_by_bfloat16),
    BackEnd("int8", _with_linears(_Int8Linear), _has_int8, by_itself=_never),
    BackEnd("cuda_float32", _on_cuda, torch.cuda.is_available, clock=time.perf_counter),
    BackEnd("cuda_float16", _on_cuda_in_float16, torch.cuda.is_available, clock=time.perf_counter),
)
"""Every back end, float32 first: what the others are measured against."""


def available(back_ends: Sequence[BackEnd]) -> list[BackEnd]:
    """Those that this machine can run at their full speed."""
    return [back_end for back_end in back_ends if back_end.is_there()]


def back_end_named(name: str) -> BackEnd:
    return next(back_end for back_end in BACK_ENDS if back_end.name == name)
