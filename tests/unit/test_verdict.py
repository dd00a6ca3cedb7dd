"""The first line a user reads of a run's quality."""

from recsys_spark.evaluation.verdict import judge


def figures(slice_name, k=10, **values):
    return [
        {"slice": slice_name, "method": method, "metric": "ndcg", "k": k, "value": value}
        for method, value in values.items()
    ]


def test_names_the_next_best_baseline_of_each_slice():
    rows = figures("all", recommendations=0.42, popular=0.1, personal=0.4) + figures(
        "new", recommendations=0.05, popular=0.01, item_knn=0.04
    )
    assert judge(rows) == (
        "Beats every baseline, personal is next, on all items: NDCG@10 0.4200 against 0.4000. "
        "Beats every baseline, item_knn is next, on items new to the user: NDCG@10 0.0500 against 0.0400."
    )


def test_losing_on_new_items_alone_comes_before_what_was_won():
    rows = figures("all", recommendations=0.42, personal=0.4) + figures("new", recommendations=0.03, item_knn=0.04)
    assert judge(rows) == (
        "LOSES to the baseline item_knn on items new to the user: NDCG@10 0.0300 against 0.0400. "
        "Beats every baseline, personal is next, on all items: NDCG@10 0.4200 against 0.4000."
    )


def test_losing_twice_is_said_twice():
    rows = figures("all", recommendations=0.2, personal=0.4) + figures("new", recommendations=0.03, popular=0.04)
    assert judge(rows).count("LOSES") == 2 and "Beats" not in judge(rows)


def test_the_two_towers_alone_are_no_baseline():
    assert judge(figures("all", recommendations=0.3, two_tower=0.5, popular=0.1)).startswith("Beats every baseline")


def test_only_the_slice_that_has_lists_is_judged():
    rows = figures("all", popular=0.5, personal=0.6) + figures("new", recommendations=0.2, popular=0.1)
    assert judge(rows).endswith("on items new to the user: NDCG@10 0.2000 against 0.1000.")
    assert "all items" not in judge(rows)


def test_the_shortest_list_counts_and_equal_is_neither_lost_nor_won():
    rows = figures("all", 20, recommendations=0.1, popular=0.9) + figures("all", 10, recommendations=0.3, popular=0.3)
    assert judge(rows) == "Equals the baseline popular on all items: NDCG@10 0.3000 against 0.3000."


def test_without_figures_nothing_is_claimed():
    coverage = [{"slice": "all", "method": "recommendations", "metric": "coverage", "k": 10, "value": 0.5}]
    assert judge([]).startswith("NOT EVALUATED")
    assert judge(coverage).startswith("NOT EVALUATED")
