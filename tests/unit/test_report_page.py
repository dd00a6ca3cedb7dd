"""The page from facts written by hand: what it says, and that nothing from the data becomes markup."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from recsys_spark.report.facts import (
    BlendPoint,
    CatalogueFact,
    Facts,
    Figure,
    Histogram,
    ListedItem,
    PastEvent,
    Refusal,
    SequencesFact,
    SourceFact,
    StageFact,
    Timeline,
    TrainingFact,
    UserFact,
    Week,
)
from recsys_spark.report.markup import Markup, tag
from recsys_spark.report.page import render_page
from recsys_spark.report.svg import nice_ticks
from recsys_spark.report.words import as_sentence, count_of, duration, headline, number, share

METHODS = ("recommendations", "two_tower", "popular", "personal", "item_knn")
EVIL = "<script>alert('x')</script> & \"friends\"\x00"


def figures_of(values: dict[str, float], *, slice_name: str = "all", width: float | None = 0.01) -> list[Figure]:
    """Every metric at 10 and 20 with the same value per method; intervals are value +- width."""
    return [
        Figure(slice_name, method, metric, k, value, width and value - width, width and value + width, 2012)
        for method, value in values.items()
        for metric in ("ndcg", "recall", "precision", "mrr", "coverage")
        for k in (10, 20)
    ]


def user_of(user_id: str, *, text: str = "BROCCOLI 12 OZ") -> UserFact:
    history = tuple(PastEvent(f"2017-12-0{3 - i // 2}", "purchase", f"{text} past {i}") for i in range(4))
    listed = tuple(ListedItem(rank, f"{text} {rank}", 1 / rank, "bought twice", rank == 2) for rank in range(1, 13))
    return UserFact(user_id, 1234, 7, history, {"keep": listed, "drop": listed[:3]})


def facts_of(**changes: object) -> Facts:
    """A whole page's facts; `changes` replace single ones."""
    weeks = tuple(Week(i, f"2017-{10 + (i + 8) // 4:02d}-{1 + 7 * ((i + 8) % 4):02d}", 900 + i) for i in range(-8, 4))
    histogram = Histogram(1, 4, (5, 9, 20, 40, 0, 7))
    facts = Facts(
        run_id="main",
        made_at="2026-01-02 03:04 UTC",
        test_start="2017-12-04",
        test_end="2018-01-01",
        ks=(10, 20),
        event_types=("purchase",),
        num_users=2469,
        num_served=2400,
        sources=(
            SourceFact("events", "landing/*.csv.gz", 1_469_307, 2, (Refusal("ts cannot be read", 2, "a.csv, row 7"),)),
            SourceFact("items", "landing/products.csv.gz", 92_331, 0, ()),
        ),
        timeline=Timeline(weeks, 0, 0, "2017-12-04", 28, 28, 1, 28),
        sequences=SequencesFact(24, histogram, 7, 12.0, {"train": 300, "validation": 81, "test": 81}),
        catalogue=CatalogueFact(92_331, 92_000, 60_000, 5_000, histogram, 7, 24),
        training=TrainingFact(
            "two_tower version 3", "abc123", "validation_ndcg_20", ((1, 9.0), (2, 8.5)), ((1, 0.1), (2, 0.2))
        ),
        blends=(BlendPoint(0.0, 0.40, 1900), BlendPoint(0.2, 0.42, 1900), BlendPoint(1.0, 0.41, 1900)),
        figures=tuple(figures_of(dict(zip(METHODS, (0.42, 0.2, 0.18, 0.4, 0.21), strict=True)))),
        stages=(
            StageFact("ingest_events", "2026-01-02 03:00:00", 12.5, 2666, {"EVENTS": 0}, {"EVENTS": 1_469_307}, ()),
            StageFact("train", "2026-01-02 03:03:00", 200.0, 6000, {"MODELS": 4}, {"MODELS": 1}, ("4 epochs",)),
        ),
        users=(user_of("31"), user_of("1600")),
    )
    return dataclasses.replace(facts, **changes)


