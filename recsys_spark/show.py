"""`python -m recsys_spark show --user ID` or `--item ID`: a user's history and lists, an item and what is like it."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config import Config, load_config
from recsys_spark.config.secrets import hide
from recsys_spark.errors import RecsysError, problem
from recsys_spark.report.samples import DAY, recent_events, with_text
from recsys_spark.tables.catalog import (
    CANDIDATES,
    EVENTS,
    ITEM_INDEX,
    ITEM_TEXT,
    ITEMS,
    MODELS,
    RECOMMENDATIONS,
    SIMILAR_ITEMS,
    SIMILAR_USERS,
)
from recsys_spark.tables.contract import Table
from recsys_spark.tables.failures import explain_failures
from recsys_spark.tables.session import build_session
from recsys_spark.tables.store import Store

_WIDTH: Final = 100
_USUAL_FILES: Final = ("conf/base.yaml", "conf/local.yaml", "conf/datasets/complete_journey.yaml")
_JARS_CACHE: Final = ".cache/recsys_spark/jars"
_RULES: Final = {"keep": "RECOMMENDED, any item", "drop": "RECOMMENDED, only items never had before"}
_KINDS: Final = {
    "both": "SIMILAR, as the model sees items",
    "text": "SIMILAR by text alone",
    "behaviour": "SIMILAR by behaviour alone",
}


def main(
    describe: Callable[..., str], *, conf_files: Sequence[str], settings: Sequence[str], num_rows: int | None
) -> int:
    """Print what `describe(spark, config, num_rows=…)` says; what the caller can mend becomes its message and exit
    code 1.

    Without `conf_files`, those of the usual places that exist; without `num_rows`, `report.history_shown`.
    """
    spark = None
    try:
        config = load_config(conf_files or _usual_files(), settings)
        quiet = {**config.spark, "spark.log.level": "ERROR", "spark.ui.showConsoleProgress": "false"}
        print("starting Spark …", file=sys.stderr, flush=True)
        with explain_failures("show", config.warehouse):
            with _kept_back_stderr():
                spark = build_session("recsys_spark show", quiet, delta_jars=find_jars())
            print(describe(spark, config, num_rows=num_rows or config.report.history_shown))
    except RecsysError as error:
        print(f"show stopped:\n{hide(str(error))}", file=sys.stderr)
        return 1
    finally:
        if spark is not None:
            with suppress(Py4JError, ConnectionError):  # its JVM has ended: the error above says so
                spark.stop()
    return 0


@contextmanager
def _kept_back_stderr() -> Iterator[None]:
    """What Java says on its own while it starts is shown only when it does not start."""
    with tempfile.TemporaryFile() as said:
        terminal = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _usual_files() -> list[str]:
    found = [file for file in _USUAL_FILES if Path(file).exists()]
    if not found:
        do = "Name the files that the pipeline ran with, or call it from the checkout."
        raise problem("--conf-file", wanted="the run's configuration", found=f"none given, no {_USUAL_FILES[0]}", do=do)
    return found


def find_jars() -> list[str]:
    """Delta's jars: named by RECSYS_DELTA_JARS, else the newest of the user's cache; none: Spark asks Maven."""
    from recsys_spark.runner import list_jars  # brings all that jobs need: only when a session starts

    given = os.environ.get("RECSYS_DELTA_JARS", "")
    if not given:
        cached = sorted((Path.home() / _JARS_CACHE).glob("*/"), key=lambda folder: folder.stat().st_mtime)
        given = str(cached[-1]) if cached else ""
    return list_jars(given)


def describe_user(spark: SparkSession, config: Config, *, user_id: str, num_rows: int) -> str:
    """The user's last events before the cut-off of the lists, both lists, and similar users where there are some:
    `num_rows` of each at most.

    Raises for a user that EVENTS does not know, with the nearest ids.
    """
    store = Store(spark, config.warehouse)
    events, texts = store.read(EVENTS), store.read(ITEM_TEXT)
    is_user, is_run = F.col(c.USER_ID) == user_id, F.col(c.RUN_ID) == config.run.id
    lists = store.read(RECOMMENDATIONS).where(is_run & is_user & (F.col(c.RANK) <= num_rows))
    theirs = events.where(is_user)
    if theirs.isEmpty():
        raise _unknown("--user", user_id, events, c.USER_ID, EVENTS)
    cut_off = config.split.test_start
    past = recent_events(theirs, texts, cut_off=cut_off, num_events=num_rows).orderBy(c.RANK).collect()
    listed = lists.transform(with_text, texts).orderBy(F.col(c.SEEN_RULE).desc(), c.RANK).collect()
    title = f"User {user_id} · run {config.run.id} · {theirs.count():,} events · as of {cut_off:%Y-%m-%d}"
    parts = [title, "", *_describe_history(past)]
    for rule in sorted({row[c.SEEN_RULE] for row in listed}, reverse=True):
        parts += ["", *_describe_list(_RULES.get(rule, rule), [row for row in listed if row[c.SEEN_RULE] == rule])]
    is_short = is_run & is_user & (F.col(c.SPLIT) == "test") & F.col(c.SHORTFALL).isNotNull()
    for row in store.read(CANDIDATES).where(is_short).orderBy(F.col(c.SEEN_RULE).desc()).collect():
        parts += ["", f"The model's candidates, {row[c.SEEN_RULE]}: {row[c.SHORTFALL]}"]
    if not listed:
        why = "run jobs/rank.py" if past else "there is no event before the cut-off"
        parts += ["", f"No list of run {config.run.id}: {why}."]
    for row in _of_model(store, config, store.read_or_empty(SIMILAR_USERS)).where(is_user).collect():
        parts += ["", *_describe_users(row, num_rows)]
    return "\n".join(parts)


def describe_item(spark: SparkSession, config: Config, *, item_id: str, num_rows: int) -> str:
    """The item's text, what the catalogue says of it, and `num_rows` similar items of each kind at most.

    Raises for an item that ITEMS does not know, with the nearest ids.
    """
    store = Store(spark, config.warehouse)
    items, texts = store.read(ITEMS), store.read(ITEM_TEXT)
    is_item = F.col(c.ITEM_ID) == item_id
    item = items.where(is_item).first()
    if item is None:
        raise _unknown("--item", item_id, items, c.ITEM_ID, ITEMS)
    text = texts.where(is_item).first()
    num_events = store.read(EVENTS).where(is_item).count()
    title = f"Item {item_id} · run {config.run.id} · {num_events:,} events"
    parts = [title, "", "TEXT", *(_wrap(text[c.TEXT] if text else "") or ["none: the catalogue says nothing"])]
    parts += ["", "ATTRIBUTES", *_describe_fields(item)]
    similar = _of_model(store, config, store.read_or_empty(SIMILAR_ITEMS)).where(is_item).collect()
    numbers = {number for row in similar for number in row[c.ITEMS][:num_rows]}
    named = store.read(ITEM_INDEX).where(F.col(c.ITEM_IDX).isin(*numbers)).transform(with_text, texts).collect()
    text_of = {row[c.ITEM_IDX]: row[c.TEXT] for row in named}
    for row in sorted(similar, key=lambda row: list(_KINDS).index(row[c.KIND])):
        parts += ["", *_describe_list(_KINDS[row[c.KIND]], _as_places(row, text_of, num_rows))]
    if not similar:
        parts += ["", f"No similar items of run {config.run.id}: run {SIMILAR_ITEMS.written_by}."]
    return "\n".join(parts)


def _of_model(store: Store, config: Config, rows: DataFrame) -> DataFrame:
    """The rows of the run's model version."""
    models = store.read_or_empty(MODELS).where(F.col(c.RUN_ID) == config.run.id)
    return rows.join(models, on=[c.MODEL_VERSION], how="left_semi")


