"""One Spark session for all tests that need one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession

from recsys_spark.tables.session import build_session

SMALL = {
    "spark.master": "local[2]",
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",  # a tenth less of the JVM's processor time
    "spark.ui.enabled": False,
    "spark.ui.showConsoleProgress": False,
    # Two cores and a few rows: every further task or partition is pure overhead.
    "spark.sql.shuffle.partitions": 2,
    "spark.databricks.delta.snapshotPartitions": 2,
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": 2,
}

# A busy machine is no fault of the code: examples have no time limit, tests have one (pyproject.toml).
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def delta_jars() -> list[str]:
    """Delta's jars from RECSYS_DELTA_JARS (a folder or a comma list); none: Spark fetches them from Maven."""
    given = os.environ.get("RECSYS_DELTA_JARS", "")
    if given and Path(given).is_dir():
        return sorted(str(jar) for jar in Path(given).glob("*.jar"))
    return [jar for jar in given.split(",") if jar]


@pytest.fixture(scope="session")
def spark(tmp_path_factory) -> Iterator[SparkSession]:
    """A Delta session on two cores, in UTC, whose scratch folders vanish with the tests."""
    scratch = tmp_path_factory.mktemp("spark")
    places = {
        "spark.local.dir": str(scratch / "local"),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
    }
    session = build_session("recsys_spark tests", {**SMALL, **places}, delta_jars=delta_jars())
    yield session
    session.stop()
