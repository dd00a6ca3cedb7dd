"""Which way to run the text encoder is taken where none is asked for: what a trial on some texts finds.

Rule: of the back ends that are worth it on this processor, whose vectors of a sample have a cosine of at least
MIN_COSINE with those in float32, and the same bits whichever texts stand beside one, the first in the order of
PREFERRED is taken, unless another one is FAR_FASTER. What is exact and steady comes out the same each time, a time does
not: the fastest of near equals was bfloat16 in one run and bfloat16_weights in the next, and all vectors differed. The
order has the usually fastest first, so times decide only on a machine that is like none of these (texts per second of
one thread, all-MiniLM-L6-v2, product texts of 16 to 19 tokens; smallest cosine; `~` not steady, `>` taken):

    |                    | float32 |  float32_onednn |      bfloat16 | bfloat16_weights |         int8 |
    | AMD Zen 5          |     212 |       394 (1.0) | 684 (0.99997) |  > 710 (0.99993) | 588 (0.9957) |
    | Intel with AMX     |     273 |         ~ 259   |       ~ 333   |  > 560           |              |
    | Intel without AMX  |     240 |       > 230     |         135   |    158           | 380 (0.9966) |
    | AMD with AVX2 only |   > 132 |       ~ 145     |               |                  |   5 (0.9968) |

On Intel without AMX, with both cores taken by others, the quotient of float32 and float32_onednn was 1.0 to 1.2 in 20
trials by processor time, and 0.7 to 1.5 by the clock on the wall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from recsys_spark.kernels.back_ends import PREFERRED, BackEnd
from recsys_spark.kernels.text_encoder import TextEncoder

MIN_COSINE: Final = 0.9999
"""Smallest cosine with float32's vector that a back end may have to be chosen without being asked for."""

FAR_FASTER: Final = 1.5
"""How many times as fast as the preferred back end another one has to be to be taken: times vary by less."""

_ROUNDS: Final = 3
"""Times that each back end is timed, all of them in turn: what else the machine does falls on all alike."""

_FEW_TEXTS: Final = (1, 7)
"""Numbers of texts that are encoded apart from the sample: libraries take other kernels for matrices of few rows."""

_SMALLER_BATCHES: Final = 8
"""By how much batches are smaller when the sample is encoded once more, from its end: libraries take other kernels for
the last rows of a matrix too, and which rows are the last depends on the batch."""

_REPEATED_TEXTS: Final = 7
"""Most texts that a full batch of one length is made of: the sample's batches may be too small for its kernels."""


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


def try_out(
    encoder: TextEncoder,
    token_ids_NT: npt.NDArray[np.int32],
    lengths_N: npt.NDArray[np.int32],
    back_ends: Sequence[BackEnd],
    *,
    batch_tokens: int,
) -> list[Trial]:
    """Encode the sample with each back end, in one thread as a worker does; the first is the measure.

    As many of the first texts as one batch has tokens for are encoded _ROUNDS times, and the fastest pass counts: the
    first one also makes oneDNN's kernels, and others work on the machine too. Then all are, for their cosines.
    """
    num_timed = max(1, int(np.searchsorted(np.cumsum(lengths_N), batch_tokens, side="right")))
    all_rows = np.arange(len(lengths_N))
    timed = all_rows[:num_timed]
    apart = [(all_rows[:num], batch_tokens) for num in _FEW_TEXTS]
    apart += [(_full_batch(lengths_N, batch_tokens), batch_tokens), (all_rows[::-1], batch_tokens // _SMALLER_BATCHES)]
    trials: list[Trial] = []
    exact: npt.NDArray[np.float32] | None = None

    def encode(
        back_end: BackEnd, prepared: TextEncoder, rows: npt.NDArray[np.intp], tokens: int = batch_tokens
    ) -> npt.NDArray[np.float32]:
        return back_end.encode(prepared, token_ids_NT[rows], lengths_N[rows], batch_tokens=tokens)

    def seconds_of(back_end: BackEnd, prepared: TextEncoder) -> float:
        started = back_end.clock()
        encode(back_end, prepared, timed)
        return back_end.clock() - started

    with _one_thread():
        ready = [(back_end, back_end.prepare(encoder)) for back_end in back_ends]
        rounds = [[seconds_of(*pair) for pair in ready] for _ in range(_ROUNDS)]
        for (back_end, prepared), seconds in zip(ready, zip(*rounds, strict=True), strict=True):
            vectors = encode(back_end, prepared, all_rows)
            exact = vectors if exact is None else exact
            cosines = row_cosines(vectors, exact)
            trials.append(
                Trial(
                    back_end.name,
                    texts_per_second=len(timed) / min(seconds),
                    min_cosine=float(cosines.min()),
                    mean_cosine=float(cosines.mean()),
                    is_steady=all(
                        np.array_equal(encode(back_end, prepared, rows, tokens), vectors[rows])
                        for rows, tokens in apart
                    ),
                    num_texts=len(vectors),
                )
            )
    return trials


def _full_batch(lengths_N: npt.NDArray[np.int32], batch_tokens: int) -> npt.NDArray[np.intp]:
    """Row numbers of the first texts of the commonest length, over again until they fill a batch."""
    length = int(np.bincount(lengths_N).argmax())
    rows = np.flatnonzero(lengths_N == length)[:_REPEATED_TEXTS]
    return np.resize(rows, max(1, batch_tokens // length))


def best_exact(trials: Sequence[Trial]) -> Trial:
    """The trial that the rule above picks; the first one is float32's, which is exact by definition."""
    exact = [trials[0], *(trial for trial in trials[1:] if trial.is_steady and trial.min_cosine >= MIN_COSINE)]
    fast_enough = max(trial.texts_per_second for trial in exact) / FAR_FASTER
    in_order = sorted(exact, key=lambda trial: PREFERRED.index(trial.name))
    return next(trial for trial in in_order if trial.texts_per_second >= fast_enough)


def row_cosines(a_NH: npt.NDArray[np.float32], b_NH: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine [N] of each row of `a` with the same row of `b`, in float64."""
    a, b = a_NH.astype(np.float64), b_NH.astype(np.float64)
    cosines: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return cosines


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
