"""Scoring inside Spark equals a float64 oracle, whatever the partitions, blocks and files."""

import random
import re

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PythonException
from pyspark.sql import functions as F

from recsys_spark.bridges import score as scoring
from recsys_spark.bridges.rule_store import RuleTables
from recsys_spark.bridges.score import ScoreSettings, score_batches, score_pairs, split_by_pairs
from recsys_spark.bridges.snapshot import Snapshot, take_snapshot
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.grid import snap_to_grid
from recsys_spark.kernels.top_k import TopLists
from recsys_spark.tables.catalog import CANDIDATES
from recsys_spark.transforms.candidates import list_items

pytestmark = pytest.mark.spark

NUM_USERS, NUM_ITEMS, DIM, ALPHA, OFFSET_B = 23, 90, 8, 12.5, -3.25
ITEMS_DDL = "item_id string, item_idx int, model_version string, embedding array<float>"
USERS_DDL = "user_id string, split string, embedding array<float>, seen array<int>"
GIVEN = {"column": "embedding", "top_k": 2, "seen_rules": ["keep"], "alpha": 1.0, "offset_b": 0.0, "user_block": 2}


def make_world():
    """Items in shuffled order with ids of mixed lengths and letters, a third of them twins; users who saw
    some."""
    rng, shuffle = np.random.default_rng(11), random.Random(11)
    vectors = snap_to_grid(rng.standard_normal((NUM_ITEMS, DIM)))
    vectors[60:] = vectors[rng.integers(0, 20, 30)]
    vectors[5] = 0
    ids = [f"{'ä' if i % 7 == 0 else 'Z' if i % 5 == 0 else ''}{i * 37 % 1000}" for i in range(NUM_ITEMS)]
    items = [(ids[i], i * 2 + 1, "3", vectors[i].tolist()) for i in range(NUM_ITEMS)]
    shuffle.shuffle(items)
    user_vectors = snap_to_grid(rng.standard_normal((NUM_USERS, DIM)))
    user_vectors[4] = 0
    seen = [[int(i) for i in rng.integers(0, 2 * NUM_ITEMS, 30)] for _ in range(NUM_USERS)]
    seen[0], seen[1], seen[2] = None, [], [*range(2 * NUM_ITEMS)] * 2
    users = [(f"u{u}", "validation" if u % 2 else "test", user_vectors[u].tolist(), seen[u]) for u in range(NUM_USERS)]
    return users, items


USERS, ITEMS = make_world()


def oracle(top_k, rules):
    """The rows of the result, sorted: exact products in float64, one sort per user over (-score, id
    bytes)."""
    rows = []
    for user_id, split, vector, seen in USERS:
        cosines = [(float(np.dot(np.float64(item[3]), np.float64(vector))), item[0], item[1]) for item in ITEMS]
        for rule in rules:
            left_out = set(seen or []) if rule == "drop" else set()
            best = sorted((-s, id_.encode(), id_) for s, id_, idx in cosines if idx not in left_out)[:top_k]
            rows += [
                (user_id, split, rule, id_, rank, ALPHA * -s + OFFSET_B)
                for rank, (s, _, id_) in enumerate(best, start=1)
            ]
    return sorted(rows)


@pytest.fixture(scope="module")
def items(spark, tmp_path_factory):
    """ITEM_EMBEDDINGS of model version 3 in seven files, beside the rows of another version."""
    path = str(tmp_path_factory.mktemp("items") / "t")
    others = [(id_, idx, "2", vector) for id_, idx, _, vector in ITEMS]
    for rows, files in ((ITEMS, 7), (others, 2)):
        made = spark.createDataFrame(rows, ITEMS_DDL).repartition(files)
        made.write.format("delta").mode("append").partitionBy("model_version").save(path)
    rows = spark.read.format("delta").option("versionAsOf", 1).load(path).where("model_version = '3'")
    snapshot = take_snapshot(rows, "ITEM_EMBEDDINGS", 1)
    assert (len(snapshot.files), snapshot.rows) == (7, NUM_ITEMS)
    return snapshot


