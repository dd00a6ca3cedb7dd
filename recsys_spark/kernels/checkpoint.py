"""A model as a folder of plain files: safetensors, encoder configuration, tokenizer, manifest. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from recsys_spark.errors import problem
from recsys_spark.kernels.text_encoder import TextEncoder
from recsys_spark.kernels.two_tower import Shape, TwoTower

_WEIGHTS, _MANIFEST, _ENCODER = "model.safetensors", "manifest.json", "encoder"
FORMAT = 1
"""Raised when a folder of an older platform could no longer be read right."""


def save_model(model: TwoTower, folder: Path, *, facts: Mapping[str, object]) -> None:
    """Write the model; `facts` (versions, configuration, metrics) go into the manifest for people to read."""
    folder.mkdir(parents=True, exist_ok=True)
    model.text_encoder.encoder.config.save_pretrained(folder / _ENCODER)  # type: ignore[union-attr, operator]
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / _WEIGHTS)
    manifest = {"format": FORMAT, "shape": model.shape.as_dict(), "facts": dict(facts)}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2, default=str), encoding="utf-8")


def load_model(folder: Path) -> TwoTower:
    """Read a model back, bit for bit; another format is an error that says so."""
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise problem(
            f"model in {folder}",
            wanted=f"format {FORMAT}",
            found=f"format {manifest['format']}",
            do="Train it again, or load it with the platform version that wrote it.",
        )
    encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder / _ENCODER))
    model = TwoTower(TextEncoder(encoder), Shape(**manifest["shape"]))
    model.load_state_dict(load_file(folder / _WEIGHTS))
    return model.eval()
