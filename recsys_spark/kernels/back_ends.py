"""Ways to run the text encoder on this machine, and which of them is the fastest that is still exact enough.

Rule: of the back ends whose vectors of a sample have a cosine of at least MIN_COSINE with those in float32, and the
same bits whichever texts stand beside one, those within a tenth of the fastest are equally fast, and of these the one
nearest to float32 is taken. int8 is only taken when it is asked for.

Measured on a processor with AVX-512 BF16 and VNNI (AMD EPYC, Zen 5), one thread, all-MiniLM-L6-v2, 1,500 product texts
of 19 tokens, in texts per second and smallest cosine: float32 212, oneDNN's float32 394 (1.0), bfloat16 684 (0.99997),
bfloat16 weights 710 (0.99993), int8 588 (0.9957).

Dropped: torch's own dynamic quantisation to int8 (one scale per batch: smallest cosine 0.94, and a text's vector
depends on its neighbours; deprecated); `set_float32_matmul_precision("medium")` (233); other attentions (as fast).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recsys_spark.kernels.precision import fast_precision
from recsys_spark.kernels.text_encoder import TextEncoder, encode_all

MIN_COSINE: Final = 0.9999
"""Smallest cosine with float32's vector that a back end may have to be chosen without being asked for."""

_AS_FAST: Final = 0.9
"""Share of the fastest back end's speed at which another one counts as equally fast: timings differ that much."""

_FEW_TEXTS: Final = (1, 7)
"""Numbers of texts that are encoded apart from the sample: libraries take other kernels for matrices of few rows."""

_REPEATED_TEXTS: Final = 7
"""Most texts that a full batch of one length is made of: the sample's batches may be too small for its kernels."""

FLOAT32: Final = "float32"
_CPU, _CUDA = torch.device("cpu"), torch.device("cuda")


@dataclass(frozen=True)
class BackEnd:
    """A way to run the encoder: how it is made ready from the model's own, and what it is run in."""

    name: str
    prepare: Callable[[TextEncoder], TextEncoder]
    is_there: Callable[[], bool]
    precision: torch.dtype = torch.float32
    by_itself: bool = True
    """Whether it may be chosen without being asked for."""

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


@dataclass(frozen=True)
class Trial:
    """What one back end did on the sample."""

    name: str
    texts_per_second: float
    min_cosine: float
    mean_cosine: float
    is_steady: bool
    """Whether texts have the same bits whatever stands beside them, so that what is embedded later equals the rest."""
    num_texts: int
    """Texts that the cosines are of."""

    @property
    def warning(self) -> str:
        """What a note about the back end ends with: empty, or that it is not steady."""
        return "" if self.is_steady else ", other bits in other batches"

    def __str__(self) -> str:
        return f"{self.name} {self.texts_per_second:,.0f} texts/s, cosine >= {self.min_cosine:.5f}{self.warning}"


def available(back_ends: Sequence[BackEnd]) -> list[BackEnd]:
    """Those that this machine can run at their full speed."""
    return [back_end for back_end in back_ends if back_end.is_there()]


def try_out(
    encoder: TextEncoder,
    token_ids_NT: npt.NDArray[np.int32],
    lengths_N: npt.NDArray[np.int32],
    back_ends: Sequence[BackEnd],
    *,
    batch_tokens: int,
) -> list[Trial]:
    """Encode the sample with each back end, in one thread as a worker does; the first is the measure.

    As many of the first texts as one batch has tokens for are encoded three times, and the fastest pass counts: the
    first one also makes oneDNN's kernels, and others work on the machine too. The rest are encoded once, for their
    cosines.
    """
    num_timed = max(1, int(np.searchsorted(np.cumsum(lengths_N), batch_tokens, side="right")))
    all_rows = np.arange(len(lengths_N))
    timed, rest = all_rows[:num_timed], all_rows[num_timed:]
    apart = [*(all_rows[:num] for num in _FEW_TEXTS), _full_batch(lengths_N, batch_tokens)]
    trials: list[Trial] = []
    exact: npt.NDArray[np.float32] | None = None

    def encode(back_end: BackEnd, prepared: TextEncoder, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        return back_end.encode(prepared, token_ids_NT[rows], lengths_N[rows], batch_tokens=batch_tokens)

    with _one_thread():
        for back_end in back_ends:
            prepared, seconds = back_end.prepare(encoder), []
            for _ in range(3):
                started = time.perf_counter()
                timed_vectors = encode(back_end, prepared, timed)
                seconds.append(time.perf_counter() - started)
            vectors = np.concatenate([timed_vectors, encode(back_end, prepared, rest)])
            exact = vectors if exact is None else exact
            cosines = row_cosines(vectors, exact)
            trials.append(
                Trial(
                    back_end.name,
                    texts_per_second=len(timed) / min(seconds),
                    min_cosine=float(cosines.min()),
                    mean_cosine=float(cosines.mean()),
                    is_steady=all(np.array_equal(encode(back_end, prepared, rows), vectors[rows]) for rows in apart),
                    num_texts=len(vectors),
                )
            )
    return trials


def _full_batch(lengths_N: npt.NDArray[np.int32], batch_tokens: int) -> npt.NDArray[np.intp]:
    """Row numbers of the first texts of the commonest length, over again until they fill a batch."""
    length = int(np.bincount(lengths_N).argmax())
    rows = np.flatnonzero(lengths_N == length)[:_REPEATED_TEXTS]
    return np.resize(rows, max(1, batch_tokens // length))


def fastest_exact(trials: Sequence[Trial]) -> Trial:
    """The trial that the rule above picks; the first one is float32's, which is exact by definition."""
    exact = [trials[0], *(trial for trial in trials[1:] if trial.is_steady and trial.min_cosine >= MIN_COSINE)]
    fast_enough = _AS_FAST * max(trial.texts_per_second for trial in exact)
    as_fast = [trial for trial in exact if trial.texts_per_second >= fast_enough]
    return max(as_fast, key=lambda trial: (trial.min_cosine, trial.texts_per_second))


def row_cosines(a_NH: npt.NDArray[np.float32], b_NH: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine [N] of each row of `a` with the same row of `b`, in float64."""
    a, b = a_NH.astype(np.float64), b_NH.astype(np.float64)
    cosines: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return cosines


# --- the back ends ---------------------------------------------------------------------------------------------------


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


def _always() -> bool:
    return True


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _has_bfloat16() -> bool:
    return fast_precision(_CPU) == torch.bfloat16


BACK_ENDS: Final = (
    BackEnd(FLOAT32, _as_it_is, _always),
    BackEnd("float32_onednn", _with_linears(_OneDnnLinear), _has_onednn),
    BackEnd("bfloat16", _as_it_is, _has_bfloat16, torch.bfloat16),
    BackEnd("bfloat16_weights", _in_bfloat16, _has_bfloat16),
    BackEnd("int8", _with_linears(_Int8Linear), _has_onednn, by_itself=False),
    BackEnd("cuda_float32", _on_cuda, torch.cuda.is_available),
    BackEnd("cuda_float16", _on_cuda_in_float16, torch.cuda.is_available),
)
"""Every back end, float32 first: what the others are measured against."""


def back_end_named(name: str) -> BackEnd:
    return next(back_end for back_end in BACK_ENDS if back_end.name == name)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
