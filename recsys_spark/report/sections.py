"""The other parts of the page: data in, training and blending, some users, the run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from recsys_spark.report.facts import Facts, ListedItem, PastEvent, SourceFact, UserFact
from recsys_spark.report.markup import Markup, tag
from recsys_spark.report.plots import NARROW, WIDE, blend_plot, curve_plot, histogram_plot, timeline_plot
from recsys_spark.report.words import as_sentence, count_of, duration, memory, number, past_verb, share

_SHOWN = 10
"""Places of a list that show at once; the others unfold."""


def card(title: str, *parts: str, note: str = "") -> Markup:
    notes = (tag("p", note, class_="small"),) if note else ()
    return tag("div", tag("h3", title), *notes, *parts, class_="card")


def meter(part: float, whole: float, kind: str = "") -> Markup:
    """A bar that is part / whole full."""
    percent = 100 * part / whole if whole else 0.0
    return tag("span", tag("i", style=f"width:{percent:.2f}%"), class_=f"meter {kind}".strip())


# --- data ------------------------------------------------------------------------------------------------------------


def render_data(facts: Facts) -> Markup:
    timeline, sequences = facts.timeline, facts.sequences
    far = f" Not drawn: {count_of(timeline.earlier, 'event')} before and {number(timeline.later)} after."
    weeks = (
        f"Lists are made as of {timeline.test_start}. Everything a model or a baseline learnt lies before it; the "
        f"blend was chosen on the window before it.{far if timeline.earlier or timeline.later else ''}"
    )
    rows = ", ".join(f"{number(sequences.rows.get(name, 0))} {name}" for name in ("train", "validation", "test"))
    lengths = (
        f"Events per user as of {facts.test_start}: median {number(sequences.median)}; "
        f"{share(sequences.full, sum(sequences.lengths.counts))} have {number(sequences.max_events)} or more, "
        f"of which the last {number(sequences.max_events)} count. Rows: {rows}."
    )
    plot = histogram_plot(sequences.lengths, title="Sequence lengths", unit="events", of="user")
    weeks_plots = (timeline_plot(timeline, WIDE), timeline_plot(timeline, NARROW))
    return tag(
        "div",
        tag("div", card("Rows read, accepted, refused", _sources(facts)), class_="block"),
        tag("div", card("Events per week", *weeks_plots, note=weeks), class_="block"),
        tag("div", card("Sequence lengths", plot, note=lengths), _catalogue(facts), _tokens(facts), class_="grid"),
    )


def _sources(facts: Facts) -> Markup:
    heads = [tag("th", "source"), *(tag("th", name, class_="n") for name in ("read", "accepted", "refused"))]
    rows = [row for source in facts.sources for row in _source_rows(source)]
    return tag("div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)), class_="scroll")


def _source_rows(source: SourceFact) -> list[Markup]:
    """The counts of a source, then each reason of refusal with a row it refused."""
    counts = [tag("td", number(count), class_="n") for count in (source.read, source.accepted)]
    name = tag("th", tag("b", source.name), scope="row")
    rows = [
        tag("tr", name, *counts, _refused(source.rejected, source.read), class_="head"),
        tag("tr", tag("td", tag("code", source.place), colspan=4)),
    ]
    for refusal in source.refusals:
        reason = tag("td", refusal.reason, colspan=3)
        rows.append(tag("tr", reason, _refused(refusal.rows, source.read), class_="head"))
        rows.append(tag("tr", tag("td", tag("code", refusal.example), colspan=4)))
    return rows


def _refused(rows: int, read: int) -> Markup:
    return tag("td", number(rows), *((tag("small", share(rows, read)),) if rows else ()), class_="n")


def _catalogue(facts: Facts) -> Markup:
    items = facts.catalogue
    verb = past_verb(facts.event_types)
    lines = (
        ("with a text", items.with_text, ""),
        (f"{verb} by anybody before {facts.test_start}", items.chosen, "grey"),
        ("recommended to somebody", items.listed, "green"),
    )
    parts: list[Markup] = []
    for name, count, kind in lines:
        counted = tag("dd", tag("b", number(count)), f" · {share(count, items.items)}")
        parts.extend((tag("dt", name), counted, meter(count, items.items, kind)))
    missing = items.items - items.with_text
    note = f"{count_of(items.items, 'item')}, {number(missing) if missing else 'none'} without a text."
    return card("The catalogue", tag("dl", *parts), note=note)


def _tokens(facts: Facts) -> Markup:
    items = facts.catalogue
    note = f"Tokens per item text, at most {number(items.max_tokens)}; {share(items.full, items.items)} fill the width."
    return card("Text lengths", histogram_plot(items.tokens, title="Text lengths", unit="tokens", of="item"), note=note)


# --- training --------------------------------------------------------------------------------------------------------


def render_training(facts: Facts) -> Markup:
    cards = []
    if facts.training is None:
        cards.append(card("No model", "MODELS has no row of this run."))
    else:
        training = facts.training
        k = training.metric.rsplit("_", 1)[-1]
        loss = curve_plot(training.loss, title="Training loss per step", unit="step", marks=False)
        ndcg = curve_plot(training.validation, title="Validation NDCG per epoch", unit="epoch", marks=True)
        cards.append(card("Training loss", loss, note=f"Sampled softmax, {training.model}."))
        note = "The two towers alone, whole catalogue; the best epoch is kept."
        cards.append(card(f"Validation NDCG@{k}", ndcg, note=note))
    users = facts.blends[0].users if facts.blends else 0
    note = f"Counting has weight 1. Chosen on the validation window, {count_of(users, 'user')}; the best is filled."
    cards.append(card("Blend: validation NDCG@10", blend_plot(facts.blends), note=note))
    run = f"MLflow run {facts.training.tracking_run}" if facts.training else ""
    return tag("div", tag("div", *cards, class_="grid"), tag("p", run, class_="small block"))


# --- users -----------------------------------------------------------------------------------------------------------


def render_users(facts: Facts) -> Markup:
    if not facts.users:
        return tag("p", "RECOMMENDATIONS holds no list of this run.", class_="card block")
    verb = past_verb(facts.event_types)
    intro = (
        f"{count_of(len(facts.users), 'user')} drawn by a fixed rule, from the shortest history to the longest. A tick "
        f"marks what the user {'did choose' if verb == 'chosen' else verb} from {facts.test_start} until "
        f"{facts.test_end}, which no list could know."
    )
    return tag("div", tag("p", intro, class_="soft"), *(_user(user, facts) for user in facts.users))


def _user(user: UserFact, facts: Facts) -> Markup:
    verb = past_verb(facts.event_types)
    done = f"{verb} {count_of(user.num_chosen, 'item')}" if user.num_chosen else f"nothing {verb}"
    about = f"{count_of(user.num_events, 'event')} before the cut-off, {done} in the test window"
    titles = {"keep": "Recommended", "drop": f"Recommended, never {verb} before"}
    is_known = user.num_chosen > 0
    lists = [_list(items, titles.get(rule, rule), is_known=is_known) for rule, items in user.lists.items()]
    head = tag("header", tag("h3", f"User {user.user_id}"), tag("span", about, class_="small"))
    return tag("article", head, tag("div", _history(user.history, facts), *lists, class_="columns"), class_="card user")


def _history(events: tuple[PastEvent, ...], facts: Facts) -> Markup:
    """The last events, newest first; a day is written once, a kind of event only where it says something."""
    rows, last_day = [], ""
    for event in events:
        kind = "" if (event.kind,) == facts.event_types else tag("span", f"{event.kind} ", class_="small")
        shown_day = "" if event.day == last_day else _short_day(event.day)
        rows.append(tag("li", tag("span", shown_day), tag("div", kind, as_sentence(event.text))))
        last_day = event.day
    return tag("div", tag("h4", "Last events"), *_unfolding(rows, f"{len(rows) - _SHOWN} more"), class_="past")


def _unfolding(rows: Sequence[Markup], summary: str) -> list[Markup]:
    """The first rows of a list, the others behind `summary`."""
    parts = [tag("ol", *rows[:_SHOWN])]
    if len(rows) > _SHOWN:
        parts.append(tag("details", tag("summary", summary, class_="small"), tag("ol", *rows[_SHOWN:])))
    return parts


def _short_day(day: str) -> str:
    parsed = date.fromisoformat(day)
    return f"{parsed.day} {parsed:%b}"


def _list(items: tuple[ListedItem, ...], title: str, *, is_known: bool) -> Markup:
    """A list and how much of it came true, where it is known what the user chose."""
    num_hits = sum(item.is_hit for item in items)
    right = f" · {num_hits} of {len(items)} right" if is_known else ""
    hits = tag("span", right, class_="hit-note" if num_hits else None)
    hidden = sum(item.is_hit for item in items[_SHOWN:])
    more = f"{len(items) - _SHOWN} more" + (f", {hidden} of them right" if hidden else "")
    return tag("div", tag("h4", title, hits), *_unfolding([_place(item) for item in items], more))


def _place(item: ListedItem) -> Markup:
    reason = tag("div", item.reason, class_="small") if item.reason else ""
    mark = f"{item.rank} ✓" if item.is_hit else f"{item.rank}"
    text = tag(
        "div", as_sentence(item.text), reason, title="no score" if item.score is None else f"score {item.score:.4f}"
    )
    return tag("li", tag("span", mark), text, class_="hit" if item.is_hit else None)


# --- the run ---------------------------------------------------------------------------------------------------------


def render_run(facts: Facts) -> Markup:
    notes = [tag("li", tag("b", stage.name), f" · {note}") for stage in facts.stages for note in stage.notes]
    noted = (card("Notes", tag("ul", *notes, class_="notes")),) if notes else ()
    stages = card("Stages", _stages(facts), note="What each cost when it last ran; a skipped stage keeps its figures.")
    tables = card("Tables", _versions(facts), note="The Delta versions that this run wrote.")
    return tag("div", tag("div", stages, class_="block"), tag("div", tables, *noted, class_="grid"))


def _stages(facts: Facts) -> Markup:
    slowest = max((stage.seconds for stage in facts.stages), default=0.0)
    highest = max((stage.peak_mib for stage in facts.stages), default=0)
    heads = [tag("th", "stage"), tag("th", "time", class_="n"), tag("th", ""), tag("th", "peak memory", class_="n"),
             tag("th", ""), tag("th", "finished (UTC)", class_="n")]  # fmt: skip
    rows = [
        tag("tr", tag("th", stage.name, scope="row"),
            tag("td", duration(stage.seconds), class_="n"), tag("td", meter(stage.seconds, slowest), class_="bar"),
            tag("td", memory(stage.peak_mib), class_="n"),
            tag("td", meter(stage.peak_mib, highest, "grey"), class_="bar"),
            tag("td", stage.finished, class_="n soft"))
        for stage in facts.stages
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)), class_="scroll")


def _versions(facts: Facts) -> Markup:
    counts = [tag("th", name, class_="n") for name in ("version", "rows written")]
    heads = [tag("th", "table"), *counts, tag("th", "by")]
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", number(version), class_="n"),
            tag("td", number(stage.rows.get(name, 0)), class_="n"), tag("td", stage.name, class_="soft"))
        for stage in facts.stages
        for name, version in sorted(stage.versions.items())
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)), class_="scroll")
