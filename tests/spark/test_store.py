"""The store replaces one slice in one commit, checked before it is written."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from recsys_spark.bridges.snapshot import read_batches, take_snapshot
from recsys_spark.errors import RecsysError
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.contract import Column, Table
from recsys_spark.tables.store import Store

pytestmark = pytest.mark.spark

SALES = Table(
    name="SALES",
    meaning="One sale of a shop.",
    columns=(
        Column("shop", "string", "who sold"),
        Column("id", "bigint", "number of the sale"),
        Column("price", "double", "what was paid"),
    ),
    key=("shop", "id"),
    written_by="jobs/sell.py",
    slice_by=("shop",),
    partition_by=("shop",),
    checks={"a price is paid": "price > 0"},
)
BY_ROW = replace(SALES, changes_by_row=True)
STOCK = replace(SALES, name="STOCK", slice_by=(), partition_by=(), written_by="jobs/stock.py")
NORTH = "it's C:\\north\n50%/=ä' OR '1' = '1\\"
NOTHING = "Nothing was written. Look at what jobs/sell.py reads and makes."
MEND = "Mend the transform that makes it, or the contract in tables/catalog.py."


def sales(spark, *rows):
    """(id, price) of one shop."""
    return spark.createDataFrame(list(rows), "id bigint, price double")


def stock(spark, *rows, columns="shop string, id bigint, price double"):
    return spark.createDataFrame(list(rows), columns)


def told(commit):
    return commit.version, commit.rows


def rows_of(rows):
    return sorted(tuple(row) for row in rows.collect())


@pytest.fixture(scope="module")
def shops(spark, tmp_path_factory):
    """A store with four commits: north (whose name has all that SQL and folders read otherwise), south, north, east."""
    store = Store(spark, str(tmp_path_factory.mktemp("a warehouse")) + "/")
    commits = [
        store.replace(SALES, sales(spark, (1, 1.0), (2, 2.0)), {"shop": NORTH}),
        store.replace(SALES, sales(spark, (1, 9.0)), {"shop": "south", "of no slice": "x"}),
        store.replace(SALES, stock(spark, ("another", 3, 3.0)), {"shop": NORTH}),
        store.append(SALES, stock(spark, ("east", 1, 5.0), (NORTH, 4, 4.0))),
    ]
    assert [told(commit) for commit in commits] == [(0, 2), (1, 1), (2, 1), (3, 2)], "one commit a write"
    assert {commit.state.table_id for commit in commits} == {store.state(SALES).table_id}
    return store


@pytest.fixture
def refused(shops):
    """The messages of a write that is refused, which has left every row where it was."""

    def messages(write):
        with pytest.raises(RecsysError) as raised:
            write(shops)
        assert shops.version(SALES) == 3
        assert rows_of(shops.read(SALES)) == [
            ("east", 1, 5.0), (NORTH, 3, 3.0), (NORTH, 4, 4.0), ("south", 1, 9.0),
        ]  # fmt: skip
        return [str(each) for each in raised.value.problems]

    return messages


# --- writing and reading ---------------------------------------------------------------------------------------------


def test_replace_touches_exactly_its_own_slice_whatever_its_name_and_append_adds(shops):
    states = [rows_of(shops.read(SALES, version)) for version in (0, 1, 2, 3)]
    assert states == [
        [(NORTH, 1, 1.0), (NORTH, 2, 2.0)],
        [(NORTH, 1, 1.0), (NORTH, 2, 2.0), ("south", 1, 9.0)],
        [(NORTH, 3, 3.0), ("south", 1, 9.0)],
        [("east", 1, 5.0), (NORTH, 3, 3.0), (NORTH, 4, 4.0), ("south", 1, 9.0)],
    ]


def test_a_table_without_slices_is_replaced_whole_also_by_nothing(spark, tmp_path):
    store = Store(spark, str(tmp_path))
    assert store.version(STOCK) is None
    assert (rows_of(store.read_or_empty(STOCK)), store.read_or_empty(STOCK).schema) == ([], STOCK.schema)
    store.replace(STOCK, stock(spark, ("a", 1, 1.0), ("b", 1, 1.0)), {})
    assert rows_of(store.read_or_empty(STOCK)) == [("a", 1, 1.0), ("b", 1, 1.0)]
    assert told(store.replace(STOCK, stock(spark), {})) == (1, 0)
    assert rows_of(store.read(STOCK)) == []
    assert told(store.replace(STOCK, stock(spark), {})) == (1, 0), "nothing where nothing was makes no commit"


def test_no_rows_of_a_slice_without_any_make_no_commit_and_those_of_another_do(spark, tmp_path):
    store = Store(spark, str(tmp_path))
    assert told(store.replace(SALES, sales(spark), {"shop": "north"})) == (0, 0), "a table is made, to be read"
    assert told(store.replace(SALES, sales(spark, (1, 1.0)), {"shop": "south"})) == (1, 1)
    assert told(store.replace(SALES, sales(spark), {"shop": "north"})) == (1, 0)
    assert told(store.replace(SALES, sales(spark), {"shop": "south"})) == (2, 0)
    assert rows_of(store.read(SALES)) == []


def test_a_table_that_is_made_anew_is_another_one_though_its_version_is_the_same(spark, tmp_path):
    store = Store(spark, str(tmp_path))
    before = store.replace(STOCK, stock(spark, ("a", 1, 1.0)), {}).state
    shutil.rmtree(store.path(STOCK))
    assert store.state(STOCK) is None
    after = store.replace(STOCK, stock(spark, ("a", 1, 1.0)), {}).state
    assert (before.version, after.version, store.state(STOCK)) == (0, 0, after)
    assert before.table_id != after.table_id


@pytest.mark.parametrize("table", [SALES, BY_ROW], ids=["files are rewritten", "rows are marked as deleted"])
def test_an_update_changes_adds_and_removes_single_rows_of_its_own_slice_in_one_commit(spark, tmp_path, table):
    store = Store(spark, str(tmp_path))
    store.replace(table, sales(spark, (1, 1.0), (2, 2.0), (3, 3.0)), {"shop": NORTH})
    store.replace(table, sales(spark, (1, 9.0), (3, 9.0)), {"shop": "south"})
    changed, gone = sales(spark, (2, 2.5), (4, 4.0)), sales(spark, (3, 0.0), (5, 0.0)).select("id")
    assert told(store.update(table, changed, gone, {"shop": NORTH})) == (2, 2)
    north = [(NORTH, 1, 1.0), (NORTH, 2, 2.5), (NORTH, 4, 4.0)]
    south = [("south", 1, 9.0), ("south", 3, 9.0)]
    assert rows_of(store.read(table)) == [*north, *south]
    nothing = sales(spark)
    assert told(store.update(table, nothing, nothing.select("id"), {"shop": NORTH})) == (2, 0)
    more = sales(spark, (1, 1.5), (3, 3.5))
    assert told(store.update(table, more, nothing.select("id"), {"shop": NORTH})) == (3, 2)
    north = [(NORTH, 1, 1.5), (NORTH, 2, 2.5), (NORTH, 3, 3.5), (NORTH, 4, 4.0)]
    assert rows_of(store.read(table)) == [*north, *south]
    assert store.update(table, nothing, gone.where("id = 5"), {"shop": "south"}).rows == 0
    assert rows_of(store.read(table).where("shop = 'south'")) == south
    assert store.replace(table, sales(spark, (3, 7.0)), {"shop": "south"}).rows == 1
    assert rows_of(store.read(table)) == [*north, ("south", 3, 7.0)]


@pytest.mark.parametrize(("table", "num_kept"), [(SALES, 2), (BY_ROW, 4)])
def test_an_update_keeps_the_files_whose_rows_stay_and_where_rows_are_marked_all(spark, tmp_path, table, num_kept):
    store = Store(spark, str(tmp_path))
    store.replace(table, spark.range(100).selectExpr("id", "1.0d AS price").repartition(4), {"shop": "north"})
    before = take_snapshot(store.read(table), table.name, 0)
    store.update(table, sales(spark, (7, 2.0)), sales(spark, (9, 0.0)).select("id"), {"shop": "north"})
    after = take_snapshot(store.read(table), table.name, 1)
    uris = [{file.uri for file in snapshot.files} for snapshot in (before, after)]
    assert (len(uris[0]), len(uris[0] & uris[1])) == (4, num_kept)
    ids, prices = (
        [value for batch in read_batches(after, [name], 30) for value in batch.column(0).to_pylist()]
        for name in ("id", "price")
    )
    wanted = {id: 1.0 for id in range(100) if id != 9} | {7: 2.0}
    assert len(ids) == 99 and dict(zip(ids, prices, strict=True)) == wanted


def test_a_broken_rule_stops_an_update_too(spark, refused):
    (message,) = refused(
        lambda store: store.update(SALES, sales(spark, (3, -1.0)), sales(spark).select("id"), {"shop": NORTH})
    )
    assert message.startswith("table SALES: wanted every row to pass 'a price is paid'; found 1 of 1 rows")


def test_what_is_not_there_names_the_job_to_run(shops):
    def refusal(table, version=None):
        with pytest.raises(RecsysError) as raised:
            shops.read(table, version)
        return str(raised.value)

    assert not shops.root.endswith("/")
    assert refusal(STOCK) == (
        f"table STOCK: wanted a Delta table at {shops.root}/stock; found none. "
        "Run jobs/stock.py with the same `warehouse` first."
    )
    assert refusal(SALES, 9) == (
        f"table SALES, version 9: wanted a Delta table at {shops.root}/sales; found its versions end at 3. "
        "Run jobs/sell.py with the same `warehouse` first."
    )


def test_rows_that_the_stage_keeps_stay_kept_and_others_are_released(spark, tmp_path):
    store = Store(spark, str(tmp_path))

    def held():  # other tests' rows may be released meanwhile: only those that are still held say something
        return set(spark.sparkContext._jsc.getPersistentRDDs())

    kept = stock(spark, ("a", 1, 1.0), ("b", 2, 2.0)).persist()
    kept.count()
    before = held()
    store.replace(STOCK, kept.where("id = 2"), {})
    store.replace(STOCK, kept.groupBy("shop", "id").agg(F.max("price").alias("price")), {})
    with pytest.raises(RecsysError):
        store.replace(STOCK, stock(spark, ("a", 1, -1.0)), {})
    assert (held() - before, kept.storageLevel.useMemory) == (set(), True)
    kept.unpersist()
    assert rows_of(store.read(STOCK)) == [("a", 1, 1.0), ("b", 2, 2.0)]


# --- columns that were added ------------------------------------------------------------------------------------------


GROWN = replace(SALES, columns=(*SALES.columns, Column("till", "string", "where it was paid", added=True)))
"""SALES as a later release declares it."""


def with_till(spark, *rows):
    return spark.createDataFrame(list(rows), "id bigint, price double, till string")


@pytest.mark.parametrize("write", ["replace", "append", "update"])
def test_a_column_that_was_added_is_null_in_an_older_table_and_comes_with_the_next_write(spark, tmp_path, write):
    store = Store(spark, str(tmp_path))
    store.replace(SALES, sales(spark, (1, 1.0)), {"shop": "north"})
    assert rows_of(store.read(GROWN)) == [("north", 1, 1.0, None)]
    new = with_till(spark, (2, 2.0, "left"))
    if write == "replace":
        store.replace(GROWN, new, {"shop": "south"})
    elif write == "append":
        store.append(GROWN, new.withColumn("shop", F.lit("south")))
    else:
        store.update(GROWN, new, new.select("id").limit(0), {"shop": "south"})
    assert sorted(map(str, store.read(GROWN).collect())) == [
        "Row(shop='north', id=1, price=1.0, till=None)", "Row(shop='south', id=2, price=2.0, till='left')",
    ]  # fmt: skip
    with pytest.raises(RecsysError, match="table SALES, column till: wanted string; found no such column"):
        store.replace(GROWN, sales(spark, (3, 3.0)), {"shop": "east"})


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_broken_rule_leaves_the_old_slice_and_every_one_is_told(spark, refused):
    faulty = sales(spark, (1, 1.0), (1, 2.0), (None, 3.0), (4, -1.0), (5, None))
    assert refused(lambda store: store.replace(SALES, faulty, {"shop": NORTH})) == [
        f"table SALES: wanted no null key (shop, id); found 1 of 5 rows with one. {NOTHING}",
        f"table SALES: wanted no repeated key (shop, id); found 1 of 5 rows with one. {NOTHING}",
        f"table SALES: wanted every row to pass 'a price is paid'; found 2 of 5 rows that do not. {NOTHING}",
    ]


def test_rows_to_append_are_checked_too(spark, refused):
    twice = stock(spark, ("west", 1, 1.0), ("west", 1, 1.0), ("west", 1, 1.0))
    assert refused(lambda store: store.append(SALES, twice)) == [
        f"table SALES: wanted no repeated key (shop, id); found 2 of 3 rows with one. {NOTHING}"
    ]


def test_another_type_and_a_missing_column_are_errors_and_never_a_cast(spark, refused):
    other = spark.createDataFrame([(1, 1)], "id int, cost int")
    assert refused(lambda store: store.replace(SALES, other, {"shop": NORTH})) == [
        f"table SALES, column id: wanted bigint; found int. {MEND}",
        f"table SALES, column price: wanted double; found no such column. {MEND}",
    ]


def test_a_table_of_another_shape_is_neither_read_nor_replaced(spark, tmp_path):
    store = Store(spark, str(tmp_path))
    stock(spark, ("a", 1, 1.0), columns="shop string, id int, price double").write.format("delta").save(
        store.path(STOCK)
    )
    for use in (lambda: store.read(STOCK), lambda: store.replace(STOCK, stock(spark, ("b", 2, 2.0)), {})):
        with pytest.raises(RecsysError) as raised:
            use()
        assert str(raised.value) == (
            "table STOCK, column id: wanted bigint; found int. "
            f"Another release wrote {tmp_path}/stock: remove it, run jobs/stock.py."
        )


def test_a_table_of_other_partitions_is_not_replaced(spark, tmp_path):
    store = Store(spark, str(tmp_path))
    store.replace(replace(SALES, slice_by=(), partition_by=()), stock(spark, ("north", 1, 1.0)), {})
    with pytest.raises(RecsysError) as raised:
        store.replace(SALES, sales(spark, (1, 2.0)), {"shop": "north"})
    message = str(raised.value)
    assert message.startswith("table SALES: wanted partitions by shop; found ")
    assert "Partition columns do not match" in message
    assert message.endswith(f". Another release wrote {tmp_path}/sales: remove it, run jobs/sell.py.")
    assert rows_of(store.read(SALES)) == [("north", 1, 1.0)]


def test_a_file_that_breaks_while_it_is_read_is_named(spark, refused, tmp_path):
    sales(spark, (1, 1.0)).coalesce(1).write.parquet(str(tmp_path / "in"))
    rows = spark.read.parquet(str(tmp_path / "in"))
    (part,) = (tmp_path / "in").glob("part-*")
    part.write_bytes(b"no Parquet at all")
    (message,) = refused(lambda store: store.replace(SALES, rows, {"shop": NORTH}))
    assert message.startswith("table SALES: wanted rows from files that can be read; found ")
    assert part.name in message and "\n" not in message and "\tat " not in message
    assert message.endswith(" Nothing was written. Mend or remove that file, then run the job again.")


def test_a_failure_that_is_not_about_a_file_stays_what_it_is(spark, shops):
    rows = sales(spark, (1, 1.0)).withColumn("price", F.raise_error(F.lit("our own fault")).cast("double"))
    with pytest.raises(PySparkException, match="our own fault"):
        shops.replace(SALES, rows, {"shop": NORTH})
    assert shops.version(SALES) == 3


# --- the warehouse itself --------------------------------------------------------------------------------------------


def test_a_text_beside_the_tables_is_overwritten_whole(spark, tmp_path):
    store = Store(spark, str(tmp_path / "new"))
    store.write_text("report.html", "a longer text than the next")
    assert store.write_text("report.html", "Größe ✓\n") == f"{tmp_path}/new/report.html"
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == "Größe ✓\n"


def test_trying_a_warehouse_leaves_nothing_in_it_also_when_many_try_at_the_same_moment(spark, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(Store(spark, str(tmp_path / "new")).require_writable) for _ in range(64)]
    assert [each.result() for each in tries] == [None] * 64
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("root", ["FOLDER/a_file", "FOLDER/a_file/below", "nowhere://bucket/warehouse"])
def test_a_warehouse_that_cannot_be_written_is_told_with_the_cause(spark, tmp_path, root):
    (tmp_path / "a_file").touch()
    root = root.replace("FOLDER", str(tmp_path))
    with pytest.raises(RecsysError) as raised:
        Store(spark, root).require_writable()
    message = str(raised.value)
    assert message.startswith(f"warehouse {root}: wanted a folder that can be written; found ")
    assert ("No FileSystem for scheme" if "://" in root else "a_file") in message.partition("; found ")[2]
    assert message.endswith(". Set `warehouse` to a folder or URI you may write to.")


# --- contracts -------------------------------------------------------------------------------------------------------


def test_select_takes_the_columns_of_the_contract_in_their_order(spark):
    chosen = SALES.select(stock(spark, (1.0, "x", "a", 7), columns="price double, more string, shop string, id bigint"))
    assert (chosen.columns, rows_of(chosen)) == (["shop", "id", "price"], [("a", 7, 1.0)])
    assert [(field.name, field.nullable) for field in SALES.schema] == [("shop", False), ("id", False), ("price", True)]


def test_spark_understands_every_type_and_check_of_the_catalogue(spark):
    for table in TABLES:
        empty = spark.createDataFrame([], table.schema)
        assert empty.dtypes == [(column.name, column.sql_type) for column in table.columns]
        assert table.count_faults(empty).columns == ["rows", "null key", "repeated key", *table.checks]
