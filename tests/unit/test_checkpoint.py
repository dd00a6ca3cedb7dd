from __future__ import annotations

import json

import pytest
import torch

from recsys_spark.errors import RecsysError
from recsys_spark.kernels.checkpoint import load_model, save_model
from tests.unit.kernel_world import make_model


def test_a_model_comes_back_bit_for_bit(tmp_path):
    model = make_model()
    model.offset_b.fill_(-3.25)
    save_model(model, tmp_path / "model", facts={"why": "test"})
    read = load_model(tmp_path / "model")
    assert read.shape == model.shape
    for (name, one), two in zip(model.state_dict().items(), read.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_the_folder_holds_no_pickle_and_says_what_it_is(tmp_path):
    save_model(make_model(), tmp_path, facts={"table_versions": {"SEQUENCES": 4}})
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {
        "model.safetensors",
        "manifest.json",
        "config.json",
    }
    assert json.loads((tmp_path / "manifest.json").read_text())["facts"] == {"table_versions": {"SEQUENCES": 4}}


def test_another_format_is_refused_with_what_to_do(tmp_path):
    save_model(make_model(), tmp_path, facts={})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))
    with pytest.raises(RecsysError, match="wanted format 1; found format 0"):
        load_model(tmp_path)
