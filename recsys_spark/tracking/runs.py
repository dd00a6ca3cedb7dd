"""What a run logs, the model it registers, the files of a version."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from recsys_spark.errors import RecsysError
from recsys_spark.tracking.place import TrackingPlace, explained, open_client

_METRICS_AT_ONCE: Final = 200
"""Values sent in one request. One value alone costs 2.4 ms on a local SQLite file, and a round trip to a server."""

_IS_RUNNING: Final = "attributes.status = 'RUNNING'"
_TRAIN_AGAIN: Final = "Restore what is gone, or train again (jobs/train.py --force)."


@dataclass(frozen=True)
class RegisteredModel:
    """A model version of the registry and the run that made it."""

    name: str
    version: str
    uri: str
    run_id: str


class Run:
    """An MLflow run; values it was given may wait to be sent until the end of its block, `send` or `finish`."""

    def __init__(self, place: TrackingPlace, run_id: str) -> None:
        """The run of this id, which `open_run` has opened, maybe in another process."""
        self.id = run_id
        self._place = place
        self._client = open_client(place)
        self._unsent: list[Metric] = []
        self._send_at = _METRICS_AT_ONCE

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(RecsysError) if kind else nullcontext():  # what stopped the block is what the user has to know
            self.send()

    def log_params(self, params: Mapping[str, object]) -> None:
        with explained(self._place, "to note a run's parameters"):
            self._client.log_batch(self.id, params=[Param(name, str(value)) for name, value in params.items()])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Note values. A place that is away for a while ends no training: they are kept, and sent with later ones."""
        self._unsent += [_metric(name, value, step) for name, value in metrics.items()]
        if len(self._unsent) >= self._send_at:
            try:
                self.send()
            except RecsysError:
                self._send_at = len(self._unsent) + _METRICS_AT_ONCE

    def log_text(self, text: str, file: str) -> None:
        with explained(self._place, "to keep a text of a run"):
            self._client.log_text(self.id, text, file)

    def register(self, folder: Path, *, tags: Mapping[str, str]) -> RegisteredModel:
        """Store a folder of plain files with the run and register it as the model's next version."""
        name = self._place.model_name
        with explained(self._place, f"to register a model as {name}"):
            self._client.log_artifacts(self.id, str(folder), artifact_path="model")
            with _unless("RESOURCE_ALREADY_EXISTS"):
                self._client.create_registered_model(name)
            uri = f"{self._client.get_run(self.id).info.artifact_uri}/model"
            version = self._client.create_model_version(name, source=uri, run_id=self.id, tags=dict(tags))
        return RegisteredModel(name=name, version=str(version.version), uri=uri, run_id=self.id)

    def send(self) -> None:
        """Send the values that wait."""
        with explained(self._place, "to note a run's values"):
            while self._unsent:
                self._client.log_batch(self.id, metrics=self._unsent[:_METRICS_AT_ONCE])
                del self._unsent[:_METRICS_AT_ONCE]
        self._send_at = _METRICS_AT_ONCE

    def finish(self, status: str = "FINISHED") -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        try:
            self.send()
        finally:
            with explained(self._place, "to end a run"):
                self._client.set_terminated(self.id, status=status)


def open_run(place: TrackingPlace, name: str, *, tags: Mapping[str, str] | None = None) -> Run:
    """A new run, which is RUNNING until somebody finishes it."""
    with explained(place, "to open a run"):
        client = open_client(place)
        created = client.create_run(_experiment_id(client, place), run_name=name, tags=dict(tags or {}))
    return Run(place, created.info.run_id)


def running_runs(place: TrackingPlace) -> Iterator[tuple[Run, dict[str, str]]]:
    """The runs of the place's experiment that nobody has ended, and their tags."""
    with explained(place, "the runs that nobody has ended"):
        client = open_client(place)
        experiments = [_experiment_id(client, place)]
        page = client.search_runs(experiments, _IS_RUNNING)
        found = list(page)
        while page.token:
            page = client.search_runs(experiments, _IS_RUNNING, page_token=page.token)
            found += page
    yield from ((Run(place, run.info.run_id), run.data.tags) for run in found)


def point_alias(place: TrackingPlace, model: RegisteredModel, alias: str) -> None:
    """Let `models:/NAME@ALIAS` mean this version (MLflow's stages are deprecated)."""
    with explained(place, f"to point {alias} at {model.name} version {model.version}"):
        open_client(place).set_registered_model_alias(model.name, alias, model.version)


def read_version_tag(place: TrackingPlace, model_name: str, version: str, tag: str) -> str | None:
    """What a registered model version is tagged with."""
    with explained(place, f"{model_name} version {version} in its registry", do=_TRAIN_AGAIN):
        tags: dict[str, str] = open_client(place).get_model_version(model_name, version).tags
    return tags.get(tag)


def tag_version(place: TrackingPlace, model_name: str, version: str, tag: str, value: str) -> None:
    """Tag a registered model version."""
    with explained(place, f"to tag {model_name} version {version}"):
        open_client(place).set_model_version_tag(model_name, version, tag, value)


def log_figures(place: TrackingPlace, run_id: str, figures: Sequence[Mapping[str, Any]]) -> None:
    """Add rows of METRICS to the run that trained the model: `all.recommendations.ndcg_10` and so on."""
    named = {f"{row['slice']}.{row['method']}.{row['metric']}_{row['k']}": row["value"] for row in figures}
    run = Run(place, run_id)
    run.log_metrics(named)
    run.send()


def fetch_files(place: TrackingPlace, model_name: str, version: str, to: Path) -> Path:
    """Copy a registered model's folder to this machine; returns the local folder."""
    with explained(place, f"the files of {model_name} version {version}", do=_TRAIN_AGAIN):
        uri = open_client(place).get_model_version_download_uri(model_name, version)
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=place.uri))


def read_curve(place: TrackingPlace, run_id: str, metric: str) -> list[tuple[int, float]]:
    """(step, value) of a logged metric, in order of the steps."""
    with explained(place, f"the curve of {metric}"):
        history = open_client(place).get_metric_history(run_id, metric)
    return sorted((point.step, point.value) for point in history)


def _metric(name: str, value: float, step: int) -> Metric:
    return Metric(name, value, int(time.time() * 1000), step)


def _experiment_id(client: MlflowClient, place: TrackingPlace) -> str:
    location = (
        Path(place.artifacts).absolute().as_uri()
        if place.artifacts and "://" not in place.artifacts
        else place.artifacts
    )
    known = client.get_experiment_by_name(place.experiment)
    if known is not None:
        return str(known.experiment_id)
    with _unless("RESOURCE_ALREADY_EXISTS"):
        return str(client.create_experiment(place.experiment, artifact_location=location))
    return _experiment_id(client, place)  # another job has made it since we asked


@contextmanager
def _unless(error_code: str) -> Iterator[None]:
    """What MLflow refuses with this code was done before."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != error_code:
            raise
