"""`python -m recsys_spark show --user ID`: one user's history and lists in the terminal."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config import Config, load_config
from recsys_spark.errors import RecsysError, problem
from recsys_spark.report.samples import DAY, recent_events, with_text
from recsys_spark.tables.catalog import CANDIDATES, EVENTS, ITEM_TEXT, RECOMMENDATIONS
from recsys_spark.tables.session import build_session
from recsys_spark.tables.store import Store

_WIDTH: Final = 100
_USUAL_FILES: Final = ("conf/base.yaml", "conf/local.yaml", "conf/datasets/complete_journey.yaml")
_JARS_CACHE: Final = ".cache/recsys_spark/jars"
_RULES: Final = {"keep": "RECOMMENDED, any item", "drop": "RECOMMENDED, only items never had before"}


def main(user_id: str, *, conf_files: Sequence[str], settings: Sequence[str], num_rows: int | None) -> int:
    """Print the user; what the caller can mend becomes its message and exit code 1.

    Without `conf_files`, those of the usual places that exist; without `num_rows`, `report.history_shown`.
    """
    spark = None
    try:
        config = load_config(conf_files or _usual_files(), settings)
        quiet = {**config.spark, "spark.log.level": "ERROR", "spark.ui.showConsoleProgress": False}
        print("starting Spark …", file=sys.stderr, flush=True)
        with _kept_back_stderr():
            spark = build_session("recsys_spark show", quiet, delta_jars=find_jars())
        print(describe_user(spark, config, user_id=user_id, num_rows=num_rows or config.report.history_shown))
    except RecsysError as error:
        print(f"show stopped:\n{error}", file=sys.stderr)
        return 1
    finally:
        if spark is not None:
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
    """The user's last events before the cut-off of the lists, then both lists, `num_rows` rows of each at most.

    Raises for a user that EVENTS does not know, with the nearest ids.
    """
    store = Store(spark, config.warehouse)
    events, texts = store.read(EVENTS), store.read(ITEM_TEXT)
    is_user, is_run = F.col(c.USER_ID) == user_id, F.col(c.RUN_ID) == config.run.id
    lists = store.read(RECOMMENDATIONS).where(is_run & is_user & (F.col(c.RANK) <= num_rows))
    theirs = events.where(is_user)
    if theirs.isEmpty():
        raise _unknown_user(user_id, events)
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
    return "\n".join(parts)


def _unknown_user(user_id: str, events: DataFrame) -> RecsysError:
    distance = F.levenshtein(F.col(c.USER_ID), F.lit(user_id))
    nearest = events.select(c.USER_ID).distinct().orderBy(distance, c.USER_ID).limit(5).collect()
    names = [row[c.USER_ID] for row in nearest]
    names.sort(
        key=lambda name: -difflib.SequenceMatcher(None, name, user_id).ratio()
    )  # stable: ties as Spark gave them
    return problem(
        "--user",
        wanted="the id of a user with events",
        found=f"'{user_id}', which table EVENTS does not have",
        do=f"The nearest ids are {', '.join(names)}." if names else "EVENTS has no rows: run jobs/ingest_events.py.",
    )


def _describe_history(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["HISTORY", "none before the cut-off"]
    kinds = max(len(row[c.EVENT_TYPE]) for row in rows)
    lines = [f"{row[DAY]}  {_fit(row[c.EVENT_TYPE], 10):{min(kinds, 10)}}  {row[c.TEXT]}" for row in rows]
    return ["HISTORY, newest first", *(_fit(line, _WIDTH) for line in lines)]


def _describe_list(title: str, rows: Sequence[Row]) -> list[str]:
    """Rank, score and text on one line, the reason below it."""
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


def _fit(text: str, width: int) -> str:
    """One line of at most `width` characters; nothing from a catalogue may steer the terminal."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= width else plain[: width - 1] + "…"
