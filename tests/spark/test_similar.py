"""Similar items and users equal a float64 oracle; what has no vector of a kind is in no list of it."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PythonException

from recsys_spark.bridges import similar
from recsys_spark.bridges.score import search
from recsys_spark.bridges.similar import KINDS, similar_items, similar_users
from recsys_spark.bridges.snapshot import take_snapshot
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.grid import snap_to_grid
from recsys_spark.kernels.top_k import TopLists
from recsys_spark.tables.catalog import SIMILAR_ITEMS, SIMILAR_USERS, USER_EMBEDDINGS
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


@pytest.mark.parametrize(("top_k", "item_block", "files"), [(5, 64, 1), (NUM_ITEMS, 7, 5), (10 * NUM_ITEMS, 64, 1)])
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


def test_an_only_item_is_like_no_other(spark, tmp_path):
    ddl = "item_id string, item_idx int, " + ", ".join(f"{name} array<float>" for name in KINDS.values())
    path = str(tmp_path / "items")
    spark.createDataFrame(ROWS[1:2], ddl).write.format("delta").save(path)
    rows = spark.read.format("delta").load(path)
    lists = similar_items(rows, take_snapshot(rows, "ITEM_EMBEDDINGS", 0), top_k=50, item_block=8)
    assert {(row.kind, row.item_id, *row["items"]) for row in lists.collect()} == {(kind, "i07") for kind in KINDS}


# --- users ------------------------------------------------------------------------------------------------------------

NUM_USERS = 60
AS_OF = datetime(2020, 6, 1, tzinfo=UTC)


def make_users():
    """user_id and vector; more twins than a list has places, opposites, and two users without a vector."""
    rng = np.random.default_rng(8)
    vectors = snap_to_grid(rng.standard_normal((NUM_USERS, DIM)))
    vectors[10:20] = vectors[0]
    vectors[20:25] = -vectors[0]
    vectors[30:32] = 0
    return {f"{'ü' if user % 9 == 0 else 'u'}{user * 37 % NUM_USERS}": vectors[user] for user in range(NUM_USERS)}


USER_VECTORS = make_users()


def user_oracle(top_k):
    """user_id -> (users, scores)."""
    lists = {}
    for user, vector in USER_VECTORS.items():
        cosines = {other: float(np.float64(USER_VECTORS[other]) @ np.float64(vector)) for other in USER_VECTORS}
        best = sorted((-cosine, other.encode()) for other, cosine in cosines.items() if other != user and cosine > 0)
        lists[user] = ([other.decode() for _, other in best[:top_k]], [-cosine for cosine, _ in best[:top_k]])
    return lists


@pytest.fixture(scope="module")
def users(spark, tmp_path_factory):
    """USER_EMBEDDINGS of two splits in a store: those of validation are other vectors of the same users."""
    store = Store(spark, str(tmp_path_factory.mktemp("users")))
    rows = [(user, AS_OF, "test", "1", vector.tolist(), "h") for user, vector in USER_VECTORS.items()]
    rows += [(user, AS_OF, "validation", "1", (-vector).tolist(), "h") for user, vector in USER_VECTORS.items()]
    made = spark.createDataFrame(rows, USER_EMBEDDINGS.schema).repartition(3)
    store.replace(USER_EMBEDDINGS, made, {"model_version": "1"})
    return store


def of_split(users, split):
    rows = users.read(USER_EMBEDDINGS).where(f"model_version = '1' AND split = '{split}'")
    return rows, take_snapshot(rows, "USER_EMBEDDINGS", 0)


@pytest.mark.parametrize(("top_k", "user_block"), [(1, 64), (5, 7), (NUM_USERS, 64), (10 * NUM_USERS, 64)])
def test_lists_of_users_equal_the_oracle(users, top_k, user_block):
    lists = similar_users(*of_split(users, "test"), top_k=top_k, user_block=user_block)
    assert users.replace(SIMILAR_USERS, lists, {"model_version": "1"}).rows == NUM_USERS
    found = {row.user_id: (row.users, row.scores) for row in users.read(SIMILAR_USERS).collect()}
    assert found == user_oracle(top_k)
    assert {user for user, (listed, _) in found.items() if not listed} == {
        user for user, vector in USER_VECTORS.items() if not vector.any()
    }


def test_an_only_user_is_like_no_other(spark, tmp_path):
    path = str(tmp_path / "users")
    only = spark.createDataFrame([("u", [0.5, 0.5])], "user_id string, embedding array<float>")
    only.write.format("delta").save(path)
    rows = spark.read.format("delta").load(path)
    lists = similar_users(rows, take_snapshot(rows, "USER_EMBEDDINGS", 0), top_k=50, user_block=8, checked_share=1.0)
    assert [(row.user_id, row.users, row.scores) for row in lists.collect()] == [("u", [], [])]


def test_lists_of_users_can_be_proven(users):
    _, snapshot = of_split(users, "test")
    vectors = [vector.tolist() for vector in USER_VECTORS.values()]
    block = pa.RecordBatch.from_pydict(
        {"user_id": list(USER_VECTORS), "embedding": pa.array(vectors, pa.list_(pa.float32()))}
    )
    with pytest.MonkeyPatch.context() as patch:
        assert len(similar.find_users(block, snapshot, top_k=4, checked_share=1.0)) == NUM_USERS
        patch.setattr(
            similar, "search", lambda *given, **named: TopLists(search(*given, **named).keys_UK + np.uint64(1))
        )
        with pytest.raises(RecsysError, match=r"scores of [uü].*: wanted .*score\.checked_share"):
            similar.find_users(block, snapshot, top_k=4, checked_share=1.0)


def test_a_snapshot_of_two_splits_is_named(users):
    rows = users.read(USER_EMBEDDINGS)
    with pytest.raises(PythonException, match="version 0: wanted one row for each user_id; found 120 rows, 60"):
        similar_users(rows, take_snapshot(rows, "USER_EMBEDDINGS", 0), top_k=3, user_block=8).collect()
