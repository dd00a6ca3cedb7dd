"""Facts -> the page: one HTML text without scripts, outside files or network."""

from __future__ import annotations

from recsys_spark.evaluation.metrics import ALL, NEW
from recsys_spark.report import quality, sections
from recsys_spark.report.facts import Facts
from recsys_spark.report.markup import Markup, escape, join, tag
from recsys_spark.report.style import STYLE
from recsys_spark.report.words import (
    Duel,
    count_of,
    duration,
    find_duel,
    headline,
    memory,
    method_name,
    number,
    past_verb,
)

_PARTS = (
    ("quality", "The table against the baselines"),
    ("data", "Data in"),
    ("training", "Training and blending"),
    ("users", "Some users and their lists"),
    ("run", "The run"),
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser itself refuses whatever would leave the page."""


def render_page(facts: Facts) -> str:
    """The whole page as text."""
    bodies = (
        quality.render(facts),
        sections.render_data(facts),
        sections.render_training(facts),
        sections.render_users(facts),
        sections.render_run(facts),
    )
    parts = [
        tag("section", tag("h2", title, id=name), body) for (name, title), body in zip(_PARTS, bodies, strict=True)
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{headline(facts.figures, _main_k(facts))} · {facts.run_id}"),
        tag("style", Markup(STYLE + quality.choice_style(facts.ks))),
    )
    body = tag("body", _top(facts), tag("main", *parts, _foot(facts)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _main_k(facts: Facts) -> int:
    return facts.ks[0]


def _top(facts: Facts) -> Markup:
    k = _main_k(facts)
    line = headline(facts.figures, k)
    links = [tag("a", title, href=f"#{name}") for name, title in _PARTS]
    return tag(
        "header",
        tag("p", f"recsys_spark · run {facts.run_id} · {facts.made_at}", class_="small"),
        tag("h1", line, class_="lost" if "LOSES" in line else None),
        tag("p", *_evidence(facts, k), class_="lead"),
        tag("div", *_tiles(facts), class_="tiles"),
        tag("nav", *links),
    )


def _evidence(facts: Facts, k: int) -> list[Markup]:
    """The numbers behind the first line, in words."""
    verb = past_verb(facts.event_types)
    window = f"from {facts.test_start} until {facts.test_end}"
    written: list[Markup] = []
    for slice_name, items in ((ALL, f"everything {verb}"), (NEW, f"items never {verb} before")):
        duel = find_duel(facts.figures, slice_name, k)
        if duel is not None:
            about = f"NDCG@{k} over {items} {window}" if not written else f" Over {items}"
            written.append(join([f"{about}, {count_of(duel.model.users, 'user')}: ", _versus(duel), "."]))
    if written:
        return written
    return [escape(f"METRICS has no NDCG of this run: nothing {verb} {window} could be held against the lists.")]


def _versus(duel: Duel) -> Markup:
    """'0.4213 against 0.4082 of personal frequency; the 95\u00a0% intervals overlap'."""
    overlap = "; the 95\u00a0% intervals overlap" if duel.overlaps else ""
    baseline = f"{duel.baseline.value:.4f} of {method_name(duel.baseline.method)}"
    return join([tag("b", f"{duel.model.value:.4f}"), f" against {baseline}{overlap}"])


def _tiles(facts: Facts) -> list[Markup]:
    events = next(source for source in facts.sources if source.name == "events")
    seconds = sum(stage.seconds for stage in facts.stages)
    peak = max((stage.peak_mib for stage in facts.stages), default=0)
    tiles = (
        (number(facts.num_served), f"users with lists, of {number(facts.num_users)}"),
        (number(facts.catalogue.items), "items in the catalogue"),
        (number(events.accepted), "events accepted"),
        (number(facts.catalogue.listed), "items recommended to somebody"),
        (duration(seconds), f"in {count_of(len(facts.stages), 'stage')}"),
        (memory(peak), "peak memory"),
    )
    return [tag("div", tag("b", value), tag("span", meaning), class_="tile") for value, meaning in tiles]


def _foot(facts: Facts) -> Markup:
    text = f"Run {facts.run_id}, made {facts.made_at}. Everything on this page is in the file itself; times are UTC."
    return tag("footer", tag("p", text, class_="small"))