def score(spark, items, *, users=None, partitions=2, top_k=12, rules=("keep", "drop"), user_block=8):
    rows = spark.createDataFrame(USERS if users is None else users, USERS_DDL).repartition(partitions)
    return score_pairs(
        rows, items, column="embedding", top_k=top_k, seen_rules=rules, alpha=ALPHA, offset_b=OFFSET_B,
        user_block=user_block,
    )  # fmt: skip


def as_rows(scored):
    """A sorted row per listed item: user_id, split, seen_rule, item_id, rank, score."""
    id_of = {idx: id_ for id_, idx, *_ in ITEMS}
    return sorted(
        (user_id, split, rule, id_of[idx], rank, score)
        for user_id, split, rule, listed, scores, _ in scored.collect()
        for rank, (idx, score) in enumerate(zip(listed, scores, strict=True), start=1)
    )


@pytest.mark.parametrize("partitions, user_block", [(1, 100), (1, 1), (2, 7), (3, 4), (40, 8)])
def test_the_table_is_the_oracle_s_whatever_the_layout(spark, items, partitions, user_block):
    scored = score(spark, items, partitions=partitions, user_block=user_block)
    assert as_rows(scored) == oracle(12, ("keep", "drop"))


@pytest.mark.parametrize("files", [1, 2, 90])
def test_the_table_is_the_same_whatever_the_files(spark, tmp_path, files):
    path = str(tmp_path / "t")
    spark.createDataFrame(ITEMS, ITEMS_DDL).repartition(files).write.format("delta").save(path)
    snapshot = take_snapshot(spark.read.format("delta").load(path), "ITEM_EMBEDDINGS", 0)
    assert as_rows(score(spark, snapshot)) == oracle(12, ("keep", "drop"))


@pytest.mark.parametrize("rules", [("keep",), ("drop",)])
def test_one_rule_alone_and_a_list_of_the_whole_catalogue(spark, items, rules):
    assert as_rows(score(spark, items, top_k=NUM_ITEMS, rules=rules)) == oracle(NUM_ITEMS, rules)


def test_ties_stand_in_spark_s_own_order_of_item_id(spark, items):
    best = score(spark, items, top_k=NUM_ITEMS, rules=("keep",)).where("user_id = 'u4'")  # the zero vector
    ranked = [id_ for *_, id_, _, _ in sorted(as_rows(best), key=lambda row: row[4])]
    ids = spark.createDataFrame([(id_,) for id_ in ranked], "item_id string")
    assert ranked == [row.item_id for row in ids.orderBy("item_id").collect()]
    assert len(ranked) == NUM_ITEMS


def test_a_user_who_has_seen_everything_has_an_empty_list_under_drop_and_a_full_one_under_keep(spark, items):
    lists = score(spark, items, top_k=3).where("user_id = 'u2'").collect()
    assert {row.seen_rule: len(row["items"]) for row in lists} == {"drop": 0, "keep": 3}


def test_listed_items_are_rows_with_their_ids(spark, items):
    index = spark.createDataFrame([(id_, idx) for id_, idx, *_ in ITEMS], "item_id string, item_idx int")
    rows = list_items(score(spark, items).where("split = 'test'"), index)
    wanted = [
        (rule, user, id_, rank, s)
        for user, split, rule, id_, rank, s in oracle(12, ("keep", "drop"))
        if split == "test"
    ]
    assert sorted(tuple(row) for row in rows.collect()) == sorted(wanted)


def test_the_columns_are_those_of_candidates(spark, items):
    others = {"run_id": F.lit("r"), "model_version": F.lit("3"), "rules_hash": F.lit("h")}
    scored = score(spark, items).withColumns(others)
    assert CANDIDATES.select(scored).columns == CANDIDATES.column_names


def test_blocks_with_many_seen_items_are_split(monkeypatch):
    monkeypatch.setattr("recsys_spark.bridges.score.MAX_BLOCK_PAIRS", 5)
    seen = [[1, 2], None, [1, 2, 3], [], [4], [*range(9)], [1], []]
    blocked = [[], None, [], [], None, [], [], None]
    lists = {name: pa.array(rows, pa.list_(pa.int32())) for name, rows in (("seen", seen), ("blocked", blocked))}
    users = pa.RecordBatch.from_pydict(lists)
    blocks = [block.column("seen").to_pylist() for block in split_by_pairs(users)]
    assert blocks == [seen[:4], seen[4:5], seen[5:6], seen[6:]]


