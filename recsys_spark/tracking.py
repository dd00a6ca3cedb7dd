"""MLflow behind a small interface: what a run logs, the model it registers, the files of a version."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from recsys_spark.config import TrackingConfig

# MLflow reports its use to its makers and draws progress bars; a batch job wants neither.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@dataclass(frozen=True)
class TrackingPlace:
    """Where runs are tracked: plain values that travel to the ranks."""

    uri: str
    artifacts: str | None
    experiment: str
    model_name: str


def tracking_place(settings: TrackingConfig) -> TrackingPlace:
    """The place that the configuration's section `tracking` names."""
    return TrackingPlace(**settings.model_dump())


@dataclass(frozen=True)
class RegisteredModel:
    """A model version of the registry and the run that made it."""

    name: str
    version: str
    uri: str
    run_id: str


_METRICS_AT_ONCE = 200
"""Values sent in one request. One value alone costs 2.4 ms on a local SQLite file, and a round trip to a server."""


class Run:
    """One MLflow run, open from construction to `finish`; values it was given may wait until then to be sent."""

    def __init__(self, place: TrackingPlace, name: str, tags: Mapping[str, str] | None = None) -> None:
        self._place = place
        self._client = _client(place)
        experiment_id = _experiment_id(self._client, place)
        self.id: str = self._client.create_run(experiment_id, run_name=name, tags=dict(tags or {})).info.run_id
        self._unsent: list[Metric] = []

    def log_params(self, params: Mapping[str, object]) -> None:
        self._client.log_batch(self.id, params=[Param(name, str(value)) for name, value in params.items()])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        self._unsent += [_metric(name, value, step) for name, value in metrics.items()]
        if len(self._unsent) >= _METRICS_AT_ONCE:
            self._send()

    def log_text(self, text: str, file: str) -> None:
        self._client.log_text(self.id, text, file)

    def register(self, folder: Path) -> RegisteredModel:
        """Store a folder of plain files with the run and register it as the model's next version."""
        self._client.log_artifacts(self.id, str(folder), artifact_path="model")
        name = self._place.model_name
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        uri = f"{self._client.get_run(self.id).info.artifact_uri}/model"
        version = self._client.create_model_version(name, source=uri, run_id=self.id)
        return RegisteredModel(name=name, version=str(version.version), uri=uri, run_id=self.id)

    def finish(self, status: str = "FINISHED") -> None:
        try:
            self._send()
        finally:
            self._client.set_terminated(self.id, status=status)

    def _send(self) -> None:
        self._client.log_batch(self.id, metrics=self._unsent)
        self._unsent = []


def point_alias(place: TrackingPlace, model: RegisteredModel, alias: str) -> None:
    """Let `models:/NAME@ALIAS` mean this version (MLflow's stages are deprecated)."""
    _client(place).set_registered_model_alias(model.name, alias, model.version)


def log_figures(place: TrackingPlace, run_id: str, figures: Sequence[Mapping[str, Any]]) -> None:
    """Add rows of METRICS to the run that trained the model: `all.recommendations.ndcg_10` and so on."""
    named = {f"{row['slice']}.{row['method']}.{row['metric']}_{row['k']}": row["value"] for row in figures}
    _client(place).log_batch(run_id, metrics=[_metric(name, value, step=0) for name, value in named.items()])


def fetch_files(place: TrackingPlace, uri: str, to: Path) -> Path:
    """Copy a registered model's folder to this machine; returns the local folder."""
    mlflow.set_tracking_uri(place.uri)
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(to)))


def read_curve(place: TrackingPlace, run_id: str, metric: str) -> list[tuple[int, float]]:
    """(step, value) of a logged metric, in order of the steps."""
    history = _client(place).get_metric_history(run_id, metric)
    return sorted((point.step, point.value) for point in history)


def _metric(name: str, value: float, step: int) -> Metric:
    return Metric(name, value, int(time.time() * 1000), step)


def _client(place: TrackingPlace) -> MlflowClient:
    if place.uri.startswith("sqlite:///"):
        Path(place.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=place.uri)


def _experiment_id(client: MlflowClient, place: TrackingPlace) -> str:
    found = client.get_experiment_by_name(place.experiment)
    if found is not None:
        return str(found.experiment_id)
    location = (
        Path(place.artifacts).absolute().as_uri()
        if place.artifacts and "://" not in place.artifacts
        else place.artifacts
    )
    return str(client.create_experiment(place.experiment, artifact_location=location))
