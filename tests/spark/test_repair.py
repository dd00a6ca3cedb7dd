"""ITEM_INDEX that two jobs of an earlier release wrote at once: stages refuse it, and one job mends it."""

import time

import pytest

from jobs import build_item_text, build_sequences, repair_item_index
from recsys_spark.errors import RecsysError
from recsys_spark.runner import run_stage
from recsys_spark.tables.catalog import ITEM_INDEX
from recsys_spark.tables.store import Store
from recsys_spark.transforms.item_index import WRITTEN_AT, keep_first_numbers
from tests.small_warehouse import TEXTS, config_of, write_small_warehouse

pytestmark = pytest.mark.spark


def numbers(store):
    return sorted(tuple(row) for row in store.read(ITEM_INDEX).collect())


@pytest.fixture
def store(spark, tmp_path):
    """A warehouse whose six items were numbered twice, the second time in another order and with an item more."""
    store = write_small_warehouse(spark, str(tmp_path / "warehouse"))
    time.sleep(0.01)
    again = [(item, number) for number, item in enumerate([*reversed(TEXTS), "g"])]
    store.append(ITEM_INDEX, spark.createDataFrame(again, ITEM_INDEX.schema))
    return store


@pytest.mark.parametrize("job", [build_item_text, build_sequences])
def test_the_stages_that_read_it_first_name_the_job_that_mends_it(spark, store, job):
    with pytest.raises(RecsysError) as raised:
        run_stage(job.STAGE, spark, config_of(store.root))
    assert str(raised.value) == (
        "table ITEM_INDEX: wanted one row for each item and for each number; found 13 rows for 7 items and 7 numbers. "
        "Two jobs of an earlier release wrote it at once: run jobs/repair_item_index.py, which keeps every item's "
        "first number."
    )


def test_every_item_keeps_its_first_number_and_what_was_done_is_told(spark, store):
    outcome = run_stage(repair_item_index.STAGE, spark, config_of(store.root))
    assert outcome.record["notes"] == ["6 rows of items that had a number already: dropped"]
    assert numbers(store) == [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4), ("f", 5), ("g", 6)]
    run_stage(build_item_text.STAGE, spark, config_of(store.root))
    sound = store.version(ITEM_INDEX)
    again = run_stage(repair_item_index.STAGE, spark, config_of(store.root), force=True)
    assert again.record["notes"] == ["every item has one number, and every number one item: nothing to repair"]
    assert store.version(ITEM_INDEX) == sound


def test_a_number_stays_with_the_item_that_had_it_first_and_others_get_new_ones(spark):
    rows = [("b", 0, 1), ("a", 1, 1), ("c", 0, 2), ("a", 5, 2), ("d", 0, 2), ("e", 9, 2), ("f", 9, 3)]
    index = spark.createDataFrame(rows, f"item_id string, item_idx int, {WRITTEN_AT} long")
    mended = sorted(tuple(row) for row in keep_first_numbers(index).collect())
    assert mended == [("a", 1), ("b", 0), ("c", 10), ("d", 11), ("e", 9), ("f", 12)]


def test_a_warehouse_without_items_has_nothing_to_repair(spark, tmp_path):
    outcome = run_stage(repair_item_index.STAGE, spark, config_of(str(tmp_path)))
    assert outcome.record["rows_out"] == {}
    assert Store(spark, str(tmp_path)).state(ITEM_INDEX) is None
