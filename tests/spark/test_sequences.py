"""What a row of SEQUENCES knows, and what it foretells: nothing of the window is among what was known before it."""

import random
from datetime import UTC, datetime, timedelta

import pyarrow.parquet
import pytest
from pyspark.sql import functions as F

from recsys_spark.tables.catalog import SEQUENCES
from recsys_spark.transforms.sequences import CutOff, build_sequences, number_events, spread_over_files
from recsys_spark.transforms.users import with_seen_items

pytestmark = pytest.mark.spark

WEEK, DAY, HOUR, MICRO = timedelta(days=7), timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)
TRAIN = datetime(2020, 5, 18, tzinfo=UTC)
VALIDATION, TEST = TRAIN + WEEK, TRAIN + 2 * WEEK
CUT_OFFS = (
    CutOff("train", TRAIN, VALIDATION),
    CutOff("validation", VALIDATION, TEST),
    CutOff("test", TEST, TEST),
)
TYPES = ("view", "cart", "purchase")


def events(spark, rows):
    """(user, item_idx, ts[, type]) -> what `number_events` gives; an event without a type is a purchase."""
    full = [(f"e{n}", user, item, ts, *(kind or ["purchase"])) for n, (user, item, ts, *kind) in enumerate(rows)]
    ddl = "event_id string, user_id string, item_idx int, ts timestamp, event_type string"
    return spark.createDataFrame(full, ddl)


def build(numbered, **settings):
    usual = {
        "cut_offs": CUT_OFFS, "max_events": 4, "max_targets": 3, "event_types": TYPES,
        "target_event_types": ["purchase"], "seed": 1,
    }  # fmt: skip
    return build_sequences(numbered, **{**usual, **settings})


def by_user_and_split(sequences):
    return {(row.user_id, row.split): row for row in sequences.collect()}


HAND_MADE = [
    # before, at and after the cut-offs, to the microsecond
    ("edges", 7, TRAIN - DAY, "search"), ("edges", 6, TRAIN - HOUR, "view"), ("edges", 1, TRAIN - MICRO),
    ("edges", 2, TRAIN), ("edges", 5, TRAIN + DAY, "view"), ("edges", 3, VALIDATION - MICRO),
    ("edges", 4, VALIDATION), ("edges", 8, TEST), ("edges", 9, TEST + DAY),
    # more events than a row holds, given newest first, and the same item chosen twice in the window
    *[("many", 10 + n, TRAIN - (6 - n) * HOUR) for n in reversed(range(6))],
    ("many", 20, TRAIN + DAY), ("many", 20, TRAIN + 2 * DAY),
    # history and no target; targets and no history
    ("idle", 1, TRAIN - DAY), ("idle", 2, TRAIN + DAY, "view"), ("late", 1, TEST - MICRO),
    ("moment", 1, TRAIN - HOUR + MICRO), ("moment", 2, TRAIN),
]  # fmt: skip


@pytest.fixture(scope="module")
def rows(spark):
    return by_user_and_split(build(events(spark, HAND_MADE)))


# --- what was known, and what came --------------------------------------------------------------------------------


def test_an_event_at_the_cut_off_is_a_target_and_no_input(rows):
    row = rows["edges", "train"]
    assert (row.event_items, row.num_events) == ([7, 6, 1, -1], 3)
    assert (sorted(row.target_items), row.num_targets) == ([-1, 2, 3], 2)


def test_the_end_of_a_window_belongs_to_the_next_one(rows):
    row = rows["edges", "validation"]
    assert (row.event_items, row.num_events) == ([1, 2, 5, 3], 4)
    assert (row.target_items, row.num_targets) == ([4, -1, -1], 1)


def test_a_test_row_knows_everything_before_the_test_and_has_no_targets(rows):
    row = rows["edges", "test"]
    assert (row.event_items, row.num_events) == ([2, 5, 3, 4], 4)
    assert (row.target_items, row.num_targets) == ([-1, -1, -1], 0)


def test_the_last_events_are_kept_oldest_first(rows):
    assert rows["many", "train"].event_items == [12, 13, 14, 15]
    assert rows["many", "train"].event_hours == [4, 3, 2, 1]


def test_types_are_places_in_the_list_plus_one_and_padding_and_unknown_types_are_zero(rows):
    assert rows["edges", "train"].event_types == [0, 1, 3, 0]


