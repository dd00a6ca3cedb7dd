"""The bench's own yardsticks: made worlds are what they claim, and the oracle finds a list that is wrong."""

import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import embed_rows
from benchmarks.measure import best_seconds
from benchmarks.oracle import Lists, WrongListError, recall, require_exact
from benchmarks.ours import prepare
from benchmarks.score_grid import compare, grid_cost
from benchmarks.score_peers import drop_seen, numpy_partition
from benchmarks.score_rows import Machine, Row, Size, as_line, slopes, verdicts
from benchmarks.vectors import KINDS, UNSNAPPED, World, make_unsnapped, make_world
from recsys_spark.kernels.grid import GRID_STEPS, is_on_grid, snap_to_grid

TOP_K = 10


def small_world(kind, seed=0):
    return make_world(kind, num_users=12, num_items=300, dim=16, num_seen=5, seed=seed)


# --- worlds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_on_the_grid_and_the_same_for_one_seed(kind, tmp_path):
    world = small_world(kind)
    assert is_on_grid(world.users_UD)
    assert is_on_grid(world.items_ND)
    small_world(kind).save(tmp_path)
    for name, array in vars(World.load(tmp_path)).items():
        np.testing.assert_array_equal(array, getattr(world, name))
    assert (small_world(kind, seed=1).items_ND != world.items_ND).any()


def test_everybody_has_seen_distinct_items_in_ascending_order():
    world = small_world("random")
    assert world.seen_UE.shape == (12, 5)
    assert (np.diff(world.seen_UE, axis=1) > 0).all()


def test_kinds_differ_as_they_say():
    assert (
        len(np.unique(make_world("many_equal", num_users=2, num_items=5000, dim=8, num_seen=1).items_ND, axis=0))
        <= 1000
    )
    norms = np.linalg.norm(make_world("norms", num_users=2, num_items=5000, dim=8, num_seen=1).items_ND, axis=1)
    assert norms.min() == 0
    assert norms.max() > 0.99


# --- the oracle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_passes(kind):
    world = small_world(kind)
    lists = prepare(world, TOP_K)[0]()
    require_exact(world, lists)
    assert recall(world, lists) == 1.0


def test_a_planted_error_is_found_and_named():
    world = small_world("many_equal")
    right = prepare(world, TOP_K)[0]()
    swapped = right.items_RK.copy()
    swapped[7, [3, 4]] = swapped[7, [4, 3]]
    with pytest.raises(WrongListError, match=r"user 7, rank 4: wanted item \d+ .* found item"):
        require_exact(world, replace(right, items_RK=swapped))
    nudged = right.scores_RK.copy()
    nudged[2, 0] = np.nextafter(nudged[2, 0], np.float32(2))
    with pytest.raises(WrongListError, match="user 2, rank 1"):
        require_exact(world, replace(right, scores_RK=nudged))


def test_a_seen_item_is_an_error_and_no_recall():
    world = small_world("random")
    right = prepare(world, TOP_K)[0]()
    seen = right.items_RK.copy()
    seen[0, 0] = world.seen_UE[0, 0]
    lists = replace(right, items_RK=seen)
    with pytest.raises(WrongListError, match="user 0, rank 1"):
        require_exact(world, lists)
    assert recall(world, lists) == pytest.approx(1 - 1 / (12 * TOP_K))


def test_an_item_listed_twice_counts_once():
    world = small_world("random")
    right = prepare(world, TOP_K)[0]()
    items = right.items_RK.copy()
    items[3] = items[3, 0]
    assert recall(world, replace(right, items_RK=items)) == pytest.approx((11 * TOP_K + 1) / (12 * TOP_K))


def test_a_sample_holds_the_first_and_the_last_user():
    lists = Lists(np.arange(50, 150), np.zeros((100, 2), int), np.zeros((100, 2)))
    assert lists.sample(3).rows_R.tolist() == [50, 99, 149]
    assert len(lists.sample(1000).rows_R) == 100


# --- what the grid costs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", UNSNAPPED)
def test_unsnapped_vectors_are_those_of_the_world(kind):
    users_UD, items_ND = make_unsnapped(kind, num_users=12, num_items=300, dim=16)
    np.testing.assert_array_equal(snap_to_grid(users_UD), small_world(kind).users_UD)
    np.testing.assert_array_equal(snap_to_grid(items_ND), small_world(kind).items_ND)


