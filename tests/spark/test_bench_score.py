"""The ways to score inside Spark that the bench measures give the exact lists, on a small world."""

from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks.score_spark import export_vectors, measure, write_tables
from benchmarks.vectors import make_world
from recsys_spark.errors import RecsysError
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, USER_EMBEDDINGS
from recsys_spark.tables.store import Store

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


def test_vectors_of_the_only_model_come_in_order_for_users_of_the_test_split(spark, tmp_path):
    store, as_of = Store(spark, str(tmp_path / "warehouse")), datetime(2020, 6, 1, tzinfo=UTC)

    def put(table, rows, version):
        store.replace(table, spark.createDataFrame(rows, table.schema), {"model_version": version})

    def item(item_idx, vector, version):
        return (f"i{item_idx}", item_idx, version, vector, vector, vector, "h", "float32")

    put(ITEM_EMBEDDINGS, [item(1, [0.0, 0.5], "1"), item(0, [1.0, 0.0], "1")], "1")
    users = [("b", "test", [0.0, 1.0]), ("b", "train", [0.5, 0.0]), ("a", "test", [0.25, 0.0])]
    put(USER_EMBEDDINGS, [(user, as_of, split, "1", vector, "h") for user, split, vector in users], "1")
    export_vectors(spark, tmp_path / "warehouse", tmp_path)
    assert np.load(tmp_path / "items.npy").tolist() == [[1.0, 0.0], [0.0, 0.5]]
    assert np.load(tmp_path / "users.npy").tolist() == [[0.25, 0.0], [0.0, 1.0]]
    put(ITEM_EMBEDDINGS, [item(0, [1.0, 0.0], "2")], "2")
    with pytest.raises(RecsysError, match="versions 1, 2"):
        export_vectors(spark, tmp_path / "warehouse", tmp_path)