def test_hours_count_from_each_event_to_the_cut_off(rows):
    assert rows["edges", "train"].event_hours == [24, 1, 0, 0]
    assert rows["edges", "validation"].event_hours == [168, 168, 144, 0]
    assert rows["edges", "test"].event_hours == [336, 312, 168, 168]


def test_an_hour_less_a_microsecond_is_no_whole_hour(rows):
    assert rows["moment", "train"].event_hours == [0, 0, 0, 0]


def test_an_item_chosen_twice_is_one_target(rows):
    assert (rows["many", "train"].target_items, rows["many", "train"].num_targets) == ([20, -1, -1], 1)


def test_users_have_rows_where_they_have_a_history_and_before_the_test_a_target_too(rows):
    assert sorted(rows) == [
        ("edges", "test"), ("edges", "train"), ("edges", "validation"), ("idle", "test"), ("late", "test"),
        ("many", "test"), ("many", "train"), ("moment", "test"), ("moment", "train"),
    ]  # fmt: skip


def test_rows_know_the_moment_they_are_made_for(rows):
    moments = {(row.split, row.as_of.astimezone(UTC)) for row in rows.values()}
    assert moments == {("train", TRAIN), ("validation", VALIDATION), ("test", TEST)}


def test_rows_keep_the_contract_of_the_table(spark, rows):
    made = spark.createDataFrame([*rows.values()], SEQUENCES.schema)
    assert not any(count for rule, count in SEQUENCES.count_faults(made).first().asDict().items() if rule != "rows")
    assert SEQUENCES.select(build(events(spark, HAND_MADE))).columns == SEQUENCES.column_names
    assert len({row.row_id for row in rows.values()}) == len(rows), "a row_id tells the rows apart"


def test_no_list_of_event_types_gives_every_event_the_code_of_others(spark):
    built = by_user_and_split(build(events(spark, [("u", 1, TEST - DAY)]), event_types=[]))
    assert built["u", "test"].event_types == [0, 0, 0, 0]


# --- against the same rules in plain Python ---------------------------------------------------------------------------


def draw_world():
    """50 users; each has events at moments of its own, which are cut-offs and their neighbours more often than not."""
    rng = random.Random(4)
    edges = [cut.as_of + step for cut in CUT_OFFS for step in (-MICRO, 0 * DAY, MICRO, HOUR)]
    others = [TRAIN - WEEK + n * 7 * HOUR for n in range(90)]
    world = []
    for user in range(50):
        moments = rng.sample(edges, rng.randrange(8)) + rng.sample(others, rng.randrange(25))
        world += [(f"u{user}", rng.randrange(12), ts, rng.choice([*TYPES, "search"])) for ts in sorted(set(moments))]
    rng.shuffle(world)
    return world


def expected_rows(world, targets_of):
    rows = {}
    for user in sorted({event[0] for event in world}):
        own = sorted((ts, item, kind) for name, item, ts, kind in world if name == user)
        for cut in CUT_OFFS:
            known = [event for event in own if event[0] < cut.as_of][-4:]
            window = [event for event in own if cut.as_of <= event[0] < cut.target_end]
            targets = {item for _, item, kind in window if kind in targets_of}
            if known and (targets or cut.split == "test"):
                rows[user, cut.split] = ([item for _, item, _ in known], [kind for *_, kind in known], targets)
    return rows


def test_rows_are_those_that_the_rules_give_in_plain_python(spark):
    world = draw_world()
    built = build(events(spark, world), target_event_types=["purchase", "cart"], max_targets=12)
    found = {
        key: (
            row.event_items[: row.num_events],
            [[*TYPES, "search"][code - 1] for code in row.event_types[: row.num_events]],
            set(row.target_items[: row.num_targets]),
        )
        for key, row in by_user_and_split(built).items()
    }
    expected = expected_rows(world, targets_of=("purchase", "cart"))
    assert found == expected
    assert {split for _, split in expected} == {"train", "validation", "test"}


# --- one moment, too many targets -------------------------------------------------------------------------------------


def crowded(spark):
    """20 users with ten events at one moment and eight targets, in an order that says nothing."""
    world = [(f"u{user}", item, TRAIN - DAY) for user in range(20) for item in range(10)]
    world += [(f"u{user}", item, TRAIN + DAY) for user in range(20) for item in range(8)]
    random.Random(3).shuffle(world)
    return events(spark, world)


