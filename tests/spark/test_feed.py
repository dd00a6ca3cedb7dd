"""Petastorm's feed: every row of one Delta version once per epoch, on every rank count."""

from __future__ import annotations

from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from recsys_spark.bridges import feed
from recsys_spark.bridges.feed import PetastormFeed, plan_shards, plan_steps
from recsys_spark.bridges.snapshot import Snapshot, SnapshotFile, assign_files, take_snapshot
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.batches import concatenate
from recsys_spark.tables.catalog import SEQUENCES
from recsys_spark.tables.store import Store
from recsys_spark.transforms.sequences import spread_over_files

NUM_ROWS = 203


@pytest.fixture(scope="module")
def snapshot(spark, tmp_path_factory) -> Snapshot:
    """The second version of a table: the first version's files, with other rows, still lie in its folder."""
    store = Store(spark, str(tmp_path_factory.mktemp("feed warehouse")))
    for first_id in (5_000, 0):
        rows = spark.range(first_id, first_id + NUM_ROWS).select(
            F.col("id").alias("row_id"),
            F.concat(F.lit("u"), F.col("id")).alias("user_id"),
            F.timestamp_seconds(F.lit(0)).alias("as_of"),
            F.lit("train").alias("split"),
            *[
                F.array_repeat(F.col("id").cast("int"), 3).alias(name)
                for name in ("event_items", "event_types", "event_hours")
            ],
            F.lit(3).alias("num_events"),
            F.array(F.col("id").cast("int"), F.lit(-1)).alias("target_items"),
            F.lit(1).alias("num_targets"),
        )
        commit = store.replace(SEQUENCES, spread_over_files(rows, num_files=5), {})
    return take_snapshot(store.read(SEQUENCES, commit.version), "SEQUENCES", commit.version, order_by="row_id")


@pytest.mark.parametrize("num_ranks", [1, 2, 5])
def test_all_ranks_together_see_every_row_once_per_epoch(snapshot, num_ranks):
    shards = assign_files(snapshot.files, num_ranks)
    num_steps = plan_steps(shards, batch_rows=16)
    for epoch in (1, 2):
        batches = [list(PetastormFeed(shard, num_steps=num_steps, seed=3).epoch(epoch)) for shard in shards]
        assert {len(of_rank) for of_rank in batches} == {num_steps}, "every rank takes the same number of steps"
        ids = np.concatenate([batch.row_id_B for of_rank in batches for batch in of_rank])
        assert sorted(ids) == list(range(NUM_ROWS))
        assert all(len(batch) <= 16 for of_rank in batches for batch in of_rank)


@pytest.mark.parametrize(
    ("rows", "batch_rows", "shards"),
    [
        ((3,), 16, [[3]]),  # one file
        ((1, 1), 16, [[1], [1]]),
        ((65, 1), 1, [[65, 1]]),  # 65 steps, and one row for the second rank
        ((65, 1), 65, [[65], [1]]),
        ((5, 4, 4, 1), 4, [[5], [4, 1], [4]]),
        ((5, 1, 1), 2, [[5, 1, 1]]),  # 3 steps, and a second rank would have 2 rows
        ((5, 2, 1), 2, [[5], [2, 1]]),
    ],
)
def test_as_many_ranks_read_as_have_a_file_and_a_row_for_each_step(rows, batch_rows, shards):
    files = [SnapshotFile(f"file {number}", size) for number, size in enumerate(rows)]
    planned = plan_shards(files, most_ranks=3, batch_rows=batch_rows)
    assert [[file.rows for file in shard] for shard in planned] == shards


def test_columns_stay_together(snapshot):
    rows = concatenate(list(PetastormFeed(snapshot.files, num_steps=4, seed=0).epoch(1)))
    assert rows.event_items_BL.dtype == np.int32 and rows.event_items_BL.shape == (NUM_ROWS, 3)
    assert (rows.event_items_BL[:, 1] == rows.row_id_B).all()
    assert (rows.target_items_BM[:, 0] == rows.row_id_B).all()
    assert (rows.target_items_BM[:, 1] == -1).all()


def test_epochs_are_shuffled_and_repeatable(snapshot):
    def order(epoch: int, seed: int) -> list[int]:
        feed = PetastormFeed(snapshot.files, num_steps=4, seed=seed)
        return concatenate(list(feed.epoch(epoch))).row_id_B.tolist()

    assert order(1, seed=3) == order(1, seed=3)
    assert order(1, seed=3) != order(2, seed=3)
    assert order(1, seed=3) != order(1, seed=4)


def test_the_order_of_an_epoch_follows_the_rows_and_neither_names_nor_row_groups(snapshot, tmp_path, monkeypatch):
    """Two writers of equal rows: other names, in another order, and other row groups."""
    monkeypatch.setattr(feed, "_SHUFFLED_ROWS", 50)
    orders = []
    for names, group_rows in (("abcde", 1_000), ("zcbya", 7)):
        files = []
        for name, file in zip(names, snapshot.files, strict=True):
            path = tmp_path / f"{group_rows} {name}.parquet"
            rows = pq.ParquetFile(unquote(urlparse(file.uri).path)).read()
            pq.write_table(rows, path, row_group_size=group_rows)
            files.append(SnapshotFile(path.as_uri(), file.rows))
        batches = PetastormFeed(files, num_steps=4, seed=3).epoch(1)
        orders.append([batch.row_id_B.tolist() for batch in batches])
    assert orders[0] == orders[1]
    assert sorted(row_id for batch in orders[0] for row_id in batch) == list(range(NUM_ROWS))


def test_a_hundred_epochs_lose_nothing(snapshot):
    """petastorm's thread pool ends early in a third of such runs."""
    shard = assign_files(snapshot.files, 2)[1]
    feed = PetastormFeed(shard, num_steps=3, seed=0)
    expected = None
    for epoch in range(100):
        total = sum(int(batch.row_id_B.sum()) for batch in feed.epoch(epoch))
        expected = expected or total
        assert total == expected


@pytest.fixture
def with_a_row_too_many(snapshot):
    return [SnapshotFile(file.uri, file.rows + 1) for file in snapshot.files]


def test_a_file_with_other_rows_than_planned_is_an_error(with_a_row_too_many):
    with pytest.raises(
        RecsysError, match=r"wanted \d+ rows, as Spark counted in the snapshot; found \d+ rows in the file"
    ):
        list(PetastormFeed(with_a_row_too_many, num_steps=2, seed=0).epoch(1))


def test_rows_that_are_lost_while_files_are_read_are_an_error(with_a_row_too_many, monkeypatch):
    monkeypatch.setattr(feed, "require_whole", lambda files: None)
    with pytest.raises(
        RecsysError, match="wanted each of 208 rows once per epoch; found the feed ended 5 rows too early"
    ):
        list(PetastormFeed(with_a_row_too_many, num_steps=2, seed=0).epoch(1))


def test_a_feed_left_halfway_leaves_no_thread_behind(snapshot):
    import threading

    batches = PetastormFeed(snapshot.files, num_steps=10, seed=0).epoch(1)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]
