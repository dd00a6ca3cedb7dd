"""Two opinions in one list: the towers' and the user's own history."""

from datetime import UTC, datetime, timedelta

import pytest

from recsys_spark.transforms.blend import best_weight, blend_candidates, measure_weights, rank_blends, reason

pytestmark = pytest.mark.spark

CUT_OFF = datetime(2017, 12, 4, tzinfo=UTC)
DAY = timedelta(days=1)
MEASURED = {"seen_rule": "keep", "as_of": CUT_OFF, "k": 2}
TOWERS = "seen_rule string, user_id string, item_id string, rank int, score double"
HISTORY = "user_id string, item_id string, score double, num_events int, last_ts timestamp, rank int"
BLENDS = "tower_weight double, score double, num_users bigint"
TRUTH = "slice string, user_id string, item_id string"

# u: the towers' list is x y z, under drop x w; the user's own items are y and o.
U_TOWERS = [
    ("keep", "u", "x", 1, -1.0), ("keep", "u", "y", 2, -2.0), ("keep", "u", "z", 3, -3.0),
    ("drop", "u", "x", 1, -1.0), ("drop", "u", "w", 2, -4.0),
]  # fmt: skip
U_HISTORY = [("u", "y", 2.0, 3, CUT_OFF - DAY, 1), ("u", "o", 1.0, 1, CUT_OFF - 40 * DAY, 2)]


@pytest.fixture
def blend(spark):
    def blended(towers, history, weights):
        return blend_candidates(
            spark.createDataFrame(towers, TOWERS),
            spark.createDataFrame(history, HISTORY),
            spark.createDataFrame([(weight,) for weight in weights], "tower_weight double"),
            as_of=CUT_OFF,
        )

    return blended


def lists(blended, list_size=10):
    """{(weight, rule, user): "x y z"}"""
    rows = rank_blends(blended, list_size=list_size).orderBy("tower_weight", "seen_rule", "user_id", "rank").collect()
    found = {}
    for r in rows:
        found.setdefault((r.tower_weight, r.seen_rule, r.user_id), []).append(r.item_id)
    return {key: " ".join(items) for key, items in found.items()}


def test_scores_are_those_worked_out_by_hand(blend):
    rows = blend(U_TOWERS, U_HISTORY, [0.5]).where("seen_rule = 'keep'").collect()
    assert {r.item_id: (pytest.approx(r.score), r.sources, r.num_events) for r in rows} == {
        "x": (0.5 * 2.1, ["towers"], None),
        "y": (2.0 + 0.5 * 1.1, ["towers", "history"], 3),
        "z": (0.5 * 0.1, ["towers"], None),
        "o": (1.0, ["history"], 1),
    }


def test_weight_0_is_counting_and_a_large_weight_is_the_towers(blend):
    found = lists(blend(U_TOWERS, U_HISTORY, [0.0, 0.5, 100.0]))
    assert found[0.0, "keep", "u"] == "y o x z"
    assert found[0.5, "keep", "u"] == "y x o z"
    assert found[100.0, "keep", "u"] == "x y z o"


def test_towers_break_ties_of_counting(blend):
    towers = [("keep", "u", "b", 1, -1.0), ("keep", "u", "c", 2, -2.0), ("keep", "u", "d", 3, -3.0)]
    history = [("u", item, 1.0, 1, CUT_OFF - DAY, 1) for item in "acb"]
    assert lists(blend(towers, history, [0.0])) == {(0.0, "keep", "u"): "b c a d"}


def test_own_items_never_enter_a_list_of_unseen_items(blend):
    found = lists(blend(U_TOWERS, U_HISTORY, [0.0, 1.0]))
    assert found[0.0, "drop", "u"] == found[1.0, "drop", "u"] == "x w"
    only_drop = [row for row in U_TOWERS if row[0] == "drop"]
    assert lists(blend(only_drop, U_HISTORY, [0.0])) == {(0.0, "drop", "u"): "x w"}