def test_neither_the_order_of_one_moment_nor_the_drawn_targets_depend_on_partitions(spark):
    def table(num_partitions, seed=1):
        built = build(crowded(spark).repartition(num_partitions), cut_offs=CUT_OFFS[:1], seed=seed)
        return sorted(tuple(row) for row in built.collect())

    one = table(1)
    assert table(1) == one
    assert table(7) == one
    assert table(7, seed=2) != one


def test_events_of_one_moment_are_shuffled_and_targets_are_drawn_evenly(spark):
    built = by_user_and_split(build(crowded(spark), cut_offs=CUT_OFFS[:1], max_events=10)).values()
    orders = {tuple(row.event_items) for row in built}
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(orders) > 15, "each user's events have an order of their own"
    assert all(len(set(row.target_items)) == row.num_targets == 3 for row in built)
    assert {item for row in built for item in row.target_items} == set(range(8)), "each target is somebody's"


def test_events_of_items_without_a_number_drop_out(spark):
    numbered = number_events(
        spark.createDataFrame([("e1", "a"), ("e2", "z"), ("e3", "a"), ("e4", "b")], "event_id string, item_id string"),
        spark.createDataFrame([("a", 4), ("b", 0), ("c", 1)], "item_id string, item_idx int"),
    )
    assert sorted((row.event_id, row.item_idx) for row in numbered.collect()) == [("e1", 4), ("e3", 4), ("e4", 0)]


# --- files ------------------------------------------------------------------------------------------------------------


def spread(spark, path, row_numbers, num_partitions):
    """By split, the row_id of each of its files, in the order of the rows and of the names of the files."""
    splits = F.array(*map(F.lit, ("train", "validation", "test")))
    numbers = spark.createDataFrame([(number,) for number in row_numbers], "id bigint").repartition(num_partitions)
    rows = numbers.select(F.xxhash64("id").alias("row_id"), F.get(splits, F.col("id").cast("int") % 3).alias("split"))
    spread_over_files(rows, num_files=5).write.partitionBy("split").parquet(str(path))
    return {
        split: [
            pyarrow.parquet.ParquetFile(file).read()["row_id"].to_pylist()
            for file in sorted((path / f"split={split}").glob("*.parquet"))
        ]
        for split in ("train", "validation", "test")
    }


def test_each_split_lies_in_so_many_files_of_nearly_equal_size_in_the_order_of_row_id(spark, tmp_path):
    for files in spread(spark, tmp_path / "table", range(900), num_partitions=3).values():
        assert len(files) == 5 and all(40 <= len(of_file) <= 80 for of_file in files), [*map(len, files)]
        assert files == [sorted(of_file) for of_file in files]
        assert len({row_id for of_file in files for row_id in of_file}) == 300


def test_a_row_lies_in_the_same_file_whatever_order_and_partitions_rows_come_in(spark, tmp_path):
    first = spread(spark, tmp_path / "first", range(900), num_partitions=3)
    mixed = random.Random(2).sample(range(900), 900)
    assert spread(spark, tmp_path / "again", mixed, num_partitions=7) == first


# --- what users have seen ---------------------------------------------------------------------------------------------


def test_seen_items_are_those_before_each_rows_own_cut_off(spark):
    users = spark.createDataFrame(
        [("u", "validation", VALIDATION), ("u", "test", TEST), ("new", "test", TEST), ("none", "test", TEST)],
        "user_id string, split string, as_of timestamp",
    )
    had = [("u", 1, TRAIN), ("u", 1, TRAIN + DAY), ("u", 2, VALIDATION - MICRO), ("u", 3, VALIDATION), ("u", 4, TEST)]
    seen = with_seen_items(users, events(spark, [*had, ("new", 1, TEST), ("stranger", 1, TRAIN)]))
    rows = seen.collect()
    assert sorted((row.user_id, row.split, sorted(row.seen)) for row in rows) == [
        ("new", "test", []), ("none", "test", []), ("u", "test", [1, 2, 3]), ("u", "validation", [1, 2]),
    ]  # fmt: skip
    days = {(row.split, item): age for row in rows for item, age in zip(row.seen, row.seen_days, strict=True)}
    assert days == {
        ("validation", 1): (VALIDATION - TRAIN - DAY).days,
        ("validation", 2): 0,
        ("test", 1): (TEST - TRAIN - DAY).days,
        ("test", 2): (TEST - VALIDATION).days,
        ("test", 3): (TEST - VALIDATION).days,
    }
