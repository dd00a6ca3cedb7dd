from __future__ import annotations

import json
import re
import shutil

import pytest
import torch

from recsys_spark.errors import RecsysError
from recsys_spark.kernels.checkpoint import load_model, model_checksum, save_model
from tests.unit.kernel_world import make_model

TOKENIZER = "tokenizer/tokenizer.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model's folder with its tokenizer, and the model's checksum."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / TOKENIZER).write_text('{"vocab": "a b c"}')
    save_model(make_model(), folder, facts={})
    return folder, model_checksum(folder)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(saved[0], tmp_path / "model")


@pytest.fixture
def checksum(saved):
    return saved[1]


def entries(folder):
    return json.loads((folder / "manifest.json").read_text())["files"]


def test_a_model_comes_back_bit_for_bit(tmp_path):
    model = make_model()
    model.offset_b.fill_(-3.25)
    save_model(model, tmp_path / "model", facts={"why": "test"})
    read = load_model(tmp_path / "model", checksum=model_checksum(tmp_path / "model"))
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


def test_the_manifest_names_every_other_file_and_equal_models_have_equal_ones(saved, tmp_path):
    assert list(entries(saved[0])) == ["encoder/config.json", "model.safetensors", TOKENIZER]
    for name, seed, facts in (("same", 0, {}), ("same facts or not", 0, {"run": 2}), ("other", 1, {})):
        shutil.copytree(saved[0] / "tokenizer", tmp_path / name / "tokenizer")
        save_model(make_model(seed), tmp_path / name, facts=facts)
    weights = [entries(tmp_path / name)["model.safetensors"] for name in ("same", "same facts or not", "other")]
    assert model_checksum(tmp_path / "same") == saved[1]
    assert weights[0] == weights[1] == entries(saved[0])["model.safetensors"] != weights[2]
    assert len({model_checksum(tmp_path / name) for name in ("same", "same facts or not", "other")}) == 3


@pytest.mark.parametrize("name", ["model.safetensors", "encoder/config.json", TOKENIZER, "manifest.json"])
@pytest.mark.parametrize("damage", ["a bit", "half of it", "all of it"])
def test_a_file_that_is_not_what_was_saved_is_named_with_both_checksums(folder, checksum, name, damage):
    whole = (folder / name).read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    (folder / name).write_bytes({"a bit": flipped, "half of it": whole[:middle], "all of it": b""}[damage])
    wanted = checksum if name == "manifest.json" else entries(folder)[name]
    with pytest.raises(RecsysError) as raised:
        load_model(folder, checksum=checksum)
    assert re.fullmatch(
        rf"model in {folder}, file {name}: wanted SHA-256 {wanted}; found SHA-256 [0-9a-f]{{64}}\. "
        r"Restore the model's folder as it was registered, or train again \(jobs/train\.py --force\)\.",
        str(raised.value),
    )


@pytest.mark.parametrize("name", ["model.safetensors", "encoder/config.json", TOKENIZER, "manifest.json"])
def test_a_file_that_is_missing_is_named(folder, checksum, name):
    (folder / name).unlink()
    with pytest.raises(RecsysError, match=rf"file {name}: wanted SHA-256 [0-9a-f]{{64}}; found no such file\. Restore"):
        load_model(folder, checksum=checksum)


def test_a_file_that_the_manifest_does_not_know_is_refused(folder, checksum):
    (folder / "tokenizer" / "added_tokens.json").write_text("{}")
    with pytest.raises(RecsysError, match=r"added_tokens\.json: wanted no such file, as its manifest has none; found"):
        load_model(folder, checksum=checksum)


def test_every_damaged_file_is_told_in_one_message(folder, checksum):
    (folder / TOKENIZER).unlink()
    (folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(RecsysError) as raised:
        load_model(folder, checksum=checksum)
    assert [problem.where.rpartition("file ")[2] for problem in raised.value.problems] == [
        "model.safetensors", TOKENIZER,
    ]  # fmt: skip


def test_another_model_that_is_whole_is_not_the_one_that_was_asked_for(tmp_path, checksum):
    save_model(make_model(1), tmp_path, facts={})
    with pytest.raises(RecsysError, match=rf"file manifest\.json: wanted SHA-256 {checksum}; found SHA-256"):
        load_model(tmp_path, checksum=checksum)


def test_another_format_is_refused_with_what_to_do(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    with pytest.raises(RecsysError, match="wanted format 2; found format 1"):
        load_model(folder, checksum=model_checksum(folder))
