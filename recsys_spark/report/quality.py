"""The table against the baselines: bars with intervals, and every figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recsys_spark.evaluation.metrics import NDCG
from recsys_spark.report.facts import METRIC_NAMES, SLICES, Facts, Figure
from recsys_spark.report.markup import Markup, tag
from recsys_spark.report.plots import methods_plot
from recsys_spark.report.words import METRIC_TITLES, count_of, method_name, order_of, past_verb


def choice_style(ks: Sequence[int]) -> str:
    """The style rules that show the figures of the chosen list length: the page needs no script."""
    return "".join(f"#at-{k}:checked ~ .at-{k} {{ display: block; }}\n" for k in ks)


def render(facts: Facts) -> Markup:
    """Panels for each list length, one shown at a time, then the full tables."""
    if not any(figure.metric == NDCG for figure in facts.figures):
        text = (
            f"METRICS holds no NDCG of run {facts.run_id}: no events from {facts.test_start} on say what users "
            "with a list did next. The lists below were made all the same. With events of those weeks, the "
            "next run measures them."
        )
        return tag("p", text, class_="card block")
    choices: list[Markup] = []
    for k in facts.ks:
        checked = "" if k == facts.ks[0] else None
        choices.append(tag("input", type="radio", name="at", id=f"at-{k}", class_="choice", checked=checked))
        choices.append(tag("label", f"first {k}", for_=f"at-{k}"))
    panels = [tag("div", *_panels(facts, k), class_=f"at at-{k}") for k in facts.ks]
    tables = [_table(facts, slice_name) for slice_name in SLICES]
    intro = (
        "Every method ranked the whole catalogue for the same users on the same day, knowing nothing from "
        f"{facts.test_start} on. Whiskers are 95\u00a0% intervals; where they overlap, the order may be chance."
    )
    return tag("div", tag("p", intro, class_="soft"), *choices, *panels, *tables)


def slice_title(slice_name: str, facts: Facts) -> str:
    verb = past_verb(facts.event_types)
    titles = {"all": f"Everything {verb}", "new": f"New items only: never {verb} before"}
    return titles.get(slice_name, slice_name)


def _panels(facts: Facts, k: int) -> Iterable[Markup]:
    for slice_name in SLICES:
        figures = [f for f in facts.figures if f.slice == slice_name and f.k == k]
        if not figures:
            continue
        yield tag("h3", slice_title(slice_name, facts))
        yield tag("p", count_of(max((f.users for f in figures if f.metric == NDCG), default=0), "user"), class_="small")
        legend = (_legend(),) if slice_name == SLICES[0] else ()
        yield tag("div", *(_panel(figures, metric, k) for metric in METRIC_NAMES), *legend, class_="panels card")


def _panel(figures: Sequence[Figure], metric: str, k: int) -> Markup:
    name = f"{METRIC_TITLES[metric]}@{k}"
    shown = [figure for figure in figures if figure.metric == metric]
    return tag("div", tag("h4", name), methods_plot(shown, f"{name} of each method") if shown else "not measured")


def _legend() -> Markup:
    meanings = (
        ("NDCG", "right items, near the top"),
        ("Recall", "share of what the user chose that is listed"),
        ("Precision", "share of the list that the user chose"),
        ("MRR", "one over the rank of the first right item"),
        ("Coverage", "share of the catalogue that is listed for anybody"),
    )
    rows = [tag("div", tag("b", name), f" · {meaning}") for name, meaning in meanings]
    return tag("div", tag("h4", "How to read"), *rows, class_="small")


def _table(facts: Facts, slice_name: str) -> Markup:
    """All figures of a slice: a row per method, a column per metric and list length."""
    figures = [f for f in facts.figures if f.slice == slice_name]
    found = {(f.method, f.metric, f.k): f for f in figures}
    methods = sorted({f.method for f in figures}, key=order_of)
    columns = [(metric, k) for metric in METRIC_NAMES for k in facts.ks]
    best = {c: max((found[m, *c].value for m in methods if (m, *c) in found), default=0.0) for c in columns}
    heads = [tag("th", "", rowspan=1)] + [
        tag("th", METRIC_TITLES[metric], colspan=len(facts.ks), class_="group") for metric in METRIC_NAMES
    ]
    lengths = [tag("th", "method")] + [
        tag("th", f"@{k}", class_="n group" if k == facts.ks[0] else "n") for _, k in columns
    ]
    rows = [
        tag("tr", tag("th", method_name(m), scope="row"),
            *(_cell(found.get((m, *c)), best[c], is_first=c[1] == facts.ks[0]) for c in columns))
        for m in methods
    ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", *heads), tag("tr", *lengths)), tag("tbody", *rows))
    title = f"All figures: {slice_title(slice_name, facts).lower()}"
    return tag("div", tag("h3", title), tag("div", table, class_="scroll figures"), class_="card block")


def _cell(figure: Figure | None, best: float, *, is_first: bool) -> Markup:
    group = " group" if is_first else ""
    if figure is None:
        return tag("td", "–", class_=f"n{group}")
    is_best = figure.value == best and best > 0
    value = f"{figure.value:.4f}"
    bounds = "" if figure.lower is None or figure.upper is None else f"{figure.lower:.3f}–{figure.upper:.3f}"
    interval = (tag("small", bounds),) if bounds else ()
    shown = tag("b", value) if is_best else value
    return tag("td", shown, *interval, class_=f"n{' best' if is_best else ''}{group}")
