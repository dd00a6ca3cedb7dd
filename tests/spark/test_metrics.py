"""Metrics worked out by hand, against a plain oracle, and their bootstrap."""

import random
from math import log2, sqrt

import pytest
from pyspark.sql import functions as F

from recsys_spark.evaluation.metrics import as_lists, coverage, per_user_metrics, summarise, truth_slices

pytestmark = pytest.mark.spark

LISTS = "method string, slice string, user_id string, item_id string, rank int"
TRUTH = "slice string, user_id string, item_id string"
PER_USER = (
    "method string, slice string, user_id string, k int, ndcg double, recall double, precision double, mrr double"
)
NAMES = ("ndcg", "recall", "precision", "mrr")


def ranked(spark, lists):
    """{(method, slice, user): "a x b"} -> rows of lists."""
    rows = [(*key, item, rank) for key, items in lists.items() for rank, item in enumerate(items.split(), start=1)]
    return spark.createDataFrame(rows, LISTS)


def true_items(spark, truth):
    return spark.createDataFrame([(*key, item) for key, items in truth.items() for item in items.split()], TRUTH)


def oracle(items, truth, k):
    hits = [rank for rank, item in enumerate(items[:k], start=1) if item in truth]
    ideal = sum(1 / log2(rank + 1) for rank in range(1, min(len(truth), k) + 1))
    ndcg = sum(1 / log2(rank + 1) for rank in hits) / ideal
    return ndcg, len(hits) / len(truth), len(hits) / k, 1 / hits[0] if hits else 0.0


def collect(per_user):
    return {(r.method, r["slice"], r.user_id, r.k): tuple(r[name] for name in NAMES) for r in per_user.collect()}


def test_metrics_of_one_list_are_those_worked_out_by_hand(spark):
    lists = ranked(spark, {("m", "all", "u"): "x a y b"})
    found = collect(per_user_metrics(lists, true_items(spark, {("all", "u"): "a b c"}), [1, 2, 4, 10]))
    half, two_fifths = 1 / log2(3), 1 / log2(5)
    assert found["m", "all", "u", 1] == (0.0, 0.0, 0.0, 0.0)
    assert found["m", "all", "u", 2] == pytest.approx((half / (1 + half), 1 / 3, 1 / 2, 1 / 2))
    full = 1 + half + 1 / 2  # three true items: the ideal list has three hits, however long it is
    assert found["m", "all", "u", 4] == pytest.approx(((half + two_fifths) / full, 2 / 3, 2 / 4, 1 / 2))
    assert found["m", "all", "u", 10] == pytest.approx(((half + two_fifths) / full, 2 / 3, 2 / 10, 1 / 2))


def test_a_user_without_a_list_counts_zero_for_every_method_and_one_without_truth_not_at_all(spark):
    lists = ranked(spark, {("m", "all", "u"): "a", ("n", "all", "v"): "b", ("n", "all", "stranger"): "a"})
    found = collect(per_user_metrics(lists, true_items(spark, {("all", "u"): "a", ("all", "v"): "b"}), [1]))
    perfect, nothing = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.0)
    assert found == {
        ("m", "all", "u", 1): perfect, ("m", "all", "v", 1): nothing,
        ("n", "all", "u", 1): nothing, ("n", "all", "v", 1): perfect,
    }  # fmt: skip


def test_slices_do_not_mix_and_a_method_is_measured_only_where_it_has_lists(spark):
    lists = ranked(spark, {("m", "all", "u"): "a b", ("m", "new", "u"): "c b", ("only_all", "all", "u"): "b"})
    found = collect(per_user_metrics(lists, true_items(spark, {("all", "u"): "a", ("new", "u"): "b"}), [2]))
    assert {key[:2]: value[3] for key, value in found.items()} == {
        ("m", "all"): 1.0, ("m", "new"): 0.5, ("only_all", "all"): 0.0,
    }  # fmt: skip


def test_equals_a_plain_oracle_on_random_lists(spark):
    draw = random.Random(3)
    lists, truth = {}, {}
    for user in range(60):
        catalogue = [f"i{n}" for n in range(draw.randrange(3, 15))]
        true = draw.sample(catalogue, draw.randrange(1, len(catalogue)))
        truth["all", f"u{user}"] = " ".join(true)
        for method in ("m", "n"):
            chosen = draw.sample(catalogue, draw.randrange(1, len(catalogue) + 1))
            lists[method, "all", f"u{user}"] = " ".join(chosen)
    found = collect(per_user_metrics(ranked(spark, lists), true_items(spark, truth), [1, 3, 10]))
    assert len(found) == 60 * 2 * 3
    for (method, slice_name, user, k), values in found.items():
        wanted = oracle(lists[method, slice_name, user].split(), set(truth[slice_name, user].split()), k)
        assert values == pytest.approx(wanted), (method, user, k)
        assert all(0 <= value <= 1 for value in values)


