"""The model of a run, as the jobs after training use it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pyspark.sql import DataFrame, SparkSession

from recsys_spark import columns as c
from recsys_spark.bridges.model_files import share_model
from recsys_spark.bridges.probe import AUTO, Choice, choose_back_end
from recsys_spark.config.secrets import hide
from recsys_spark.errors import problem
from recsys_spark.kernels.checkpoint import require_whole_model
from recsys_spark.lineage import code_hash, fingerprint
from recsys_spark.tables.store import first_row
from recsys_spark.tracking import TrackingPlace, fetch_files, read_version_tag, tag_version

_BACK_END_TAG: Final = "embed.back_end"


@dataclass(frozen=True)
class RunModel:
    """One row of MODELS. `checksum` is None of a model that an earlier release trained."""

    name: str
    version: str
    uri: str
    checksum: str | None
    tracking_run: str
    alpha: float
    offset_b: float


def find_model(models: DataFrame) -> RunModel:
    """The only model of one run's slice of MODELS."""
    row = first_row(models)
    return RunModel(
        name=row[c.MODEL_NAME],
        version=row[c.MODEL_VERSION],
        uri=row[c.MODEL_URI],
        checksum=row[c.CHECKSUM],
        tracking_run=row[c.TRACKING_RUN],
        alpha=row[c.ALPHA],
        offset_b=row[c.OFFSET_B],
    )


def name_maker(embed: Callable[..., DataFrame], model: RunModel) -> str:
    """Name of what makes vectors: the code that `embed` reaches, the libraries, and the model's checksum.

    A version number is no name of a model: a tracking store that is begun anew counts from 1 again.
    """
    libraries = [f"{name} {version(name)}" for name in ("torch", "transformers")]
    return fingerprint([code_hash(embed.__module__), libraries, model.checksum])


def share_files(spark: SparkSession, place: TrackingPlace, model: RunModel) -> str:
    """Fetch the model from the tracking store and send it to the executors; returns its shared name.

    Raises the typed error when a file of it is not what was registered.
    """
    if model.checksum is None:
        raise problem(
            f"table MODELS, {model.name} version {model.version}",
            wanted="the checksum of its files",
            found="none: an earlier release trained it",
            do="Train again (jobs/train.py).",
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = fetch_files(place, model.name, model.version, Path(scratch))
        require_whole_model(folder, checksum=model.checksum, told_as=hide(model.uri))
        return share_model(spark, folder)


def settle_back_end(
    place: TrackingPlace, model: RunModel, wanted: str, item_text: DataFrame, *, model_name: str, batch_tokens: int
) -> Choice:
    """The back end named by `wanted`; `auto`: the one that this model version was settled on when it was first asked
    for, whatever stands in a table. `model_name` is that of `share_files`."""
    tag = (place, model.name, model.version, _BACK_END_TAG)
    recorded = read_version_tag(*tag) if wanted == AUTO else None
    choice = choose_back_end(wanted, item_text, recorded=recorded, model_name=model_name, batch_tokens=batch_tokens)
    if wanted == AUTO and not recorded:
        tag_version(*tag, choice.name)
    return choice
