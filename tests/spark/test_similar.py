"""Similar items equal a float64 oracle for every kind; what has no vector of a kind is in no list of it."""

import numpy as np
import pytest

from recsys_spark.bridges.similar import KINDS, similar_items
from recsys_spark.bridges.snapshot import take_snapshot
from recsys_spark.kernels.grid import snap_to_grid
from recsys_spark.tables.catalog import SIMILAR_ITEMS
from recsys_spark.tables.store import Store

pytestmark = pytest.mark.spark

NUM_ITEMS, DIM = 40, 6
COLUMNS = ("item_id", "item_idx", *KINDS.values())


def make_items():
    """item_id, item_idx and three vectors; every fifth item is too rare for one of behaviour, some texts are twins."""
    rng = np.random.default_rng(3)
    vectors = {kind: snap_to_grid(rng.standard_normal((NUM_ITEMS, DIM))) for kind in KINDS}
    vectors["behaviour"][::5] = 0
    vectors["text"][30:] = vectors["text"][:10]
    rows = [
        (f"i{item * 7 % NUM_ITEMS:02d}", 2 * item, *(vectors[kind][item].tolist() for kind in KINDS))
        for item in range(NUM_ITEMS)
    ]
    return rows, vectors


ROWS, VECTORS = make_items()


def oracle(kind, top_k):
    """item_id -> the item_idx of its list and their cosines."""
    cosines = VECTORS[kind].astype(np.float64) @ VECTORS[kind].astype(np.float64).T
    lists = {}
    for item, (item_id, *_) in enumerate(ROWS):
        others = [other for other in range(NUM_ITEMS) if other != item and cosines[item, other] > 0]
        best = sorted(others, key=lambda other: (-cosines[item, other], ROWS[other][0]))[:top_k]
        lists[item_id] = ([ROWS[other][1] for other in best], [cosines[item, other] for other in best])
    return lists


@pytest.mark.parametrize(("top_k", "item_block", "files"), [(5, 64, 1), (NUM_ITEMS, 7, 5)])
def test_lists_of_every_kind_equal_the_oracle(spark, tmp_path, top_k, item_block, files):
    ddl = "item_id string, item_idx int, " + ", ".join(f"{name} array<float>" for name in KINDS.values())
    path = str(tmp_path / "items")
    spark.createDataFrame(ROWS, ddl).repartition(files).write.format("delta").save(path)
    rows = spark.read.format("delta").load(path)
    lists = similar_items(rows, take_snapshot(rows, "ITEM_EMBEDDINGS", 0), top_k=top_k, item_block=item_block)
    store = Store(spark, str(tmp_path))
    assert store.replace(SIMILAR_ITEMS, lists, {"model_version": "1"}).rows == len(KINDS) * NUM_ITEMS
    found = {kind: {} for kind in KINDS}
    for row in store.read(SIMILAR_ITEMS).collect():
        found[row.kind][row.item_id] = (row["items"], row.scores)
    assert found == {kind: oracle(kind, top_k) for kind in KINDS}
    assert [found["behaviour"][ROWS[item][0]] for item in range(0, NUM_ITEMS, 5)] == [([], [])] * (NUM_ITEMS // 5)
