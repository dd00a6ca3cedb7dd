"""One total order for every ranking, and sums that do not depend on the layout."""

import random

import pytest
from pyspark.sql import functions as F

from recsys_spark.transforms.order import exact_sum, keep_best, rank_in

pytestmark = pytest.mark.spark


def scores(spark, rows):
    return spark.createDataFrame(rows, "user_id string, item_id string, score double")


def test_ranks_by_score_downwards_then_by_item_id_upwards_in_each_partition(spark):
    rows = [("u", "b", 1.0), ("u", "a", 1.0), ("u", "c", 3.0), ("u", "d", -1.0), ("v", "b", 0.0), ("v", "10", 0.0)]
    ranked = scores(spark, rows).withColumn("rank", rank_in("user_id"))
    assert dict(ranked.dtypes)["rank"] == "int"
    assert sorted((r.user_id, r.rank, r.item_id) for r in ranked.collect()) == [
        ("u", 1, "c"), ("u", 2, "a"), ("u", 3, "b"), ("u", 4, "d"), ("v", 1, "10"), ("v", 2, "b"),
    ]  # fmt: skip


def test_ranks_the_whole_table_when_no_partition_is_named(spark):
    ranked = scores(spark, [("u", "b", 1.0), ("v", "a", 1.0), ("w", "c", 3.0)]).withColumn("rank", rank_in())
    assert {r.item_id: r.rank for r in ranked.collect()} == {"c": 1, "a": 2, "b": 3}


def test_keeps_the_best_rows_whatever_the_number_of_partitions(spark):
    draw = random.Random(1)
    rows = [(f"u{n % 3}", f"i{n:03}", float(draw.randrange(5))) for n in range(90)]
    wanted = []
    for user in ("u0", "u1", "u2"):
        best = sorted((r for r in rows if r[0] == user), key=lambda r: (-r[2], r[1]))[:7]
        wanted += [(user, rank, item) for rank, (_, item, _) in enumerate(best, start=1)]
    for num_partitions in (1, 5):
        kept = keep_best(scores(spark, rows).repartition(num_partitions), "user_id", num_rows=7)
        assert sorted((r.user_id, r.rank, r.item_id) for r in kept.collect()) == wanted


def test_exact_sums_are_equal_to_the_last_bit_in_any_order(spark):
    draw = random.Random(2)
    values = [draw.random() * 10 ** draw.randrange(-6, 3) for _ in range(500)]
    sums = set()
    for seed in range(4):
        draw.shuffle(values)
        rows = spark.createDataFrame([(value,) for value in values], "value double").repartition(seed + 1)
        sums.add(rows.agg(exact_sum(F.col("value"), digits=9).alias("total")).first().total)
    assert len(sums) == 1
    assert sums.pop() == pytest.approx(sum(values), abs=500 * 1e-9)
