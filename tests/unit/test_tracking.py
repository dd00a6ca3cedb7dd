"""What a run leaves in MLflow can be read back; a real MLflow on SQLite, in a folder with blanks in its name."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.artifacts import load_text
from mlflow.tracking import MlflowClient

from recsys_spark.config import TrackingConfig
from recsys_spark.errors import RecsysError
from recsys_spark.tracking import (
    RegisteredModel,
    Run,
    TrackingPlace,
    fetch_files,
    log_figures,
    open_run,
    point_alias,
    read_curve,
    read_version_tag,
    tag_version,
    tracking_place,
)

FILES = {"manifest.json": b'{"format": 1}\n', "deep/er/weights.bin": bytes(range(256)) * 40, "empty": b""}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> TrackingPlace:
    """A store that does not exist yet; making its tables takes MLflow some seconds, so it is made once."""
    folder = tmp_path_factory.mktemp("a place with blanks")
    return TrackingPlace(f"sqlite:///{folder}/not there yet/mlflow.db", str(folder / "its artifacts"), "shop", "tower")


@pytest.fixture(scope="module")
def client(place):
    open_run(place, "first of all").finish()  # makes the store
    return MlflowClient(tracking_uri=place.uri)


def write_folder(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read_folder(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_place_is_what_the_configuration_says():
    settings = TrackingConfig(uri="sqlite:///w/mlflow.db", artifacts=None, experiment="e", model_name="m")
    assert tracking_place(settings) == TrackingPlace("sqlite:///w/mlflow.db", None, "e", "m")


def test_a_run_keeps_its_name_tags_params_metrics_and_texts(place, client):
    run = open_run(place, "night run", tags={"stage": "train"})
    run.log_params({"layers": 2, "encoder": "package:mini", "nothing": None})
    run.log_metrics({"train_loss": 2.5}, step=3)
    run.log_text("Grüße {}", "config.json")
    run.finish()
    kept = client.get_run(run.id)
    assert (kept.info.run_name, kept.info.status, kept.data.tags["stage"]) == ("night run", "FINISHED", "train")
    assert kept.data.params == {"layers": "2", "encoder": "package:mini", "nothing": "None"}
    assert kept.data.metrics == {"train_loss": 2.5}
    assert load_text(f"{kept.info.artifact_uri}/config.json") == "Grüße {}"


def test_a_failed_run_says_so(place, client):
    run = open_run(place, "failed")
    run.finish("FAILED")
    assert client.get_run(run.id).info.status == "FAILED"


def test_runs_of_one_configuration_share_an_experiment_that_keeps_its_files_where_it_was_told(place, client):
    first, second = open_run(place, "one"), open_run(place, "two")
    experiments = {client.get_run(run.id).info.experiment_id for run in (first, second)}
    assert experiments == {client.get_experiment_by_name("shop").experiment_id}
    first.log_text("here", "a.txt")
    assert [file.read_text() for file in Path(place.artifacts).rglob("a.txt")] == ["here"]


def test_a_curve_comes_back_in_the_order_of_its_steps(place, client):
    run = open_run(place, "curve")
    for step, value in ((3, 0.25), (1, 1.0), (2, 0.5), (10, 0.125)):
        run.log_metrics({"train_loss": value, "other": -1.0}, step=step)
    run.finish()
    assert read_curve(place, run.id, "train_loss") == [(1, 1.0), (2, 0.5), (3, 0.25), (10, 0.125)]
    assert read_curve(place, run.id, "never logged") == []


def test_a_long_curve_is_there_before_the_run_ends_but_for_its_last_values(place):
    run = open_run(place, "long")
    for step in range(250):
        run.log_metrics({"train_loss": float(step)}, step=step)
    assert read_curve(place, run.id, "train_loss") == [(step, float(step)) for step in range(200)]
    run.finish("FAILED")
    assert read_curve(place, run.id, "train_loss") == [(step, float(step)) for step in range(250)]


def test_a_registered_folder_comes_back_byte_for_byte_and_versions_count_up(place, client, tmp_path):
    models = []
    for number in (1, 2):
        run = open_run(place, f"model {number}")
        folder = write_folder(tmp_path / f"folder {number}", {**FILES, "number": str(number).encode()})
        models.append(run.register(folder, tags={"number": str(number)}))
        run.finish()
        assert models[-1] == RegisteredModel("tower", str(number), models[-1].uri, run.id)
    for number, model in enumerate(models, start=1):
        fetched = fetch_files(place, model.name, model.version, tmp_path / f"fetched {number}")
        assert read_folder(fetched) == {**FILES, "number": str(number).encode()}
        assert client.get_model_version("tower", model.version).tags == {"number": str(number)}


def test_an_alias_means_the_version_it_was_pointed_at_last(place, client, tmp_path):
    run = open_run(place, "aliased")
    first, second = (run.register(write_folder(tmp_path / name, {"a": b"a"}), tags={}) for name in ("x", "y"))
    for model in (first, second, first):
        point_alias(place, model, "newest")
    assert str(client.get_model_version_by_alias("tower", "newest").version) == first.version
    assert int(second.version) == int(first.version) + 1


def test_figures_join_the_run_that_trained_the_model(place, client):
    run = open_run(place, "trained")
    run.log_metrics({"train_loss": 2.0}, step=1)
    run.finish()
    figures = [
        {"slice": "all", "method": "popular", "metric": "ndcg", "k": 10, "value": 0.25},
        {"slice": "new", "method": "two_tower", "metric": "recall", "k": 20, "value": 0.0},
    ]
    log_figures(place, run.id, figures)
    kept = client.get_run(run.id)
    assert kept.data.metrics == {"train_loss": 2.0, "all.popular.ndcg_10": 0.25, "new.two_tower.recall_20": 0.0}
    assert kept.info.status == "FINISHED", "the run stays what it was"


def test_a_run_is_carried_on_by_another_process_and_its_block_sends_what_waits(place, client):
    opened = open_run(place, "of two")
    with Run(place, opened.id) as carried_on:
        carried_on.log_metrics({"train_loss": 0.5}, step=7)
        assert read_curve(place, opened.id, "train_loss") == []
    assert read_curve(place, opened.id, "train_loss") == [(7, 0.5)]
    assert client.get_run(opened.id).info.status == "RUNNING", "who has opened it ends it"
    with pytest.raises(ZeroDivisionError), Run(place, opened.id) as carried_on:
        carried_on.log_metrics({"train_loss": 0.25}, step=8)
        raise ZeroDivisionError
    assert read_curve(place, opened.id, "train_loss") == [(7, 0.5), (8, 0.25)]


def test_a_name_with_a_quote_is_a_name(place, client, tmp_path):
    quoted = replace(place, model_name="o'brien", experiment="it's")
    versions = [open_run(quoted, "q").register(write_folder(tmp_path / n, {"a": b"a"}), tags={}).version for n in "xy"]
    assert versions == ["1", "2"]
    tag_version(quoted, "o'brien", "2", "embed.back_end", "float32")
    assert [read_version_tag(quoted, "o'brien", version, "embed.back_end") for version in versions] == [None, "float32"]


def test_a_version_that_the_registry_does_not_have_is_an_error(place, client):
    with pytest.raises(
        RecsysError, match=r"MLflow at sqlite:.*: wanted nobody version 9 in its registry; found Mlflow"
    ):
        read_version_tag(place, "nobody", "9", "embed.back_end")


def test_files_that_are_gone_are_an_error_that_names_the_way_out(place, client, tmp_path):
    model = open_run(place, "gone").register(write_folder(tmp_path / "folder", FILES), tags={})
    shutil.rmtree(model.uri.removeprefix("file://").replace("%20", " "))
    with pytest.raises(RecsysError, match=r"wanted the files of tower version \d+; found .*, or train again"):
        fetch_files(place, model.name, model.version, tmp_path / "fetched")


def test_two_jobs_that_make_the_experiment_at_the_same_moment_share_it(place, client, monkeypatch):
    other = replace(place, experiment="raced")
    asked = []

    def get_experiment_by_name(self, name):
        """Nobody has it at the first look, and somebody else makes it before the second."""
        if not asked:
            asked.append(client.create_experiment(name))
            return None
        return client.get_experiment(asked[0])

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", get_experiment_by_name)
    run = open_run(other, "second")
    assert client.get_run(run.id).info.experiment_id == asked[0]