def test_no_users_give_no_rows(spark, items):
    assert as_rows(score(spark, items, users=[])) == []


def test_needs_one_python_stage_and_no_shuffle_of_its_own(spark, items):
    plan = score(spark, items)._jdf.queryExecution().executedPlan().toString()
    assert plan.count("MapInArrow") == 1
    assert "BatchEvalPython" not in plan and "ArrowEvalPython" not in plan


def test_lists_longer_than_the_catalogue_hold_all_of_it_and_say_so(spark, items):
    scored = score(spark, items, top_k=91)
    assert as_rows(scored) == oracle(91, ("keep", "drop"))
    assert {row.shortfall for row in scored.where("seen_rule = 'keep'").collect()} == {
        "90 of 91: of 90 items all are listed"
    }
    assert {row.shortfall for row in score(spark, items, top_k=90, rules=["keep"]).collect()} == {None}


def test_a_catalogue_of_one_item_is_a_list(spark, tmp_path):
    path = str(tmp_path / "t")
    spark.createDataFrame([("only", 0, "3", USERS[0][2])], ITEMS_DDL).write.format("delta").save(path)
    only = take_snapshot(spark.read.format("delta").load(path), "ITEM_EMBEDDINGS", 0)
    users = [("u", "test", USERS[0][2], [0])]
    found = {row.seen_rule: (row["items"], row.shortfall) for row in score(spark, only, users=users).collect()}
    assert found == {
        "keep": ([0], "1 of 12: of 1 items all are listed"),
        "drop": ([], "0 of 12: of 1 items 1 left out by the seen rule"),
    }


@pytest.mark.parametrize(
    "vector, message",
    [
        ([1.0], "users to score, column embedding: wanted an array<float> of width 8; found widths from 1 to 1"),
        (None, "users to score, column embedding: .* found 1 nulls in place of vectors, 0 inside of them"),
        ([1.0, None], "found 0 nulls in place of vectors, 1 inside of them"),
        ([0.3] * DIM, "users to score, column embedding, row of u: wanted coordinates that are multiples of 1/4096"),
    ],
)
def test_vectors_that_do_not_fit_are_named(spark, items, vector, message):
    with pytest.raises(PythonException, match=message):
        score(spark, items, users=[("u", "test", vector, [])]).collect()


def test_users_of_two_widths_are_named(spark, items):
    with pytest.raises(PythonException, match="of width 8; found widths from 1 to 8"):
        score(spark, items, users=[USERS[3], ("u", "test", [1.0], [])], partitions=1).collect()


def test_two_model_versions_in_one_snapshot_are_named(spark, tmp_path):
    path = str(tmp_path / "two")
    spark.createDataFrame(ITEMS[:5] + ITEMS[:5], ITEMS_DDL).write.format("delta").save(path)
    both = take_snapshot(spark.read.format("delta").load(path), "ITEM_EMBEDDINGS", 0)
    with pytest.raises(PythonException, match="found 10 rows, 5 distinct ids, 0 null"):
        score(spark, both, top_k=2).collect()


def test_an_item_whose_vector_is_off_the_grid_is_named(spark, tmp_path):
    path, off = str(tmp_path / "off"), [0.3] * DIM
    spark.createDataFrame([*ITEMS[:5], ("odd", 99, "1", off)], ITEMS_DDL).write.format("delta").save(path)
    snapshot = take_snapshot(spark.read.format("delta").load(path), "ITEM_EMBEDDINGS", 0)
    with pytest.raises(PythonException, match="version 0, column embedding, row of odd: wanted coordinates that are"):
        score(spark, snapshot, top_k=2).collect()