def test_a_user_known_to_one_source_only_gets_its_list(blend):
    towers = [*U_TOWERS, ("keep", "tower_only", "p", 1, -5.0), ("keep", "tower_only", "q", 2, -5.5)]
    history = [*U_HISTORY, ("history_only", "r", 0.5, 1, CUT_OFF - DAY, 1)]
    found = lists(blend(towers, history, [0.0]))
    assert found[0.0, "keep", "tower_only"] == "p q"
    assert found[0.0, "keep", "history_only"] == "r"


def test_lists_are_cut_to_their_size_and_do_not_depend_on_the_layout(blend):
    blended = blend(U_TOWERS, U_HISTORY, [0.5])
    assert lists(blended, list_size=2) == {(0.5, "keep", "u"): "y x", (0.5, "drop", "u"): "x w"}
    assert lists(blended.repartition(5, "item_id")) == lists(blended.repartition(1))


def test_a_weight_is_measured_on_what_users_chose_next(spark, blend):
    towers = [*U_TOWERS, ("keep", "v", "a", 1, -1.0)]
    truth = spark.createDataFrame([("all", "u", "x"), ("new", "u", "x"), ("all", "v", "b")], TRUTH)
    weights = spark.createDataFrame([(0.0,), (100.0,)], "tower_weight double")
    history = spark.createDataFrame(U_HISTORY, HISTORY)
    measured = measure_weights(
        spark.createDataFrame(towers, TOWERS), history, weights, truth, seen_rule="keep", as_of=CUT_OFF, k=2
    )
    assert measured.dtypes == [("tower_weight", "double"), ("score", "double"), ("num_users", "bigint")]
    # weight 0 lists y o for u: no hit; weight 100 lists x first: NDCG 1. v's list has no hit either way.
    assert {r.tower_weight: (r.score, r.num_users) for r in measured.collect()} == {0.0: (0.0, 2), 100.0: (0.5, 2)}
    assert "EvalPython" not in measured._jdf.queryExecution().toString()


def test_weights_that_cannot_be_measured_stay_with_score_0(spark):
    only_drop = spark.createDataFrame([row for row in U_TOWERS if row[0] == "drop"], TOWERS)
    weights = spark.createDataFrame([(0.0,), (0.5,)], "tower_weight double")
    truth = spark.createDataFrame([("new", "u", "x")], TRUTH)
    measured = measure_weights(
        only_drop, spark.createDataFrame(U_HISTORY, HISTORY), weights, truth, seen_rule="keep", as_of=CUT_OFF, k=2
    )
    assert {tuple(r) for r in measured.collect()} == {(0.0, 0.0, 0), (0.5, 0.0, 0)}
    assert best_weight(measured).first().tower_weight == 0.0


def test_the_best_weight_has_the_highest_score_and_counting_wins_ties(spark):
    def best(*rows):
        return [r.tower_weight for r in best_weight(spark.createDataFrame(rows, BLENDS)).collect()]

    assert best((0.0, 0.41, 9), (0.1, 0.43, 9), (1.0, 0.42, 9)) == [0.1]
    assert best((1.0, 0.4100000001, 9), (0.1, 0.41, 9), (0.0, 0.41, 9)) == [0.0]


def test_reasons_are_plain_words(spark):
    rows = [
        ("a", ["history"], 12, CUT_OFF - 3 * DAY), ("b", ["towers", "history"], 1, CUT_OFF - 1.5 * DAY),
        ("c", ["towers"], None, None), ("d", ["history"], 2, CUT_OFF - 0.2 * DAY),
    ]  # fmt: skip
    listed = spark.createDataFrame(rows, "item_id string, sources array<string>, num_events int, last_ts timestamp")
    bought = listed.withColumn("reason", reason(as_of=CUT_OFF, event_types=["purchase"]))
    assert {r.item_id: r.reason for r in bought.collect()} == {
        "a": "bought 12 times, last 3 days before the cut-off",
        "b": "bought once, last 1 day before the cut-off; fits what you chose lately",
        "c": "fits what you chose lately",
        "d": "bought 2 times, last less than a day before the cut-off",
    }
    mixed = listed.where("item_id = 'a'").withColumn("reason", reason(as_of=CUT_OFF, event_types=["view", "cart"]))
    assert mixed.first().reason == "chosen 12 times, last 3 days before the cut-off"
