"""A warehouse of three users and six items, with every table: what readers of tables are tried on."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.config import Config, load_config
from recsys_spark.tables import catalog as t
from recsys_spark.tables.contract import Table
from recsys_spark.tables.store import Store

CONF = Path(__file__).resolve().parents[1] / "conf" / "base.yaml"
TEST_START = datetime(2020, 6, 1, tzinfo=UTC)
TEXTS = {"a": "apple juice", "b": "brown bread", "c": "cheese", "d": "dates", "e": "", "f": "figs <b>fresh</b>"}
MODEL = {"run_id": "main", "model_version": "1"}


def config_of(warehouse: str, *settings: str) -> Config:
    """The configuration of the small warehouse."""
    return load_config(
        [str(CONF)],
        [
            f"warehouse={warehouse}",
            "events.source={format: csv, path: events.csv}",
            "events.columns={user: user_id, item: item_id, time: ts}",
            "events.event_type=purchase",
            "items.source={format: csv, path: items.csv}",
            "items.columns={item: item_id, name: title}",
            "split.test_start=2020-06-01",
            "sequences.max_events=4",
            "item_text.max_tokens=8",
            "report.num_users=2",
            "report.history_shown=3",
            *settings,
        ],
    )


def write_small_warehouse(spark: SparkSession, root: str) -> Store:
    """Tables of run `main`, and one list and one figure of run `other` that nobody may see.

    Delta's paths are relative: one warehouse is written per process, the others are copies of it.
    """
    shutil.copytree(_template(spark), root)
    return Store(spark, root)


@functools.lru_cache(maxsize=1)
def _template(spark: SparkSession) -> str:
    store = Store(spark, tempfile.mkdtemp(prefix="small_warehouse_"))
    atexit.register(shutil.rmtree, store.root, ignore_errors=True)
    put = _Writer(spark, store)
    put(t.EVENTS, _events(), batch="full")
    bad = ("dir/events.csv", 7, '{"user": "<i>"}', ["ts is missing", "item_id is missing"], TEST_START, "full")
    put(t.EVENTS_REJECTED, [bad], batch="full")
    put(t.ITEMS, [(i, text, None, None, None, 2.5, {"size": "1 l"}, None, None) for i, text in TEXTS.items()])
    put(t.ITEMS_REJECTED, [])
    put(t.ITEM_INDEX, [(i, n) for n, i in enumerate(TEXTS)])
    put(t.ITEM_TEXT, [(i, n, text, "h", [1] * 8, min(2 + n, 8), "t") for n, (i, text) in enumerate(TEXTS.items())])
    put(t.SEQUENCES, _sequences())
    put(t.MODELS, [("main", "two_tower", "1", "file:/m", "tracked", 10.0, -3.0, 0.2, "c")], run_id="main")
    put(t.ITEM_EMBEDDINGS, [("a", 0, "1", [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], "h", "float32")], model_version="1")
    put(t.USER_EMBEDDINGS, [("u1", TEST_START, "test", "1", [0.0, 1.0], "h")], model_version="1")
    similar = {"both": ([1, 2], [0.75, 0.5]), "text": ([4], [0.25]), "behaviour": ([], [])}
    put(t.SIMILAR_ITEMS, [("1", kind, "a", *lists) for kind, lists in similar.items()], model_version="1")
    put(t.SIMILAR_USERS, [("1", "u1", ["u2", "u9"], [0.75, 0.5])], model_version="1")
    put(t.USER_RULES, [("main", "test", "u1", 7, [], "r")], run_id="main")
    put(t.SEGMENTS, [("main", 7, TEST_START, "{}", [(0, 63)], {}, "r")], run_id="main")
    put(t.ITEM_GROUPS, [], run_id="main")
    short = "1 of 3: of 9 items 8 blocked"
    put(t.CANDIDATES, [("main", "test", "keep", "u1", [0], [-2.5], short, "1", "r")], run_id="main")
    put(t.BLENDS, [("main", 0.0, 0.30, 3), ("main", 0.2, 0.35, 3)], run_id="main")
    put(t.RECOMMENDATIONS, _lists("main"), run_id="main")
    put(t.RECOMMENDATIONS, [(*_lists("other")[0][:4], "d", *_lists("other")[0][5:])], run_id="other")
    put(t.METRICS, _metrics(), run_id="main")
    put(t.METRICS, [("other", "test", "all", "popular", "ndcg", 10, 0.99, None, None, 3)], run_id="other")
    rows = [
        _record("ingest_events", 3, 1.5, "old"),
        _record("ingest_events", 2, 2.5, "new"),
        _record("train", 1, 9.0, ""),
    ]
    store.append(t.RUNS, spark.createDataFrame(rows, t.RUNS.schema))
    return store.root


class _Writer:
    def __init__(self, spark: SparkSession, store: Store) -> None:
        self._spark, self._store = spark, store

    def __call__(self, table: Table, rows: list, **slice_values: str) -> None:
        self._store.replace(table, self._spark.createDataFrame(rows, table.schema), slice_values)


def _events() -> list[tuple]:
    """u1 has 5 events before the cut-off, u2 one, u3 comes after it; u1 chooses b and c in the test window."""
    past = [("u1", "a", 1), ("u1", "a", 2), ("u1", "b", 3), ("u1", "e", 4), ("u1", "gone", 5), ("u2", "c", 400)]
    future = [("u1", "b", -1), ("u1", "c", -2), ("u1", "c", -3), ("u3", "a", -1), ("u1", "f", -40)]
    return [
        (f"{user}-{item}-{day}", user, item, "purchase", TEST_START - timedelta(days=day), None, None, "full")
        for user, item, day in past + future
    ]


def _sequences() -> list[tuple]:
    def row(row_id: int, user: str, as_of: datetime, split: str, num_events: int, num_targets: int) -> tuple:
        return (row_id, user, as_of, split, [0] * 4, [3] * 4, [1] * 4, num_events, [1] * num_targets, num_targets)

    before = TEST_START - timedelta(days=28)
    return [
        row(1, "u1", before, "validation", 2, 1), row(2, "u1", TEST_START, "test", 4, 0),
        row(3, "u2", TEST_START, "test", 1, 0),
    ]  # fmt: skip


def _lists(run_id: str) -> list[tuple]:
    def row(rule: str, user: str, rank: int, item: str, reason: str) -> tuple:
        return (run_id, rule, user, rank, item, 5.0 - rank, ["towers"], reason, TEST_START, "1", "{}")

    return [
        row("keep", "u1", 1, "a", "bought twice"),
        row("keep", "u1", 2, "b", "bought once"),
        row("keep", "u1", 3, "f", ""),
        row("drop", "u1", 1, "c", "fits"),
        row("drop", "u1", 2, "e", "fits"),
        row("keep", "u2", 1, "c", "bought once"),
    ]


def _metrics() -> list[tuple]:
    values = {"recommendations": 0.4, "two_tower": 0.3, "popular": 0.1, "personal": 0.32, "item_knn": 0.2}
    return [
        ("main", "test", "all", method, metric, k, value, value - 0.05, value + 0.05, 2)
        for method, value in values.items()
        for metric in ("ndcg", "recall", "precision", "mrr", "coverage")
        for k in (10, 20)
    ]


def _record(stage: str, hours_ago: int, seconds: float, note: str) -> tuple:
    finished = TEST_START - timedelta(hours=hours_ago)
    notes = [note] if note else []
    return (
        "main",
        stage,
        finished,
        "f",
        json.dumps({}),
        "c",
        {},
        {"EVENTS": 0},
        {},
        {"EVENTS": 11},
        notes,
        seconds,
        900,
        {},
    )
