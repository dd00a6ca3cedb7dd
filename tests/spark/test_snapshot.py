"""A snapshot lists the files of one Delta version: stale files and deleted rows are not read."""

from pathlib import Path

import pytest
from pyspark.sql import functions as F

from recsys_spark.bridges.snapshot import read_batches, require_whole, take_snapshot
from recsys_spark.errors import RecsysError

pytestmark = pytest.mark.spark


def numbers(spark, start, stop, files=3):
    return spark.range(start, stop, numPartitions=files).withColumn("part", (F.col("id") % 2).cast("string"))


def at_version(spark, path, version):
    return spark.read.format("delta").option("versionAsOf", version).load(path)


def read_ids(snapshot):
    return sorted(n for batch in read_batches(snapshot, ["id"], 4) for n in batch.to_pydict()["id"])


@pytest.fixture
def path(spark, tmp_path):
    """A table in a folder with a space and a percent sign: 0–19, then 10–14 deleted, then overwritten by
    50–54."""
    path = str(tmp_path / "a table 50%")
    numbers(spark, 0, 20).write.format("delta").partitionBy("part").save(path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id BETWEEN 10 AND 14")
    numbers(spark, 50, 55).write.format("delta").mode("overwrite").save(path)
    return path


@pytest.mark.parametrize(
    "version, wanted", [(0, [*range(20)]), (1, [*range(10), *range(15, 20)]), (2, [*range(50, 55)])]
)
def test_reads_exactly_the_rows_of_each_version(spark, path, version, wanted):
    snapshot = take_snapshot(at_version(spark, path, version), "NUMBERS", version)
    assert read_ids(snapshot) == wanted
    assert (snapshot.table, snapshot.version, snapshot.rows) == ("NUMBERS", version, len(wanted))
    assert list(snapshot.files) == sorted(snapshot.files, key=lambda file: file.uri)
    assert len(snapshot.files) < len(list(Path(path).rglob("*.parquet")))


def test_one_partition_after_a_select(spark, path):
    rows = at_version(spark, path, 1).select("part", "id").where(F.col("part") == "1")
    assert read_ids(take_snapshot(rows, "NUMBERS", 1)) == [1, 3, 5, 7, 9, 15, 17, 19]


def test_partition_values_with_spaces_and_percents(spark, tmp_path):
    path = str(tmp_path / "t")
    rows = spark.createDataFrame([(1, "a b"), (2, "50%/x"), (3, "c=1")], "id bigint, part string")
    rows.write.format("delta").partitionBy("part").save(path)
    for number, part in [(1, "a b"), (2, "50%/x"), (3, "c=1")]:
        snapshot = take_snapshot(at_version(spark, path, 0).where(F.col("part") == part), "T", 0)
        assert read_ids(snapshot) == [number]


def test_no_rows_are_no_files(spark, path):
    snapshot = take_snapshot(at_version(spark, path, 2).where("part = 'none'"), "NUMBERS", 2)
    assert snapshot.files == () and snapshot.rows == 0 and read_ids(snapshot) == []


@pytest.mark.parametrize("vectors", ["false", "true"])
def test_files_come_in_the_order_of_their_rows_when_that_is_asked_for(spark, tmp_path, vectors):
    """Delta's random prefixes make the order of names one of chance; six files fall into that of their rows rarely."""
    path = str(tmp_path / "t")
    writer = numbers(spark, 0, 60, files=6).write.format("delta").option("delta.randomizeFilePrefixes", "true")
    writer.option("delta.enableDeletionVectors", vectors).save(path)
    rows = at_version(spark, path, 0)
    ordered = take_snapshot(rows, "NUMBERS", 0, order_by="id")
    assert [n for batch in read_batches(ordered, ["id"], 7) for n in batch.to_pydict()["id"]] == [*range(60)]
    by_name = take_snapshot(rows, "NUMBERS", 0)
    assert sorted(by_name.files, key=lambda file: file.uri) == list(by_name.files)
    assert {*by_name.files} == {*ordered.files}


@pytest.mark.parametrize("gone", ["id = 3", "id = 19", "id BETWEEN 5 AND 90", "id % 3 = 0", "id > 3", "id < 100"])
def test_rows_that_a_deletion_vector_took_away_are_not_read(spark, tmp_path, gone):
    path = str(tmp_path / "vectors")
    writer = numbers(spark, 0, 200, files=2).write.format("delta").option("delta.enableDeletionVectors", "true")
    writer.save(path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE {gone}")
    rows = at_version(spark, path, 1)
    wanted = sorted(row.id for row in rows.collect())
    snapshot = take_snapshot(rows, "NUMBERS", 1)
    assert read_ids(snapshot) == wanted and snapshot.rows == len(wanted) < 200
    if len(wanted) > 100:  # some of each file
        with pytest.raises(RecsysError, match=r"found 100 rows in the file.*Deletion vectors"):
            require_whole(snapshot.files)
    assert read_ids(take_snapshot(at_version(spark, path, 0), "NUMBERS", 0)) == [*range(200)]


def test_a_filter_on_a_column_of_the_files_is_refused(spark, tmp_path):
    path = str(tmp_path / "one_file")
    numbers(spark, 50, 55, files=1).write.format("delta").save(path)
    snapshot = take_snapshot(at_version(spark, path, 0).where("id > 50"), "NUMBERS", 0)
    with pytest.raises(RecsysError, match=r"wanted 4 rows.*found 5 rows.*no partition column"):
        read_ids(snapshot)
