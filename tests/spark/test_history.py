"""What a user did before a cut-off, and how much of it still counts."""

from datetime import UTC, datetime, timedelta, timezone
from math import exp

import pytest
from pyspark.sql import functions as F

from recsys_spark.transforms.history import (
    before,
    decayed_counts,
    may_repeat,
    of_types,
    seen_items,
    within,
)
from recsys_spark.transforms.order import keep_best

pytestmark = pytest.mark.spark

CUT_OFF = datetime(2017, 12, 4, tzinfo=UTC)
DAY = timedelta(days=1)
MICRO = timedelta(microseconds=1)


def events(spark, rows):
    """(user, item, how long before the cut-off[, type]) -> EVENTS columns."""
    full = [(user, item, CUT_OFF - age, *(kind or ["purchase"])) for user, item, age, *kind in rows]
    return spark.createDataFrame(full, "user_id string, item_id string, ts timestamp, event_type string")


def test_the_cut_off_itself_is_future_and_the_window_is_half_open(spark):
    rows = events(spark, [("u", "past", MICRO), ("u", "now", 0 * DAY), ("u", "late", -DAY), ("u", "end", -2 * DAY)])
    assert [r.item_id for r in before(rows, CUT_OFF).collect()] == ["past"]
    assert [r.item_id for r in within(rows, CUT_OFF, CUT_OFF + 2 * DAY).collect()] == ["now", "late"]


def test_a_cut_off_in_another_zone_is_the_same_moment(spark):
    in_india = CUT_OFF.astimezone(timezone(timedelta(hours=5, minutes=30)))
    rows = events(spark, [("u", "past", MICRO), ("u", "now", 0 * DAY)])
    assert [r.item_id for r in before(rows, in_india).collect()] == ["past"]


def test_only_the_asked_types_and_each_pair_once(spark):
    rows = events(spark, [("u", "a", DAY), ("u", "a", 2 * DAY), ("u", "b", DAY, "view"), ("v", "a", DAY, "cart")])
    assert {(r.user_id, r.item_id) for r in of_types(rows, ["purchase", "cart"]).collect()} == {("u", "a"), ("v", "a")}
    assert sorted(tuple(r) for r in seen_items(rows).collect()) == [("u", "a"), ("u", "b"), ("v", "a")]


def test_counts_decay_by_e_per_decay_days_and_the_future_adds_nothing(spark):
    rows = events(
        spark,
        [("u", "a", 10 * DAY), ("u", "a", 20 * DAY), ("u", "b", 5 * DAY), ("u", "a", 0 * DAY), ("u", "z", -DAY)],
    )
    counts = {r.item_id: r for r in decayed_counts(rows, as_of=CUT_OFF, decay_days=10).collect()}
    assert sorted(counts) == ["a", "b"]
    assert counts["a"].score == pytest.approx(exp(-1) + exp(-2), abs=1e-11)
    assert counts["b"].score == pytest.approx(exp(-0.5), abs=1e-11)
    assert (counts["a"].num_events, counts["b"].num_events) == (2, 1)
    # Spark hands timestamps back without a zone, in the zone of this machine.
    assert counts["a"].last_ts.astimezone(UTC) == CUT_OFF - 10 * DAY


def test_candidates_are_the_heaviest_items_and_ties_go_by_item_id(spark):
    ages = {"c": [3], "a": [3], "b": [3], "often": [40, 41, 42], "old": [400]}
    rows = events(spark, [("u", item, age * DAY) for item, all_ages in ages.items() for age in all_ages])
    counts = decayed_counts(rows, as_of=CUT_OFF, decay_days=120)
    best = keep_best(counts, "user_id", num_rows=4).orderBy("rank").collect()
    assert [(r.rank, r.item_id) for r in best] == [(1, "often"), (2, "a"), (3, "b"), (4, "c")]


def test_seen_rules_say_after_how_many_days_an_item_may_come_back(spark):
    rules = ["keep", "drop", "drop for 30 days", "drop for 1 days"]
    rows = spark.createDataFrame(
        [(rule, days) for rule in rules for days in (None, 0.5, 29.99, 30.0)], "seen_rule string, days double"
    )
    found = {}
    for row in rows.withColumn("may", may_repeat("seen_rule", F.col("days"))).collect():
        found.setdefault(row.seen_rule, []).append(row.may)
    assert found == {
        "keep": [True, True, True, True],
        "drop": [True, False, False, False],
        "drop for 30 days": [True, False, False, True],
        "drop for 1 days": [True, False, True, True],
    }
