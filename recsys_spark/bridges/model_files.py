"""A model's folder on every executor, and the model in memory once per Python worker.

A shared model is named by its checksum (kernels/checkpoint.py). The session keeps what it was given under a name, and
workers outlive a job: two warehouses of one session both have a model version 1, and by that name the second one got
the first one's model.
"""

from __future__ import annotations

import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from recsys_spark.kernels.checkpoint import load_model, model_checksum
from recsys_spark.kernels.two_tower import TwoTower


def share_model(spark: SparkSession, folder: Path) -> str:
    """Send the folder to every executor as an archive; returns the name that `open_model` finds it by: its checksum.

    Executors fetch it when their first task needs it, so the archive stays in the session's own folder, which Spark
    removes at the end.
    """
    name = model_checksum(folder)
    place = Path(SparkFiles.getRootDirectory()) / "models"
    place.mkdir(exist_ok=True)
    archive = place / f"{name}.zip"
    if not archive.exists():
        _zip(folder, archive)
    if not any(name in shared for shared in spark.sparkContext.listArchives):
        spark.sparkContext.addArchive(f"{archive}#{name}")
    return name


def open_model(name: str) -> TwoTower:
    """The shared model, on a worker: read and checked at the first call, the same object at every later one."""
    return _load(name, SparkFiles.get(name))


@lru_cache(maxsize=1)  # one per worker process, whatever the number of partitions it serves
def _load(checksum: str, folder: str) -> TwoTower:
    return load_model(Path(folder), checksum=checksum)


def _zip(folder: Path, archive: Path) -> None:
    """Under its name once it is whole: another thread of the driver may share the same model."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        part = Path(scratch) / archive.name
        with zipfile.ZipFile(
            part, "w", zipfile.ZIP_STORED
        ) as stream:  # deflating 90 MB of weights took 5 s for nothing
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                stream.write(file, file.relative_to(folder))
        part.rename(archive)
