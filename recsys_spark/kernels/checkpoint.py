"""A model as a folder of plain files: safetensors, encoder configuration, tokenizer, manifest. No pickle.

The manifest has the SHA-256 of every other file (its entry of the weights tells whether two trainings made the same
model), and its own SHA-256 is the model's checksum, which whoever registers a model records beside it. A model is
opened only when all of them are right: 0.08 s for 90 MB, where reading the weights takes about as long. One flipped
bit in the weights, or another model's tokenizer, would give wrong vectors without a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from recsys_spark.errors import Problem, RecsysError, problem
from recsys_spark.kernels.text_encoder import TextEncoder
from recsys_spark.kernels.two_tower import Shape, TwoTower

_WEIGHTS, _MANIFEST, _ENCODER = "model.safetensors", "manifest.json", "encoder"
FORMAT: Final = 2
"""Raised when a folder of an older platform could no longer be read right."""

RESTORE: Final = "Restore the model's folder as it was registered, or train again (jobs/train.py --force)."
"""The ways out where a model's files are damaged or gone."""


def save_model(model: TwoTower, folder: Path, *, facts: Mapping[str, object]) -> None:
    """Write the model, and the manifest of all that lies in the folder then (so a tokenizer is put there before).

    `facts` (versions, configuration, metrics) go into the manifest for people to read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.text_encoder.encoder.config.save_pretrained(folder / _ENCODER)  # type: ignore[union-attr, operator]
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / _WEIGHTS)
    files = {name: _sha256(folder / name) for name in _files_in(folder)}
    manifest = {"format": FORMAT, "shape": model.shape.as_dict(), "files": files, "facts": dict(facts)}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True, default=str), encoding="utf-8")


def model_checksum(folder: Path) -> str:
    """SHA-256 of the model's manifest: another model, or the same one made of other inputs, has another."""
    return _sha256(folder / _MANIFEST)


def load_model(folder: Path, *, checksum: str) -> TwoTower:
    """Read a model back, bit for bit; the typed error when it is not whole or of another format."""
    manifest = require_whole_model(folder, checksum=checksum)
    encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder / _ENCODER))
    model = TwoTower(TextEncoder(encoder), Shape(**manifest["shape"]))
    model.load_state_dict(load_file(folder / _WEIGHTS))
    return model.eval()


def require_whole_model(folder: Path, *, checksum: str, told_as: str = "") -> dict[str, Any]:
    """The manifest of a folder that holds exactly the files of the model of this checksum, bit for bit.

    Raises the typed error, with every file that is damaged, cut off, missing or not the model's; `told_as` is what it
    calls a folder that is a copy.
    """
    where = f"model in {told_as or folder}"
    _require_same(where, folder, {_MANIFEST: checksum}, {_MANIFEST})
    manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise problem(
            where,
            wanted=f"format {FORMAT}",
            found=f"format {manifest['format']}",
            do="Train it again, or load it with the platform version that wrote it.",
        )
    _require_same(where, folder, manifest["files"], {*manifest["files"], *_files_in(folder)})
    return manifest


def _require_same(where: str, folder: Path, wanted: Mapping[str, str], names: set[str]) -> None:
    """Raise unless each of the names is a file of the folder and has the checksum that is wanted of it."""
    found = {name: _sha256(folder / name) if (folder / name).is_file() else None for name in sorted(names)}
    problems = [
        Problem(
            where=f"{where}, file {name}",
            wanted=f"SHA-256 {wanted[name]}" if name in wanted else "no such file, as its manifest has none",
            found=f"SHA-256 {checksum}" if checksum else "no such file",
            do=RESTORE,
        )
        for name, checksum in found.items()
        if checksum != wanted.get(name)
    ]
    if problems:
        raise RecsysError(problems)


def _files_in(folder: Path) -> list[str]:
    """All files of the folder but the manifest, by their paths in it."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path != _MANIFEST)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