def test_the_overlap_counts_shared_items_whatever_their_order():
    users_UD = np.array([[1.0, 0.0], [0.0, 1.0]])
    items_ND = np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])
    others_ND = np.array([[0.8, 0.1], [0.9, 0.2], [0.5, 0.25], [0.1, 0.9]])
    overlap, difference = compare((users_UD, items_ND), (users_UD, others_ND), top_k=2)
    assert (overlap, difference) == (1.0, 0.25)
    others_ND[2, 1] = 0.0
    assert compare((users_UD, items_ND), (users_UD, others_ND), top_k=2) == (0.75, 0.5)


def test_the_grid_costs_a_little():
    found = grid_cost(Size("random", 60, 500, 16, 10))
    assert 0.9 < found["recall"] <= 1.0
    difference = float(found["note"].removeprefix("scores differ by ").removesuffix(" at most"))
    assert 0 < difference < 2 * np.sqrt(16) / GRID_STEPS


# --- peers and rows ---------------------------------------------------------------------------------------------------


def test_a_peer_drops_what_a_user_has_seen():
    items, scores = np.array([[4, 2, 9], [4, 2, 9]]), np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    lists = drop_seen(items, scores, np.array([[2, 7], [8, 9]]), 2)
    assert lists.items_RK.tolist() == [[4, 9], [4, 2]]
    assert lists.scores_RK.tolist() == [[3.0, 1.0], [3.0, 2.0]]


def test_a_peer_is_measured_by_the_same_oracle():
    world = small_world("clustered")
    assert recall(world, numpy_partition(world, TOP_K)) == 1.0


@pytest.mark.parametrize(("enough_s", "num_runs"), [(60.0, 4), (6.0, 2)])
def test_runs_end_with_their_number_or_with_the_time(monkeypatch, enough_s, num_runs):
    clock, durations = [0.0], [4.0, 3.0, 2.0, 1.0, 0.5]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def work():
        clock[0] += durations.pop(0)
        return 5 - len(durations)

    assert best_seconds(work, max_runs=4, enough_s=enough_s) == (5.0 - num_runs, num_runs)


def test_verdicts_hold_ours_against_the_bound_and_the_peers():
    size = Size("random", 20_000, 50_000, 128, 100)
    rows = [Row("kernel", "ours", size, 1, 1.0, 1.2), Row("kernel", "faiss", size, 1, 3.0, 3.6)]
    with_8_bits, without = Machine("a", 2, frozenset({"avx512_vnni"})), Machine("b", 2, frozenset({"avx2"}))
    assert [line.split()[0] for line in verdicts(rows, with_8_bits)] == ["MISSED", "reached"]
    assert [line.split()[0] for line in verdicts(rows, without)] == ["reached", "reached"]


def test_a_verdict_on_a_million_items_is_about_memory():
    million = Row("million", "ours", Size("clustered", 5_000, 1_000_000, 64, 100), 2, 5.0, 9.9, peak_mib=6 * 1024)
    rows = [million, replace(million, peak_mib=6 * 1024 + 1)]
    lines = verdicts(rows, Machine("a", 2, frozenset()))
    assert [line.split()[0] for line in lines] == ["reached", "MISSED"]
    assert "peak 6,144 MiB" in as_line(million)


def test_verdicts_on_embedding_hold_ours_against_the_naive_loop_and_float32():
    rows = [
        embed_rows.Row("short: torch, sorted, int8", 2000, 1.0, 5.0, 0.99),
        embed_rows.Row("short: ours, the kernel with what the probe picks (bfloat16)", 2000, 1.0, 24.0, 0.9998),
        embed_rows.Row("long: ours, the kernel with what the probe picks (bfloat16)", 400, 1.0, 3.9, 0.9999),
        embed_rows.Row("job, Delta to Delta: first run", 92_331, 50.0, 60.0),
    ]
    lines = embed_rows.verdicts(rows)
    assert [line.split()[0] for line in lines] == ["reached", "MISSED", "MISSED", "reached"]
    assert "3.9x as fast as the naive loop (wanted >= 4x)" in lines[2]


def test_a_slope_is_the_power_of_the_growth():
    rows = [Row("by items", "ours", Size("random", 1, n, 2, 3), 1, 5.0 * n**1.5, 1.0) for n in (100, 1000, 10000)]
    assert slopes(rows) == ["  cost grows as items ^ 1.50"]
