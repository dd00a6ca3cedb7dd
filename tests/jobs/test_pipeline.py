"""The whole platform on a small marketplace: once, again, and a stage alone."""

from __future__ import annotations

import json

import pytest
from pyspark.sql import functions as F

from recsys_spark.bridges.similar import KINDS
from recsys_spark.tables.catalog import (
    CANDIDATES,
    EVENTS,
    EVENTS_REJECTED,
    ITEM_EMBEDDINGS,
    METRICS,
    RECOMMENDATIONS,
    RUNS,
    SEQUENCES,
    SIMILAR_ITEMS,
    SIMILAR_USERS,
    USER_EMBEDDINGS,
)
from recsys_spark.tables.store import Store

STAGES = [
    "ingest_events", "ingest_items", "build_item_text", "build_sequences", "apply_rules", "train", "embed_items",
    "embed_users", "score", "similar_items", "choose_blend", "rank", "evaluate", "report",
]  # fmt: skip

TWO_EXECUTORS = "local-cluster[2,1,1024]"
"""Each a JVM of its own with one core and Python workers of its own, which make their item matrices anew."""

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def first_run(place):
    done = place.submit("pipeline")
    assert done.returncode == 0, done.stdout[-8000:]
    return done


@pytest.fixture(scope="module")
def second_run(place, first_run, store):
    before = {table.name: store.version(table) for table in (RECOMMENDATIONS, METRICS, ITEM_EMBEDDINGS, RUNS)}
    done = place.submit("pipeline")
    assert done.returncode == 0, done.stdout[-8000:]
    after = {table.name: store.version(table) for table in (RECOMMENDATIONS, METRICS, ITEM_EMBEDDINGS, RUNS)}
    return done, before, after


@pytest.fixture(scope="module")
def store(spark, place, first_run):
    return Store(spark, str(place.warehouse))


def summary(place):
    return json.loads((place.warehouse / "summary.json").read_text())


def test_every_stage_runs_from_the_archive_and_the_closing_table_is_printed(place, first_run):
    assert [stage["name"] for stage in summary(place)["stages"]] == STAGES
    for method in ("recommendations", "two_tower", "popular", "personal", "item_knn"):
        assert any(line.startswith(method) for line in first_run.stdout.splitlines()), first_run.stdout
    assert "report.html" in first_run.stdout and "mlflow.db" in first_run.stdout
    assert "samples/s" in first_run.stdout, "the ranks' progress reaches the user"


def test_no_row_of_the_source_is_lost(store):
    assert store.read(EVENTS).count() == 24 * 60 + 2
    rejected = {row["raw"]: row["reasons"] for row in store.read(EVENTS_REJECTED).collect()}
    reasons = sorted(reason for reasons in rejected.values() for reason in reasons)
    assert reasons == ["ts cannot be read (the pattern is yyyy-MM-dd HH:mm:ss): 'not a time'", "user_id is missing"]


def test_nothing_at_or_after_the_cut_off_is_in_a_sequence(store):
    events = store.read(EVENTS)
    sequences = store.read(SEQUENCES)
    assert sequences.where(F.exists("event_hours", lambda hours: hours < 0)).count() == 0
    assert sequences.where(F.col("user_id") == "late").count() == 0
    assert events.where(F.col("user_id") == "late").count() == 1


def test_every_user_with_a_history_has_full_lists_of_both_kinds(store):
    lists = (
        store.read(RECOMMENDATIONS)
        .groupBy("seen_rule", "user_id")
        .agg(F.count("*").alias("size"), F.sort_array(F.collect_list("rank")).alias("ranks"))
    )
    rows = {(row["seen_rule"], row["user_id"]): row["ranks"] for row in lists.collect()}
    assert rows == {(rule, f"u{user:02d}"): list(range(1, 21)) for rule in ("keep", "drop") for user in range(24)}


def test_lists_of_new_items_hold_nothing_the_user_had(store):
    had = store.read(EVENTS).where("ts < '2020-06-01'").select("user_id", "item_id").distinct()
    new = store.read(RECOMMENDATIONS).where("seen_rule = 'drop'")
    assert new.join(had, on=["user_id", "item_id"], how="inner").count() == 0


def test_blending_is_no_worse_than_counting_on_the_validation_window(place):
    notes = {stage["name"]: stage["notes"] for stage in summary(place)["stages"]}
    assert notes["choose_blend"][0].startswith("tower weight")


