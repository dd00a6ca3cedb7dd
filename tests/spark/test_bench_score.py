"""The ways to score inside Spark that the bench measures give the exact lists, on a small world."""

import pytest

from benchmarks.score_spark import measure, write_tables
from benchmarks.vectors import make_world

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def folder(spark, tmp_path_factory):
    place = tmp_path_factory.mktemp("bench")
    world = make_world("many_equal", num_users=30, num_items=200, dim=8, num_seen=5)
    world.save(place)
    write_tables(spark, world, place)
    return place


@pytest.mark.parametrize("way", ["ours", "torch"])
def test_written_lists_pass_the_oracle(spark, folder, way):
    found = measure(spark, way, folder, top_k=10, runs=1)
    assert found["recall"] == 1.0
    assert found["peak_mib"] > 0


def test_als_lists_k_items_for_every_user(spark, folder):
    measure(spark, "als", folder, top_k=10, runs=1)
    lists = spark.read.format("delta").load(str(folder / "lists_als")).collect()
    assert [len(row.recommendations) for row in lists] == [10] * 30


def test_the_floor_writes_lists_of_the_same_size(spark, folder):
    measure(spark, "floor", folder, top_k=10, runs=1)
    lists = spark.read.format("delta").load(str(folder / "lists_floor"))
    assert [(len(row["items"]), len(row["scores"])) for row in lists.collect()] == [(10, 10)] * 30