def _unknown(option: str, wanted_id: str, rows: DataFrame, column: str, table: Table) -> RecsysError:
    distance = F.levenshtein(F.col(column), F.lit(wanted_id))
    nearest = rows.select(column).distinct().orderBy(distance, column).limit(5).collect()
    names = [row[column] for row in nearest]
    names.sort(
        key=lambda name: -difflib.SequenceMatcher(None, name, wanted_id).ratio()
    )  # stable: ties as Spark gave them
    return problem(
        option,
        wanted=f"an id of table {table.name}",
        found=f"'{wanted_id}', which it does not have",
        do=f"The nearest ids are {', '.join(names)}." if names else f"It has no rows: run {table.written_by}.",
    )


def _describe_history(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["HISTORY", "none before the cut-off"]
    kinds = max(len(row[c.EVENT_TYPE]) for row in rows)
    lines = [f"{row[DAY]}  {_fit(row[c.EVENT_TYPE], 10):{min(kinds, 10)}}  {row[c.TEXT]}" for row in rows]
    return ["HISTORY, newest first", *(_fit(line, _WIDTH) for line in lines)]


def _describe_list(title: str, rows: Sequence[Row]) -> list[str]:
    """Rank, score and text on one line, the reason below it."""
    if not rows:
        return [title, "none"]
    scores = ["pinned" if row[c.SCORE] is None else f"{row[c.SCORE]:.4f}" for row in rows]
    width = max(map(len, scores))
    lines = [title]
    for row, score in zip(rows, scores, strict=True):
        start = f"{row[c.RANK]:>3}  {score:>{width}}  "
        lines.append(_fit(f"{start}{row[c.TEXT]}", _WIDTH))
        if row[c.REASON]:
            indent = " " * len(start)
            lines += textwrap.wrap(row[c.REASON], _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return lines


def _as_places(similar: Row, text_of: dict[int, str], num_rows: int) -> list[Row]:
    """A row of SIMILAR_ITEMS as rows for `_describe_list`."""
    best = zip(similar[c.ITEMS][:num_rows], similar[c.SCORES], strict=False)
    return [
        Row(**{c.RANK: rank, c.SCORE: score, c.TEXT: text_of[number], c.REASON: ""})
        for rank, (number, score) in enumerate(best, start=1)
    ]


def _describe_fields(item: Row) -> list[str]:
    """A line for each field that the catalogue fills, attributes last."""
    told = {name: item[name] for name in ITEMS.column_names if name not in (c.ITEM_ID, c.ATTRIBUTES)}
    told |= dict(sorted((item[c.ATTRIBUTES] or {}).items()))
    filled = {name: str(value) for name, value in told.items() if value not in (None, "")}
    width = max(map(len, filled), default=0)
    return [_fit(f"{name:{width}}  {value}", _WIDTH) for name, value in filled.items()] or ["none"]


def _describe_users(similar: Row, num_rows: int) -> list[str]:
    best = zip(similar[c.USERS][:num_rows], similar[c.SCORES], strict=False)
    told = ", ".join(f"{user_id} ({score:.4f})" for user_id, score in best)
    return ["SIMILAR USERS", *(_wrap(told) or ["none"])]


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(_plain(text), _WIDTH)


def _fit(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    plain = _plain(text)
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def _plain(text: str) -> str:
    """Nothing from a catalogue may steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