@pytest.mark.parametrize(
    "changed", [{"seen_rules": ["skip"]}, {"seen_rules": []}, {"alpha": 0.0}, {"offset_b": np.inf}, {"user_block": 0}]
)
def test_refuses_settings_that_mean_nothing(spark, items, changed):
    with pytest.raises(ValueError, match="wanted"):
        score_pairs(spark.createDataFrame(USERS, USERS_DDL), items, **{**GIVEN, **changed})


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_run_can_be_asked_to_prove_its_lists(items, share):
    users = pa.RecordBatch.from_pydict(
        {
            "user_id": [user_id for user_id, *_ in USERS],
            "split": [split for _, split, *_ in USERS],
            "embedding": pa.array([vector for _, _, vector, _ in USERS], pa.list_(pa.float32())),
            "seen": pa.array([seen for *_, seen in USERS], pa.list_(pa.int32())),
        }
    )
    settings = ScoreSettings(items, "embedding", None, 12, ("keep", "drop"), ALPHA, OFFSET_B, 8, share)
    with pytest.MonkeyPatch.context() as patch:
        assert sum(len(batch) for batch in score_batches([users], settings)) == 2 * len(USERS)
        patch.setattr(scoring, "readmit", lambda lists, *_: TopLists(lists.keys_UK + np.uint64(1)))
        with pytest.raises(RecsysError, match=r"seen rule (keep|drop): wanted .*score\.checked_share"):
            list(score_batches([users], settings))


# --- rules ------------------------------------------------------------------------------------------------------------

RULED_DDL = f"{USERS_DDL}, seen_days array<int>, blocked array<int>, segment bigint"
SEGMENTS_DDL = "segment bigint, allowed array<struct<word:int,bits:bigint>>, barred_by map<string,bigint>"


def make_ruled_world():
    """USERS with ages of what they saw, blocked items and one of three segments; what is barred for each segment (some
    items, none, nearly all), and two groups for each item_idx."""
    rng = np.random.default_rng(12)
    item_idx = [idx for _, idx, *_ in ITEMS]
    barred = {-7: {*item_idx[::3]}, 0: set(), 2**40: {*item_idx[5:]}}
    groups = {idx: [None if idx % 9 == 0 else idx % 7, None if idx % 4 == 1 else idx % 5] for idx in item_idx}
    users = []
    for user_id, split, vector, seen in USERS:
        days = None if seen is None else rng.integers(0, 60, len(seen)).tolist()
        blocked = [None, [], [1, 3, 5], item_idx[:20]][len(users) % 4]
        users.append((user_id, split, vector, seen, days, blocked, [*barred][len(users) % 3]))
    return users, barred, groups


RULED_USERS, BARRED, GROUPS_OF = make_ruled_world()
LIMITS = {"keep": 0, "drop for 30 days": 30, "drop": 10**9}


def ruled_oracle(top_k, most):
    """(user_id, rule) -> item_ids and what the shortfall says: listed, barred, blocked, seen, over."""
    found = {}
    for user_id, _, vector, seen, days, blocked, segment in RULED_USERS:
        cosines = [(float(np.dot(np.float64(item[3]), np.float64(vector))), item[0], item[1]) for item in ITEMS]
        order = sorted((-s, id_.encode(), id_, idx) for s, id_, idx in cosines)
        for rule, limit in LIMITS.items():
            dropped = {idx for idx, age in zip(seen or [], days or [], strict=True) if age < limit}
            listed, held, counts = [], {}, [0, 0, 0]
            for *_, id_, idx in order:
                reasons = [idx in BARRED[segment], idx in (blocked or []), idx in dropped]
                groups = [(cap, GROUPS_OF[idx][cap]) for cap in range(len(most)) if GROUPS_OF[idx][cap] is not None]
                if any(reasons):
                    counts[reasons.index(True)] += 1
                elif len(listed) < top_k and all(held.get(group, 0) < most[group[0]] for group in groups):
                    listed.append(id_)
                    held |= {group: held.get(group, 0) + 1 for group in groups}
            found[user_id, rule] = (listed, [len(listed), *counts, NUM_ITEMS - len(listed) - sum(counts)])
    return found


