"""Jobs that write one table at the same moment: nothing is lost, nothing comes twice, or one of them is told."""

from threading import Barrier, Thread

import pytest
from delta.tables import DeltaTable
from pyspark.sql import functions as F

from recsys_spark.errors import RecsysError
from recsys_spark.tables import commits
from recsys_spark.tables import store as tables_store
from recsys_spark.tables.catalog import ITEM_INDEX
from recsys_spark.tables.commits import Basis
from recsys_spark.tables.store import Store
from recsys_spark.transforms.items import number_new_items
from tests.spark.test_store import BY_ROW, SALES, STOCK, rows_of, sales, stock, told

pytestmark = pytest.mark.spark

TOLD = "table SALES: wanted no other job that writes the same rows at the same moment; found one that wrote to "


class Waiting(Store):
    """A store whose first write waits until all have come to theirs."""

    def __init__(self, spark, root, barrier):
        super().__init__(spark, root)
        self._barrier, self._has_waited = barrier, False

    def _write(self, *arguments, **named):
        if not self._has_waited:
            self._has_waited = True
            self._barrier.wait(timeout=120)
        return super()._write(*arguments, **named)


def at_once(spark, root, *writes):
    """What each write gives, done in a thread and with a store of its own: a commit, or the message of its error."""
    barrier, results = Barrier(len(writes)), [None] * len(writes)

    def run(place):
        try:
            results[place] = writes[place](Waiting(spark, str(root), barrier))
        except RecsysError as error:
            results[place] = str(error)

    threads = [Thread(target=run, args=(place,)) for place in range(len(writes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("is_there", [False, True], ids=["no table yet", "a table"])
def test_two_slices_are_both_there(spark, tmp_path, is_there):
    if is_there:
        Store(spark, str(tmp_path)).replace(SALES, sales(spark, (1, 9.0)), {"shop": "east"})
    done = at_once(
        spark, tmp_path,
        lambda store: store.replace(SALES, sales(spark, (1, 1.0)), {"shop": "north"}),
        lambda store: store.replace(SALES, sales(spark, (1, 2.0)), {"shop": "south"}),
    )  # fmt: skip
    assert sorted(told(commit) for commit in done) == ([(1, 1), (2, 1)] if is_there else [(0, 1), (1, 1)])
    rows = [("north", 1, 1.0), ("south", 1, 2.0)]
    assert rows_of(Store(spark, str(tmp_path)).read(SALES)) == ([("east", 1, 9.0), *rows] if is_there else rows)


@pytest.mark.parametrize("table", [SALES, STOCK], ids=["a slice", "a whole table"])
def test_of_two_that_replace_the_same_rows_the_later_stands_whole(spark, tmp_path, table):
    Store(spark, str(tmp_path)).replace(table, stock(spark, ("north", 1, 9.0)), {"shop": "north"})
    prices = (1.0, 2.0)
    done = at_once(
        spark, tmp_path,
        *(lambda store, price=price: store.replace(
            table, stock(spark, ("north", 1, price), ("north", 2, price)), {"shop": "north"}) for price in prices),
    )  # fmt: skip
    assert sorted(told(commit) for commit in done) == [(1, 2), (2, 2)]
    later = prices[[commit.version for commit in done].index(2)]
    assert rows_of(Store(spark, str(tmp_path)).read(table)) == [("north", 1, later), ("north", 2, later)]


def test_rows_that_are_appended_to_a_table_that_is_not_there_are_all_there(spark, tmp_path):
    at_once(spark, tmp_path, *(lambda store, n=n: store.append(STOCK, stock(spark, ("a", n, 1.0))) for n in range(3)))
    assert rows_of(Store(spark, str(tmp_path)).read(STOCK)) == [("a", n, 1.0) for n in range(3)]


def test_of_two_that_change_rows_of_one_slice_one_is_told(spark, tmp_path):
    store = Store(spark, str(tmp_path))
    store.replace(BY_ROW, sales(spark, (1, 1.0), (2, 2.0)), {"shop": "north"})
    basis = Basis(store.state(BY_ROW), {"shop": "north"})
    none = sales(spark).select("id")
    assert store.update(BY_ROW, sales(spark, (1, 5.0)), none, {"shop": "north"}, basis=basis).version == 1
    with pytest.raises(RecsysError) as raised:
        store.update(BY_ROW, sales(spark, (1, 7.0)), none, {"shop": "north"}, basis=basis)
    assert str(raised.value).startswith(TOLD)
    assert rows_of(store.read(BY_ROW)) == [("north", 1, 5.0), ("north", 2, 2.0)]


@pytest.mark.parametrize("way", ["update", "replace"])
def test_who_came_between_the_look_at_the_basis_and_the_commit_is_told(spark, tmp_path, monkeypatch, way):
    store = Store(spark, str(tmp_path))
    store.replace(BY_ROW, sales(spark, (1, 1.0), (2, 2.0)), {"shop": "north"})
    basis = Basis(store.state(BY_ROW), {"shop": "north"})
    look = commits.require_unchanged

    def look_and_be_overtaken(*arguments):
        look(*arguments)
        Store(spark, str(tmp_path)).replace(BY_ROW, sales(spark, (1, 5.0)), {"shop": "north"})

    for module in (commits, tables_store):
        monkeypatch.setattr(module, "require_unchanged", look_and_be_overtaken)
    with pytest.raises(RecsysError) as raised:
        if way == "update":
            store.update(BY_ROW, sales(spark, (2, 7.0)), sales(spark).select("id"), {"shop": "north"}, basis=basis)
        else:
            store.replace(BY_ROW, sales(spark, (2, 7.0)), {"shop": "north"}, basis=basis)
    assert str(raised.value).startswith(TOLD)


def test_a_job_that_read_one_slice_is_not_stopped_by_another_slice_nor_by_a_compaction(spark, tmp_path):
    store = Store(spark, str(tmp_path))
    for price in (1.0, 2.0):
        store.append(BY_ROW, sales(spark, (int(price), price)).withColumn("shop", F.lit("north")))
    basis = Basis(store.state(BY_ROW), {"shop": "north"})
    store.replace(BY_ROW, sales(spark, (1, 9.0)), {"shop": "south"})
    DeltaTable.forPath(spark, store.path(BY_ROW)).optimize().executeCompaction()
    none = sales(spark).select("id")
    store.update(BY_ROW, sales(spark, (1, 7.0)), none, {"shop": "north"}, basis=basis)
    assert rows_of(store.read(BY_ROW)) == [("north", 1, 7.0), ("north", 2, 2.0), ("south", 1, 9.0)]


def test_a_job_that_read_all_rows_is_told_of_another_slice_before_and_while_it_writes(spark, tmp_path):
    """Two deliveries at once could each hold the same event: each was held against what the other had not written."""
    store = Store(spark, str(tmp_path))
    store.replace(SALES, sales(spark, (1, 1.0)), {"shop": "east"})
    basis = Basis(store.state(SALES))
    results = at_once(
        spark, tmp_path,
        lambda store: store.replace(SALES, sales(spark, (1, 1.0)), {"shop": "north"}, basis=basis),
        lambda store: store.replace(SALES, sales(spark, (1, 2.0)), {"shop": "south"}, basis=basis),
    )  # fmt: skip
    (message,) = [result for result in results if isinstance(result, str)]
    assert message == f"{TOLD}{tmp_path}/sales first. Run the job again: it starts from what the other one left."
    (commit,) = [result for result in results if not isinstance(result, str)]
    assert told(commit) == (1, 1) and store.read(SALES).count() == 2
    with pytest.raises(RecsysError, match="wrote to"):
        store.replace(SALES, sales(spark, (1, 3.0)), {"shop": "west"}, basis=basis)
    assert told(store.replace(SALES, sales(spark, (1, 3.0)), {"shop": "west"}, basis=Basis(store.state(SALES)))) == (
        2,
        1,
    )


@pytest.mark.parametrize("is_there", [False, True], ids=["no table yet", "a table"])
def test_items_that_two_catalogues_bring_at_once_get_one_number_each(spark, tmp_path, is_there):
    first = [f"i{n}" for n in range(5)] if is_there else []
    if is_there:
        Store(spark, str(tmp_path)).extend(ITEM_INDEX, lambda index: number_new_items(items(spark, first), index))
    catalogues = [[f"i{n}" for n in range(40)], [f"i{n}" for n in range(20, 80)]]
    at_once(
        spark, tmp_path,
        *(lambda store, ids=ids: store.extend(ITEM_INDEX, lambda index: number_new_items(items(spark, ids), index))
          for ids in catalogues),
    )  # fmt: skip
    numbers = dict(Store(spark, str(tmp_path)).read(ITEM_INDEX).collect())
    assert Store(spark, str(tmp_path)).read(ITEM_INDEX).count() == 80
    assert numbers.keys() == {f"i{n}" for n in range(80)} and sorted(numbers.values()) == list(range(80))
    assert [numbers[item] for item in first] == list(range(len(first))), "a number is never changed"
    again = Store(spark, str(tmp_path)).extend(ITEM_INDEX, lambda index: number_new_items(items(spark, ["i7"]), index))
    assert told(again) == ((2 if is_there else 1), 0), "no new item, no commit"


def items(spark, ids):
    return spark.createDataFrame([(item,) for item in ids], "item_id string")