def test_metrics_compare_all_methods_on_the_same_users_with_and_without_a_list(store):
    users = {
        (row["slice"], row["method"]): row["num_users"]
        for row in store.read(METRICS).where("metric = 'ndcg' AND k = 10").collect()
    }
    methods = ("recommendations", "two_tower", "popular", "personal", "item_knn")
    assert users == {("all", m): 25 for m in methods} | {("new", m): users["new", "popular"] for m in methods}


def test_the_second_run_changes_nothing(place, second_run):
    done, before, after = second_run
    assert before == after
    assert all(stage["skipped"] for stage in summary(place)["stages"])
    assert "skipped" in done.stdout


def equal_rows(rows, others):
    return rows.exceptAll(others).isEmpty() and others.exceptAll(rows).isEmpty()


ON_TWO_EXECUTORS = """
import sys

from jobs import embed_items, embed_users, score, similar_items
from recsys_spark.runner import as_job, run_stage

STAGES = [module.STAGE for module in (embed_items, embed_users, score, similar_items)]


def body(submission, spark):
    for stage in STAGES:
        run_stage(stage, spark, submission.config, force=True)


sys.exit(as_job("on two executors", body, stages=STAGES))
"""


@pytest.fixture(scope="module")
def on_two_executors(place, store, second_run):
    """Versions of the tables before the stages that embed and search were run again, by the back end that the first run
    settled on, with shorter lists and other blocks."""
    before = {
        table.name: store.version(table) for table in (ITEM_EMBEDDINGS, USER_EMBEDDINGS, CANDIDATES, SIMILAR_ITEMS)
    }
    (place.folder / "jobs" / "on_two_executors.py").write_text(ON_TWO_EXECUTORS)
    settings = ["score.top_k=25", "score.user_block=5", "score.checked_share=1", "similar.top_k=5"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    done = place.submit("on_two_executors", *arguments, master=TWO_EXECUTORS)
    assert done.returncode == 0, done.stdout[-4000:]
    return before


@pytest.mark.parametrize("table", [ITEM_EMBEDDINGS, USER_EMBEDDINGS], ids=lambda table: table.name)
def test_two_executors_compute_the_same_bits_of_every_vector(store, on_two_executors, table):
    assert equal_rows(store.read(table, on_two_executors[table.name]), store.read(table))


def test_two_executors_find_the_same_lists_whatever_the_length_and_the_blocks(store, on_two_executors):
    first = [F.slice(name, 1, 25).alias(name) for name in ("items", "scores")]
    wanted = store.read(CANDIDATES, on_two_executors[CANDIDATES.name]).select("user_id", "split", "seen_rule", *first)
    found = store.read(CANDIDATES).select(*wanted.columns)
    assert {row.num_items for row in found.selectExpr("size(items) AS num_items").collect()} == {25}
    assert equal_rows(wanted, found)


def test_two_executors_find_the_same_similar_items_by_every_kind_of_vector(store, on_two_executors):
    first = [F.slice(name, 1, 5).alias(name) for name in ("items", "scores")]
    wanted = store.read(SIMILAR_ITEMS, on_two_executors[SIMILAR_ITEMS.name]).select("item_id", "kind", *first)
    found = store.read(SIMILAR_ITEMS).select(*wanted.columns)
    sizes = found.groupBy("kind").agg(F.count("*").alias("n"), F.max(F.size("items")).alias("most"))
    assert {(row.kind, row.n, row.most) for row in sizes.collect()} == {(kind, 60, 5) for kind in KINDS}
    assert equal_rows(wanted, found)


def test_similar_users_are_listed_when_the_job_is_submitted(place, store, second_run):
    assert store.version(SIMILAR_USERS) is None
    done = place.submit("similar_users", "--set", "similar.top_users=5")
    assert done.returncode == 0, done.stdout[-4000:]
    lists = {row.user_id: row.users for row in store.read(SIMILAR_USERS).collect()}
    users = {f"u{user:02d}" for user in range(24)}
    assert lists.keys() == users
    assert all(len(others) == 5 and set(others) <= users - {user} for user, others in lists.items())


def test_a_typo_in_the_configuration_is_found_before_spark_starts(place):
    done = place.submit("score", "--set", "score.topk=61")
    assert done.returncode == 1
    assert "Did you mean 'top_k'?" in done.stdout and "Traceback" not in done.stdout


def test_more_ranks_than_cores_is_an_error_and_no_wait(place, second_run):
    done = place.submit("train", "--set", "train.ranks=3")
    assert done.returncode == 1
    assert "train.ranks: wanted at most 2 ranks" in done.stdout, done.stdout[-3000:]
