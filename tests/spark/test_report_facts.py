"""What the report says of a small warehouse whose figures are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from recsys_spark.report import gather_facts, render_page
from recsys_spark.report.facts import BlendPoint, Histogram, Refusal
from recsys_spark.report.gather import thin_out
from recsys_spark.report.samples import choose_users
from tests.small_warehouse import config_of, write_small_warehouse

pytestmark = pytest.mark.spark


def curve(run_id: str, metric: str) -> list[tuple[int, float]]:
    assert run_id == "tracked"
    return {"train_loss": [(1, 2.0), (2, 1.0)], "validation_ndcg_20": [(1, 0.2)]}[metric]


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    root = str(tmp_path_factory.mktemp("report") / "warehouse")
    return SimpleNamespace(store=write_small_warehouse(spark, root), config=config_of(root))


@pytest.fixture(scope="module")
def facts(world):
    return gather_facts(world.store.read, config=world.config, curve=curve)


def test_rows_in_and_reasons(facts):
    events, items = facts.sources
    assert (events.read, events.accepted, events.rejected) == (12, 11, 1)
    example = 'events.csv, row 7: {"user": "<i>"}'
    assert events.refusals == (Refusal("item_id is missing", 1, example), Refusal("ts is missing", 1, example))
    assert (items.accepted, items.rejected, items.refusals) == (6, 0, ())


def test_weeks_count_from_the_test_window_and_leave_no_gap(facts):
    weeks = {week.number: week for week in facts.timeline.weeks}
    assert list(weeks) == list(range(-58, 6))
    assert weeks[-1].events == 5 and weeks[-1].start == "2020-05-25"
    assert weeks[0].events == 4 and weeks[5].events == 1 and weeks[1].events == 0
    assert sum(week.events for week in facts.timeline.weeks) == 11


def test_histograms_and_catalogue(facts):
    assert facts.sequences.lengths == Histogram(1, 1, (1, 0, 0, 1))
    assert (facts.sequences.full, facts.sequences.median) == (1, 2.5)
    assert facts.sequences.rows == {"validation": 1, "test": 2}
    catalogue = facts.catalogue
    assert (catalogue.items, catalogue.with_text, catalogue.chosen, catalogue.listed) == (6, 5, 4, 5)
    assert catalogue.tokens == Histogram(1, 1, (0, 1, 1, 1, 1, 0, 1, 0))


def test_only_the_run_asked_for(facts):
    assert (facts.num_users, facts.num_served) == (3, 2)
    assert len(facts.figures) == 5 * 5 * 2 and max(figure.value for figure in facts.figures) == 0.4
    assert facts.blends == (BlendPoint(0.0, 0.30, 3), BlendPoint(0.2, 0.35, 3))
    assert facts.training.loss == ((1, 2.0), (2, 1.0)) and facts.training.validation == ((1, 0.2),)


def test_the_latest_record_of_each_stage_counts(facts):
    assert [(s.name, s.seconds, s.notes) for s in facts.stages] == [
        ("ingest_events", 2.5, ("new",)),
        ("train", 9.0, ()),
    ]
    assert facts.stages[0].finished == "2020-05-31 22:00:00"


def test_users_with_their_past_their_lists_and_what_came_true(facts):
    second, first = facts.users
    assert (second.user_id, second.num_events, second.num_chosen) == ("u2", 1, 0)
    assert (first.user_id, first.num_events, first.num_chosen) == ("u1", 5, 2)
    assert [(event.day, event.text) for event in first.history] == [
        ("2020-05-31", "apple juice"), ("2020-05-30", "apple juice"), ("2020-05-29", "brown bread"),
    ]  # fmt: skip
    assert list(first.lists) == ["keep", "drop"]
    assert [(item.text, item.is_hit) for item in first.lists["keep"]] == [
        ("apple juice", False), ("brown bread", True), ("figs <b>fresh</b>", False),
    ]  # fmt: skip
    assert [(item.text, item.is_hit) for item in first.lists["drop"]] == [("cheese", True), ("item e", False)]


def test_the_page_of_the_small_warehouse(facts):
    page = render_page(facts)
    assert "The table beats the best baseline, personal frequency, by 25.0 %" in page
    assert "figs &lt;b&gt;fresh&lt;/b&gt;" in page and "<i>" not in page.replace('<i style="', "")


def test_a_run_that_never_was_has_a_page_that_says_so(world):
    config = config_of(world.store.root, "run.id=nobody")
    facts = gather_facts(world.store.read, config=config, curve=curve)
    assert (facts.stages, facts.users, facts.figures, facts.blends) == ((), (), (), ())
    page = render_page(facts)
    assert "Not measured" in page and "MODELS has no row of this run" in page


def test_users_are_spread_over_sizes_and_always_the_same(spark):
    events = spark.createDataFrame([(f"u{n:02d}",) for n in range(30) for _ in range(n + 1)], "user_id string")
    lists = spark.createDataFrame([(f"u{n:02d}",) for n in range(1, 30)], "user_id string")
    chosen = choose_users(lists, events, num_users=5)
    sizes = [size for _, size in chosen]
    assert [sum(low < size <= low + 6 for size in sizes) for low in (0, 6, 12, 18, 24)] == [1] * 5
    assert chosen == choose_users(lists.repartition(7), events.repartition(3), num_users=5)
    assert all(f"u{size - 1:02d}" == name for name, size in chosen)


@pytest.mark.parametrize(("num_users", "found"), [(1, 1), (4, 4), (9, 5)])
def test_users_of_one_size_fill_the_places(spark, num_users, found):
    events = spark.createDataFrame([(f"u{n}",) for n in range(5)], "user_id string")
    chosen = choose_users(events, events, num_users=num_users)
    assert len(chosen) == found == len(set(chosen))


def test_a_long_curve_is_thinned_to_means():
    assert thin_out([(1, 1.0), (2, 3.0), (3, 5.0)], most=2) == ((2, 2.0), (3, 5.0))
    assert thin_out([(1, 1.0), (2, 3.0)], most=2) == ((1, 1.0), (2, 3.0))
    assert thin_out([], most=2) == ()
