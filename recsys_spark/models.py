"""The model of a run, as the jobs after training use it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from recsys_spark import columns as c
from recsys_spark.bridges.model_files import share_model
from recsys_spark.lineage import code_hash, fingerprint
from recsys_spark.tables.store import first_row
from recsys_spark.tracking import TrackingPlace, fetch_files


@dataclass(frozen=True)
class RunModel:
    """One row of MODELS."""

    version: str
    uri: str
    tracking_run: str
    alpha: float
    offset_b: float


def find_model(models: DataFrame) -> RunModel:
    """The only model of one run's slice of MODELS."""
    row = first_row(models)
    return RunModel(
        version=row[c.MODEL_VERSION],
        uri=row[c.MODEL_URI],
        tracking_run=row[c.TRACKING_RUN],
        alpha=row[c.ALPHA],
        offset_b=row[c.OFFSET_B],
    )


def name_maker(embed: Callable[..., DataFrame], model: RunModel) -> str:
    """Name of what makes vectors: the code that `embed` reaches, the libraries, and the training run.

    A version number is no name of a model: a tracking store that is begun anew counts from 1 again.
    """
    libraries = [f"{name} {version(name)}" for name in ("torch", "transformers")]
    return fingerprint([code_hash(embed.__module__), libraries, model.tracking_run])


def share_files(spark: SparkSession, place: TrackingPlace, model: RunModel) -> str:
    """Fetch the model from the tracking store and send it to the executors; returns its shared name."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = fetch_files(place, model.uri, Path(scratch))
        return share_model(spark, folder, f"model_{model.version}")
