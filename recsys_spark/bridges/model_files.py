"""A model's folder on every executor, and the model in memory once per Python worker."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from recsys_spark.kernels.checkpoint import load_model
from recsys_spark.kernels.two_tower import TwoTower


def share_model(spark: SparkSession, folder: Path, name: str) -> str:
    """Send the folder to every executor as an archive; returns the name `open_model` finds it by.

    Executors fetch it when their first task needs it, so the archive stays in the session's own folder, which Spark
    removes at the end.
    """
    place = Path(SparkFiles.getRootDirectory()) / "models"
    place.mkdir(exist_ok=True)
    archive = place / f"{name}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as stream:  # weights do not shrink: deflating 90 MB took 5 s
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            stream.write(file, file.relative_to(folder))
    spark.sparkContext.addArchive(f"{archive}#{name}")
    return name


def open_model(name: str) -> TwoTower:
    """The shared model, on a worker: read at the first call, the same object at every later one."""
    return _load(SparkFiles.get(name))


@lru_cache(maxsize=1)  # one per worker process, whatever the number of partitions it serves
def _load(folder: str) -> TwoTower:
    return load_model(Path(folder))