class Reader(HTMLParser):
    """Collects what a browser would see: the tags, the text, and whether every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_first_line_says_by_how_much_the_table_beats_the_best_baseline():
    assert headline(facts_of().figures, 10) == "The table beats the best baseline, personal frequency, by 5.0 %"
    assert "by 5.0 %" in read(render_page(facts_of())).text


def test_first_line_says_to_whom_the_table_loses():
    values = dict(zip(METHODS, (0.36, 0.5, 0.18, 0.4, 0.21), strict=True))
    page = render_page(facts_of(figures=tuple(figures_of(values))))
    assert "The table LOSES to personal frequency by 10.0 %" in page[: page.index("<nav>")]


def test_a_loss_on_new_items_only_is_in_the_first_line_too():
    new = dict(zip(METHODS, (0.04, 0.5, 0.05, 0.01, 0.03), strict=True))
    figures = (*facts_of().figures, *figures_of(new, slice_name="new"))
    assert headline(figures, 10).endswith("by 5.0 %, but LOSES to most popular on new items by 20.0 %")


def test_equal_to_four_decimals_is_called_equal():
    figures = figures_of({"recommendations": 0.40001, "personal": 0.40002})
    assert headline(figures, 10) == "The table only equals the best baseline, personal frequency"


def test_lists_of_new_items_only_are_judged_on_new_items():
    figures = figures_of({"recommendations": 0.06, "popular": 0.05}, slice_name="new")
    assert headline(figures, 10) == "On new items, the table beats the best baseline, most popular, by 20.0 %"


def test_overlapping_intervals_are_admitted():
    close, far = figures_of({"recommendations": 0.401, "personal": 0.4}), facts_of().figures
    assert "intervals overlap" in render_page(facts_of(figures=tuple(close)))
    assert "intervals overlap" not in render_page(facts_of(figures=tuple(figures_of({**_values(far)}, width=0.001))))


def _values(figures: tuple[Figure, ...]) -> dict[str, float]:
    return {f.method: f.value for f in figures if f.metric == "ndcg" and f.k == 10}


@pytest.mark.parametrize("with_coverage", [False, True])
def test_a_run_without_a_measured_window_still_has_its_page(with_coverage):
    left = tuple(f for f in facts_of().figures if with_coverage and f.metric == "coverage")
    text = read(render_page(facts_of(figures=left))).text
    assert "Not measured" in text and "no events from 2017-12-04 on say" in text
    assert "User 1600" in text


def test_a_run_that_did_nothing_yet_still_has_its_page():
    empty = facts_of(
        figures=(), blends=(), stages=(), users=(), training=None,
        timeline=Timeline((), 0, 0, "2017-12-04", 28, 28, 8, 28),
        sequences=SequencesFact(24, Histogram(1, 4, (0, 0)), 0, 0.0, {}),
        catalogue=CatalogueFact(0, 0, 0, 0, Histogram(1, 4, (0, 0)), 0, 24),
    )  # fmt: skip
    text = read(render_page(empty)).text
    assert "MODELS has no row of this run" in text and "holds no list of this run" in text


def test_nothing_from_the_data_becomes_markup():
    facts = facts_of(
        run_id=EVIL,
        sources=(SourceFact("events", EVIL, 1, 1, (Refusal(EVIL, 1, EVIL),)),),
        users=(user_of(EVIL, text=EVIL),),
        stages=(StageFact(EVIL, EVIL, 1.0, 1, {EVIL: 1}, {}, (EVIL,)),),
        training=TrainingFact(EVIL, EVIL, EVIL, (), ()),
        figures=tuple(figures_of({"recommendations": 0.4, "personal": 0.3, EVIL: 0.2})),
    )
    page = render_page(facts)
    reader = read(page)
    assert "script" not in reader.tags
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "\x00" not in page
    assert reader.text.count("<script>alert('x')</script> & \"friends\"") > 20


def test_every_user_stands_with_history_and_both_lists():
    text = read(render_page(facts_of())).text
    for user_id in ("31", "1600"):
        assert f"User {user_id}" in text
    assert text.count("Broccoli 12 oz past 3") == 2
    assert text.count("Broccoli 12 oz 12") == 2
    assert text.count("1 of 12 right") == 2 and text.count("1 of 3 right") == 2
    assert text.count("2 ✓") == 4


def test_every_picture_is_well_formed():
    pictures = re.findall(r"<svg.*?</svg>", render_page(facts_of()), flags=re.DOTALL)
    assert len(pictures) == 2 + 2 + 2 + 1 + 2 * 5
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        for number_text in re.findall(r' (?:x|y|width|height|cx|cy)="([^"]*)"', picture):
            assert math.isfinite(float(number_text))
        assert root.attrib["aria-label"]


def test_the_page_reaches_for_nothing_outside_itself():
    page = render_page(facts_of()).replace("http://www.w3.org/2000/svg", "")
    assert "://" not in page and "url(" not in page and "@import" not in page and " src=" not in page
    assert len(page) < 200_000


def test_a_plain_string_is_escaped_and_markup_is_not():
    assert tag("td", "a < b", Markup("<b>c</b>"), class_="n", title='"') == (
        '<td class="n" title="&quot;">a &lt; b<b>c</b></td>'
    )
    assert tag("br") == "<br>"
    assert tag("th", scope=None) == "<th></th>"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, [0, 25, 50, 75, 100]),
        (0.401, 0.4223, [0.4, 0.41, 0.42, 0.43]),
        (5, 5, [4.5, 4.75, 5.0, 5.25, 5.5]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1]),
        (float("nan"), 1, [0, 1]),
    ],
)
def test_ticks_are_round_and_cover_the_values(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_numbers_are_written_for_people():
    assert [number(1_469_307), number(2.0), number(12.34)] == ["1,469,307", "2", "12.3"]
    assert [share(1, 8), share(0, 8), share(8, 8), share(1, 10**6), share(999_999, 10**6), share(1, 0)] == [
        "12.5 %", "0 %", "100 %", "< 0.1 %", "> 99.9 %", "–",
    ]  # fmt: skip
    assert [duration(4.23), duration(185), duration(7800)] == ["4.2 s", "3 min 05 s", "2 h 10 min"]
    assert [count_of(1, "user"), count_of(2469, "user")] == ["1 user", "2,469 users"]


def test_only_texts_that_shout_are_lowered():
    assert as_sentence("KOSHER FOODS 5 OZ, HISPANIC, National") == "Kosher foods 5 oz, hispanic, national"
    assert as_sentence("iPhone 5, USB cable") == "iPhone 5, USB cable"
    assert as_sentence("42") == "42"
