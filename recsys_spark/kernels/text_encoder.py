"""A pretrained text encoder: where it is found, how it tokenises, how a text becomes a vector."""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from recsys_spark.errors import problem
from recsys_spark.kernels.attention import ready_attention

_PACKAGE = "package:"
_ENCODER_FILES: Final = (".json", ".txt", ".model", ".safetensors", ".bin")

_MIN_TOKENS: Final = 16
"""Fewest tokens of a batch; smaller ones are filled up with copies. Matrix products of fewer rows run through other
kernels of MKL (under 4) and oneDNN (under 16), which differ in the last bits."""

_GPU_BATCH_TOKENS: Final = 4096
"""Tokens of every batch on a GPU; fewer texts of a length are filled up with copies. cuBLAS takes another kernel for
another number of rows: three texts of ten came out with other last bits. A batch takes 3 ms however small it is."""


def find_encoder(name: str) -> str:
    """The folder or hub name that transformers loads: `package:NAME` means that package's MODEL_DIR."""
    if not name.startswith(_PACKAGE):
        return name
    try:
        return str(importlib.import_module(name.removeprefix(_PACKAGE)).MODEL_DIR)
    except (ImportError, AttributeError) as error:
        raise problem(
            "configuration, encoder",
            wanted="an installed package with a MODEL_DIR",
            found=f"{name} ({error})",
            do="Install it on every worker, or give a Hugging Face name or a local folder.",
        ) from None


def encoder_state(name: str) -> list[str]:
    """`file, SHA-256` of each file that transformers may read in the encoder's folder; none for a hub name."""
    folder = Path(find_encoder(name))
    files = sorted(file for file in folder.glob("*") if file.suffix in _ENCODER_FILES) if folder.is_dir() else []
    return [f"{file.name}, {_sha256(file, file.stat().st_size, file.stat().st_mtime_ns)}" for file in files]


@functools.lru_cache
def _sha256(file: Path, _num_bytes: int, _changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Tokenizer:
    """Texts -> (token ids int32 [N, T] padded with 0, lengths int32 [N]); T is fixed."""

    def __init__(self, encoder: str, max_tokens: int) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Spark's tasks already fill the cores
        self._tokenizer = AutoTokenizer.from_pretrained(find_encoder(encoder), use_fast=True)
        self._max_tokens = max_tokens

    @property
    def fingerprint(self) -> str:
        """Changes when the vocabulary, the normalisation or the width does."""
        rules = self._tokenizer.backend_tokenizer.to_str()
        return hashlib.sha256(f"{rules}{self._max_tokens}".encode()).hexdigest()[:16]

    def __call__(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)["input_ids"]
        token_ids = np.zeros((len(encoded), self._max_tokens), dtype=np.int32)
        for row, ids in enumerate(encoded):
            token_ids[row, : len(ids)] = ids
        return token_ids, np.array([len(ids) for ids in encoded], dtype=np.int32)

    def save(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder)


class TextEncoder(nn.Module):
    """A Hugging Face encoder with mean pooling: token ids [N, T] -> vectors [N, H]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden_size: int = encoder.config.hidden_size  # type: ignore[assignment, union-attr]

    @classmethod
    def pretrained(cls, name: str) -> TextEncoder:
        return cls(AutoModel.from_pretrained(find_encoder(name)))

    def train_last_layers(self, count: int) -> None:
        """Freeze all but the last `count` transformer layers; 0 freezes everything."""
        self.encoder.requires_grad_(False)
        layers = self.encoder.encoder.layer  # type: ignore[union-attr]
        for layer in list(layers)[len(layers) - count :]:  # type: ignore[arg-type]
            layer.requires_grad_(True)

    def forward(self, token_ids_NT: Tensor, lengths_N: Tensor) -> Tensor:
        """Vectors [N, H]: the mean of each text's last hidden states; padding is cut to the longest text."""
        longest = int(lengths_N.max())
        mask_NT = torch.arange(longest, device=lengths_N.device) < lengths_N[:, None]
        with ready_attention():
            encoded = self.encoder(token_ids_NT[:, :longest].long(), attention_mask=mask_NT.long())
        hidden_NTH = encoded.last_hidden_state
        masked_NTH = hidden_NTH.float() * mask_NT[:, :, None]
        vectors_NH: Tensor = masked_NTH.sum(dim=1) / lengths_N[:, None]
        return vectors_NH


@torch.inference_mode()
def encode_all(
    encoder: TextEncoder,
    token_ids_NT: npt.NDArray[np.int32],
    lengths_N: npt.NDArray[np.int32],
    *,
    batch_tokens: int,
    precision: torch.dtype = torch.float32,
) -> npt.NDArray[np.float32]:
    """Vectors float32 [N, H] of all texts, in their order; a text's vector does not depend on the others.

    A batch holds at most `batch_tokens` tokens (or one text; on a GPU the number is fixed) and texts of one length
    only: nothing is padded, and attention adds up the same numbers in the same order whatever else is in the batch.
    (Padded to the longest of neighbours in the order of length, three texts of ten changed in their last bits with
    their neighbours.)
    """
    device = next(encoder.parameters()).device
    is_gpu = device.type == "cuda"
    batch_tokens = _GPU_BATCH_TOKENS if is_gpu else batch_tokens
    was_training = encoder.training
    encoder.eval()
    vectors = np.empty((len(lengths_N), encoder.hidden_size), dtype=np.float32)
    for rows in _batches_of_one_length(lengths_N, batch_tokens):
        length = int(lengths_N[rows[0]])
        filled = np.resize(rows, max(len(rows), batch_tokens // length if is_gpu else -(-_MIN_TOKENS // length)))
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            batch = encoder(
                torch.from_numpy(token_ids_NT[filled]).to(device), torch.from_numpy(lengths_N[filled]).to(device)
            )
        vectors[rows] = batch[: len(rows)].float().cpu().numpy()
    encoder.train(was_training)
    return vectors


def _batches_of_one_length(lengths_N: npt.NDArray[np.int32], batch_tokens: int) -> Iterator[npt.NDArray[np.intp]]:
    """Row numbers of texts of one length, shortest first: at most `batch_tokens` tokens, or one text."""
    order = np.argsort(lengths_N, kind="stable")
    starts = np.flatnonzero(np.diff(lengths_N[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        size = max(1, batch_tokens // int(lengths_N[rows[0]])) if len(rows) else 1
        yield from (rows[start : start + size] for start in range(0, len(rows), size))