def test_new_truth_leaves_out_what_was_seen_and_users_with_nothing_new(spark):
    pairs = "user_id string, item_id string"
    chosen = spark.createDataFrame([("u", "a"), ("u", "a"), ("u", "b"), ("v", "a")], pairs)
    seen = spark.createDataFrame([("u", "a"), ("v", "a"), ("w", "b")], pairs)
    assert sorted(tuple(r) for r in truth_slices(chosen, seen).collect()) == [
        ("all", "u", "a"), ("all", "u", "b"), ("all", "v", "a"), ("new", "u", "b"),
    ]  # fmt: skip


def test_seen_rules_name_the_slice_they_are_measured_on(spark):
    rows = spark.createDataFrame(
        [("keep", "u", "a", 1), ("drop", "u", "b", 1)], "seen_rule string, user_id string, item_id string, rank int"
    )
    assert sorted(tuple(r) for r in as_lists(rows, method="m").collect()) == [
        ("m", "all", "u", "a", 1), ("m", "new", "u", "b", 1),
    ]  # fmt: skip


def test_summary_is_the_mean_with_an_interval_of_the_expected_width(spark):
    rows = [("m", "all", f"u{n}", 10, float(n % 2), 1.0, 0.25, 0.0) for n in range(400)]
    per_user = spark.createDataFrame(rows, PER_USER)
    summary = {r.metric: r for r in summarise(per_user, replicates=200, seed=7).collect()}
    assert sorted(summary) == sorted(NAMES)
    ndcg = summary["ndcg"]
    assert (ndcg.value, ndcg.num_users) == (0.5, 400)
    half_width = 1.96 * 0.5 / sqrt(400)  # of a mean of 400 fair coins
    assert ndcg.lower == pytest.approx(0.5 - half_width, abs=0.3 * half_width)
    assert ndcg.upper == pytest.approx(0.5 + half_width, abs=0.3 * half_width)
    # what is the same for every user has no spread
    assert (summary["precision"].lower, summary["precision"].value, summary["precision"].upper) == (0.25,) * 3


def test_summary_depends_on_the_seed_and_on_nothing_else(spark):
    draw = random.Random(5)
    rows = [(m, "all", f"u{n}", 10, draw.random(), 0.0, 0.0, 0.0) for m in "mn" for n in range(50)]
    per_user = spark.createDataFrame(rows, PER_USER)

    def summary(rows, seed):
        found = summarise(rows, replicates=50, seed=seed).where(F.col("metric") == "ndcg")
        return sorted(tuple(r) for r in found.collect())

    assert summary(per_user.repartition(7, "k", "ndcg"), 1) == summary(per_user.repartition(1), 1)
    assert summary(per_user, 1) != summary(per_user, 2)


def test_methods_are_resampled_together(spark):
    draw = random.Random(6)
    values = [(f"u{n}", draw.random() / 2) for n in range(50)]
    rows = [("m", "all", u, 10, x, 0.0, 0.0, 0.0) for u, x in values]
    rows += [("m_plus", "all", u, 10, x + 0.25, 0.0, 0.0, 0.0) for u, x in values]
    summary = summarise(spark.createDataFrame(rows, PER_USER), replicates=50, seed=1).where("metric = 'ndcg'")
    m, m_plus = sorted(summary.collect(), key=lambda r: r.method)
    assert (m_plus.lower - m.lower, m_plus.upper - m.upper) == pytest.approx((0.25, 0.25), abs=1e-8)


def test_coverage_is_the_share_of_the_catalogue_in_anybodys_list(spark):
    lists = ranked(spark, {("m", "all", "u"): "a b c", ("m", "all", "v"): "b d", ("n", "all", "u"): "a"})
    items = spark.createDataFrame([(item,) for item in "abcdefgh"], "item_id string")
    found = {(r.method, r.k): (r.value, r.lower, r.num_users) for r in coverage(lists, items, [1, 3]).collect()}
    assert found == {
        ("m", 1): (2 / 8, None, 2), ("m", 3): (4 / 8, None, 2), ("n", 1): (1 / 8, None, 1), ("n", 3): (1 / 8, None, 1),
    }  # fmt: skip


def test_summary_and_coverage_have_the_same_columns(spark):
    lists, truth = ranked(spark, {("m", "all", "u"): "a"}), true_items(spark, {("all", "u"): "a"})
    items = spark.createDataFrame([("a",)], "item_id string")
    per_user = per_user_metrics(lists, truth, [1])
    both = summarise(per_user, replicates=1, seed=1).unionByName(coverage(lists, items, [1]))
    assert both.dtypes == [
        ("slice", "string"), ("method", "string"), ("metric", "string"), ("k", "int"), ("value", "double"),
        ("lower", "double"), ("upper", "double"), ("num_users", "bigint"),
    ]  # fmt: skip
    assert "EvalPython" not in both._jdf.queryExecution().toString()