@pytest.fixture(scope="module")
def rule_tables(spark, tmp_path_factory):
    """Snapshots of SEGMENTS and ITEM_GROUPS."""
    segments = []
    for segment, barred in BARRED.items():
        bits = np.zeros(256, dtype=np.uint8)
        bits[[idx for _, idx, *_ in ITEMS if idx not in barred]] = 1
        words = np.packbits(bits, bitorder="little").view("<i8").tolist()
        allowed = [(word, word_bits) for word, word_bits in enumerate(words) if word_bits]
        segments.append((segment, allowed, {"stock": len(barred), "age": 0}))
    tables = {
        "SEGMENTS": (
            segments,
            "segment bigint, allowed array<struct<word:int,bits:bigint>>, barred_by map<string,bigint>",
        ),
        "ITEM_GROUPS": ([*GROUPS_OF.items()], "item_idx int, groups array<bigint>"),
    }
    snapshots = []
    for name, (rows, ddl) in tables.items():
        path = str(tmp_path_factory.mktemp("rules") / name)
        spark.createDataFrame(rows, ddl).repartition(2).write.format("delta").save(path)
        snapshots.append(take_snapshot(spark.read.format("delta").load(path), name, 0))
    return snapshots


def numbers_of(shortfall):
    """What the words say: listed, barred, blocked, seen, over."""
    words = ("of", "barred", "blocked", "left out by the seen rule", "left out by caps")
    found = [re.search(rf"([\d,]+) {word}", shortfall) for word in words]
    return [int(match[1].replace(",", "")) if match else 0 for match in found]


@pytest.mark.parametrize("most", [(), (3,), (3, 4)], ids=["no caps", "a cap", "two caps"])
@pytest.mark.parametrize("partitions, user_block, top_k", [(1, 100, 12), (3, 4, 12), (2, 8, 40), (1, 8, 200)])
def test_rules_leave_out_what_they_say_and_short_lists_say_why(
    spark, items, rule_tables, most, partitions, user_block, top_k
):
    users = spark.createDataFrame(RULED_USERS, RULED_DDL).repartition(partitions)
    scored = score_pairs(
        users, items, column="embedding", rules=RuleTables(*rule_tables, most), top_k=top_k, seen_rules=(*LIMITS,),
        alpha=ALPHA, offset_b=OFFSET_B, user_block=user_block, checked_share=0.5,
    ).collect()  # fmt: skip
    wanted = ruled_oracle(top_k, most)
    id_of = {idx: id_ for id_, idx, *_ in ITEMS}
    found = {(row.user_id, row.seen_rule): [id_of[idx] for idx in row["items"]] for row in scored}
    assert found == {key: listed for key, (listed, _) in wanted.items()}
    short = {(row.user_id, row.seen_rule): row.shortfall for row in scored if row.shortfall is not None}
    assert {key: numbers_of(text) for key, text in short.items()} == {
        key: numbers for key, (listed, numbers) in wanted.items() if len(listed) < top_k
    }
    assert all(f" of {top_k}: of {NUM_ITEMS} items " in text for text in short.values())
    assert any("85 barred (stock 85)" in text for text in short.values())


def test_a_segment_without_a_row_is_named(spark, items, rule_tables):
    users = spark.createDataFrame([("u", "test", USERS[0][2], [], [], [], 99)], RULED_DDL)
    with pytest.raises(PythonException, match=r"table SEGMENTS: wanted every user .* Run jobs/apply_rules\.py"):
        score_pairs(users, items, rules=RuleTables(*rule_tables, ()), **GIVEN).collect()


def test_caps_without_any_groups_are_named(spark, items, rule_tables):
    users = spark.createDataFrame(RULED_USERS[:1], RULED_DDL)
    no_groups = Snapshot("ITEM_GROUPS", 0, ())
    wanted = r"table ITEM_GROUPS: wanted each item's groups for 2 caps .* found no rows\. Run jobs/apply_rules\.py"
    with pytest.raises(PythonException, match=wanted):
        score_pairs(users, items, rules=RuleTables(rule_tables[0], no_groups, (3, 4)), **GIVEN).collect()
