"""Equal rows, settings and seed make the same model to the last bit, however the tables' files came to be."""

import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark import columns as c
from recsys_spark.bridges.snapshot import take_snapshot
from recsys_spark.checks import sum_row_ids
from recsys_spark.tables.catalog import ITEM_TEXT, SEQUENCES
from recsys_spark.tables.store import Store
from recsys_spark.training import plan_training
from tests.training_world import train_alone, write_warehouse

pytestmark = pytest.mark.spark


def plan_of(spark, config):
    store = Store(spark, config.warehouse)
    sequences = store.read(SEQUENCES)
    splits = {split: sequences.where(sequences.split == split) for split in ("train", "validation")}
    taken = {name: take_snapshot(rows, "SEQUENCES", 0, order_by=c.ROW_ID) for name, rows in splits.items()}
    item_text = take_snapshot(store.read(ITEM_TEXT), "ITEM_TEXT", 0)
    return plan_training(config, checksum=sum_row_ids(splits["train"]), item_text=item_text, **taken)


@pytest.fixture(scope="module")
def plans(spark, tmp_path_factory):
    """The plans of two warehouses of equal rows."""
    made = []
    for number, partitions in enumerate((2, 5)):
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
        try:
            root = tmp_path_factory.mktemp(f"warehouse{number}")
            made.append(plan_of(spark, write_warehouse(spark, root, "train.ranks=1", shuffle=2 * number)))
        finally:
            spark.conf.set("spark.sql.shuffle.partitions", 2)
    return made


def row_ids(plan):
    files = [file.uri.removeprefix("file:") for file in plan.train_shards[0]]
    return [pq.ParquetFile(file).read()["row_id"].to_pylist() for file in files]


def test_files_of_equal_rows_hold_the_same_rows_in_the_same_order(plans):
    first, second = map(row_ids, plans)
    assert first == second
    assert [len(first), sum(map(len, first))] == [6, 60]
    assert all(of_file == sorted(of_file) for of_file in first)
    assert first == sorted(first), "files come in the order of their rows"
    names = [[file.uri for file in plan.train_shards[0]] for plan in plans]
    assert any(uris != sorted(uris) for uris in names), "and of their names in none, or this proves nothing"


def test_equal_rows_make_the_same_model_to_the_last_bit_whatever_their_files(plans):
    (one, first), (other, second) = map(train_alone, plans)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert first.keys() == second.keys()
    assert (one.alpha, one.offset_b, one.validation_ndcg) == (other.alpha, other.offset_b, other.validation_ndcg)
