"""The text encoder on a GPU: the platform's back ends against a naive loop there, and what the probe picks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.embed_texts import BATCH_TOKENS, ENCODER, MAX_TOKENS, long_texts, short_texts
from benchmarks.gpu_rows import GpuRow, median_seconds
from recsys_spark.bridges.probe import SAMPLE_TEXTS, SAMPLE_TOKENS
from recsys_spark.kernels.back_ends import BACK_ENDS, available
from recsys_spark.kernels.text_encoder import TextEncoder, Tokenizer, encode_all, find_encoder
from recsys_spark.kernels.trials import best_exact, row_cosines, try_out

_COMPARED = 256
"""Texts whose vectors are compared with those of the processor in float32."""


def embed_rows(device: torch.device, share: int = 1) -> Iterator[GpuRow]:
    """Rows of short and long texts; `ratio` is the share of the naive loop's seconds."""
    for name, texts in (("short", short_texts(20_000 // share)), ("long", long_texts(3_000 // share))):
        yield from _rows_of(name, texts, device)


def _rows_of(name: str, texts: list[str], device: torch.device) -> Iterator[GpuRow]:
    tokenizer, encoder = Tokenizer(ENCODER, MAX_TOKENS), TextEncoder.pretrained(ENCODER).eval().requires_grad_(False)
    token_ids_NT, lengths_N = tokenizer(texts)
    size = f"{len(texts):,} {name} texts, {lengths_N.mean():.0f} tokens on average"
    exact = encode_all(encoder, token_ids_NT[:_COMPARED], lengths_N[:_COMPARED], batch_tokens=BATCH_TOKENS)
    naive = _naive_seconds(texts, 1, 64, device)
    yield GpuRow("embed", "naive loop on the GPU, one text", size, naive, 1.0, _speed(texts, naive))
    batches = _naive_seconds(texts, 32, 2048, device)
    yield GpuRow("embed", "naive batches of 32 on the GPU", size, batches, batches / naive, _speed(texts, batches))
    for back_end in available(BACK_ENDS):
        if back_end.name.startswith("cuda"):
            encode = partial(back_end.encode, back_end.prepare(encoder), batch_tokens=BATCH_TOKENS)
            seconds, vectors = median_seconds(partial(encode, token_ids_NT, lengths_N), runs=3)
            alone = encode(token_ids_NT[:_COMPARED], lengths_N[:_COMPARED])
            same = float((alone == vectors[:_COMPARED]).all(axis=1).mean())
            note = (
                f"{_speed(texts, seconds)}, cosine >= {row_cosines(vectors[:_COMPARED], exact).min():.6f}; "
                f"same bits in other company: {same:.0%}"
            )
            yield GpuRow("embed", back_end.name, size, seconds, seconds / naive, note)
    num_tried = int(np.searchsorted(np.cumsum(lengths_N[:SAMPLE_TEXTS]), SAMPLE_TOKENS))
    by_itself = [back_end for back_end in available(BACK_ENDS) if back_end.by_itself()]
    trials = try_out(encoder, token_ids_NT[:num_tried], lengths_N[:num_tried], by_itself, batch_tokens=BATCH_TOKENS)
    best = best_exact(trials)
    seconds = len(texts) / best.texts_per_second
    note = f"{best.name}, of {'; '.join(map(str, trials))}"
    yield GpuRow("embed", "the probe's choice, at its speed on the sample", size, seconds, seconds / naive, note)


@torch.inference_mode()
def _naive_seconds(texts: list[str], batch: int, num_tried: int, device: torch.device) -> float:
    """Of a user's first loop: texts in their order, tokenized and padded to MAX_TOKENS; scaled from some of them."""
    folder = find_encoder(ENCODER)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).float().to(device)
    model.eval()

    def encode(some: list[str]) -> np.ndarray:
        inputs = tokenizer(some, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        inputs = inputs.to(device)
        hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][:, :, None]
        vectors: np.ndarray = ((hidden * mask).sum(dim=1) / mask.sum(dim=1)).cpu().numpy()
        return vectors

    starts = range(0, min(num_tried, len(texts)), batch)
    seconds, _ = median_seconds(lambda: [encode(texts[start : start + batch]) for start in starts], runs=3)
    return seconds * len(texts) / min(num_tried, len(texts))


def _speed(texts: list[str], seconds: float) -> str:
    return f"{len(texts) / seconds:,.0f} texts/s"
