"""Popularity, counting and item-kNN: worked out by hand, against a plain oracle, and blind to the future."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from math import exp, log1p, sqrt

import pytest

from recsys_spark.config import EvaluateConfig
from recsys_spark.evaluation.baselines import (
    baseline_lists,
    fill_lists,
    heaviest_items,
    item_knn_scores,
    personal_scores,
    popular_lists,
    popularity,
)
from recsys_spark.transforms.history import decayed_counts

pytestmark = pytest.mark.spark

CUT_OFF = datetime(2017, 12, 4, tzinfo=UTC)
DAY = timedelta(days=1)
SETTINGS = EvaluateConfig(
    ks=[2, 4], popular_days=30, personal_decay_days=120, knn_history=4, knn_neighbours=3, bootstrap_replicates=1
)

# Recent buys: a 3, b 2, c 1 and d 1; d also sold long ago, e only then.
SHOP = [
    ("u", "a", 1), ("u", "a", 2), ("v", "a", 3), ("u", "b", 1), ("v", "b", 4), ("v", "c", 5), ("w", "d", 6),
    ("w", "d", 90), ("w", "e", 100),
]  # fmt: skip


def events(spark, rows):
    """(user, item, days before the cut-off) -> events."""
    full = [(user, item, CUT_OFF - age * DAY) for user, item, age in rows]
    return spark.createDataFrame(full, "user_id string, item_id string, ts timestamp")


def users(spark, *names):
    return spark.createDataFrame([(name,) for name in names], "user_id string")


def as_text(lists):
    """{(method, slice, user): "a b c"}, after checking that ranks are 1, 2, 3, …"""
    found = defaultdict(list)
    for r in sorted(lists.collect(), key=lambda r: r.rank):
        found[r.method, r["slice"], r.user_id].append(r.item_id)
        assert r.rank == len(found[r.method, r["slice"], r.user_id])
    return {key: " ".join(items) for key, items in found.items()}


def popular(spark, rows, *names, list_size=4):
    shop = events(spark, rows)
    return popular_lists(popularity_of(shop), counts_of(shop), users(spark, *names), list_size=list_size)


def popularity_of(shop):
    return popularity(shop, as_of=CUT_OFF, popular_days=30)


def counts_of(shop, decay_days=120):
    return decayed_counts(shop, as_of=CUT_OFF, decay_days=decay_days)


def some_events(num_users=12, num_items=16, num_events=250):
    draw = random.Random(9)
    return [
        (
            f"u{draw.randrange(num_users)}",
            f"i{min(draw.randrange(num_items), draw.randrange(num_items)):02}",
            draw.randrange(1, 2000) / 10,
        )
        for _ in range(num_events)
    ]


def test_popular_counts_recent_events_and_older_ones_break_ties(spark):
    found = as_text(popular(spark, SHOP, "u", "w", "stranger", list_size=9))
    assert found["popular", "all", "u"] == found["popular", "all", "stranger"] == "a b d c e"
    assert found["popular", "new", "u"] == "d c e"
    assert found["popular", "new", "w"] == "a b c"
    assert found["popular", "new", "stranger"] == "a b d c e"
    assert {user for _, _, user in found} == {"u", "w", "stranger"}


def test_new_lists_are_full_however_many_popular_items_a_user_has_seen(spark):
    rows = [(f"v{user}", f"i{item:03}", 1) for item in range(200) for user in range(5 if item < 190 else 1)]
    heavy = [("heavy", f"i{item:03}", 1) for item in range(190)]
    found = as_text(popular(spark, rows + heavy, "heavy", list_size=4))
    assert found["popular", "new", "heavy"] == "i190 i191 i192 i193"


def test_personal_is_own_counts_then_popularity(spark):
    rows = [*SHOP, ("u", "c", 300), ("x", "b", 7), ("x", "d", 7), ("x", "e", 7)]
    shop, people = events(spark, rows), users(spark, "u", "x", "stranger")
    scores = personal_scores(counts_of(shop), popularity_of(shop), people)
    filler = popular(spark, rows, "u", "x", "stranger")
    found = as_text(fill_lists(scores, filler, method="personal", list_size=4))
    assert found["personal", "all", "u"] == "a b c d"  # c: once, long ago, and still before what u never had
    assert found["personal", "all", "x"] == "b d e a"  # b, d, e: one basket, ordered by popularity
    assert found["personal", "all", "stranger"] == "a b d c"
    assert found["personal", "new", "u"] == "d e"  # counting has no opinion on new items


def knn_oracle(rows, *, decay_days, knn_history, knn_neighbours, shrinkage=5.0):
    """{(slice, user, item): score} by the definition, in plain Python."""
    counts = defaultdict(float)
    for user, item, age in rows:
        counts[user, item] += exp(-age / decay_days)
    norms = defaultdict(float)
    for (_, item), count in counts.items():
        norms[item] += log1p(count) ** 2
    profiles = defaultdict(dict)
    for (user, item), count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0][1])):
        if len(profiles[user]) < knn_history:
            profiles[user][item] = log1p(count)
    similar = {}
    for one in norms:
        pairs = []
        for two in set(norms) - {one}:
            both = [p for p in profiles.values() if one in p and two in p]
            if len(both) > 1:
                dot = sum(p[one] * p[two] for p in both)
                pairs.append((-dot / (sqrt(norms[one]) * sqrt(norms[two]) + shrinkage), two))
        similar[one] = sorted(pairs)[:knn_neighbours]
    scores = defaultdict(float)
    for user, profile in profiles.items():
        for one, weight in profile.items():
            for minus_similarity, two in similar[one]:
                scores["all", user, two] -= weight * minus_similarity
                if (user, two) not in counts:
                    scores["new", user, two] -= weight * minus_similarity
    return scores


@pytest.mark.parametrize("knn_history, knn_neighbours", [(100, 100), (5, 3)])
def test_item_knn_equals_a_plain_oracle(spark, knn_history, knn_neighbours):
    bounds = {"knn_history": knn_history, "knn_neighbours": knn_neighbours}
    rows = some_events()
    people = users(spark, *{user for user, _, _ in rows})
    found = item_knn_scores(counts_of(events(spark, rows), decay_days=60), people, **bounds).collect()
    wanted = knn_oracle(rows, decay_days=60, **bounds)
    assert len(found) == len(wanted) > 50
    assert {slice_name for slice_name, _, _ in wanted} == {"all", "new"}
    for r in found:
        assert r.score == pytest.approx(wanted[r["slice"], r.user_id, r.item_id], abs=1e-6)


def test_lists_longer_than_the_catalogue_hold_all_that_was_chosen(spark):
    shop = events(spark, SHOP)
    found = as_text(
        baseline_lists(popularity_of(shop), counts_of(shop), users(spark, "u", "x"), list_size=20, settings=SETTINGS)
    )
    assert {key: sorted(text.split()) for key, text in found.items()} == {
        (method, part, user): [*("cde" if (part, user) == ("new", "u") else "abcde")]
        for method in ("popular", "personal", "item_knn")
        for part in ("all", "new")
        for user in ("u", "x")
    }


def test_a_heavy_user_costs_no_more_than_knn_history_items(spark):
    rows = [("heavy", f"i{n}", 1 + n) for n in range(300)] + [("light", "i7", 1)]
    kept = heaviest_items(counts_of(events(spark, rows)), knn_history=10).collect()
    assert {r.item_id for r in kept if r.user_id == "heavy"} == {f"i{n}" for n in range(10)}
    assert len(kept) == 11


def test_lists_are_full_and_new_ones_unseen_and_neither_the_future_nor_the_layout_changes_them(spark):
    past = some_events()
    people = users(spark, "u1", "u2", "u3", "stranger")

    def lists(shop):
        return baseline_lists(popularity_of(shop), counts_of(shop), people, list_size=4, settings=SETTINGS)

    future = [(f"u{n % 5}", f"i{n % 3:02}", -n / 10) for n in range(100)] + [("u1", "unheard_of", 0)]
    known = lists(events(spark, past))
    found = as_text(known)
    assert len(found) == 3 * 2 * 4
    assert as_text(lists(events(spark, past + future).repartition(5))) == found
    assert "EvalPython" not in known._jdf.queryExecution().toString()

    seen = {(user, item) for user, item, _ in past}
    num_items = len({item for _, item in seen})
    for (_, slice_name, user), text in found.items():
        items = text.split()
        num_unseen = num_items - sum(1 for who, _ in seen if who == user)
        assert len(set(items)) == len(items) == (4 if slice_name == "all" else min(4, num_unseen))
        assert slice_name == "all" or not {(user, item) for item in items} & seen
