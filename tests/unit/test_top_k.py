"""The kernel's lists equal those of a brute-force oracle in float64, whatever the blocks, ties and
exclusions."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.kernels import top_k as kernel
from recsys_spark.kernels.grid import snap_to_grid
from recsys_spark.kernels.top_k import Exclusions, ItemBlock, RunningTopK, block_bytes, group_width


def oracle(users, items, places, item_idx, excluded, top_k):
    """All pairs in float64, sorted whole: for each user [(place, score), …], best first."""
    scores = users.astype(np.float64) @ items.astype(np.float64).T
    lists = []
    for row, row_scores in enumerate(scores):
        allowed = [column for column in range(len(items)) if (row, int(item_idx[column])) not in excluded]
        best = sorted(allowed, key=lambda column: (-row_scores[column], places[column]))[:top_k]
        lists.append([(int(places[column]), float(row_scores[column])) for column in best])
    return lists


def as_lists(top):
    """TopLists as the oracle writes them, with its ranks and rows checked on the way."""
    lists = [[] for _ in top.counts_U]
    for row, rank, place, score in zip(top.rows_P, top.ranks_P, top.places_P, top.scores_P, strict=True):
        lists[row].append((int(place), float(score)))
        assert len(lists[row]) == rank
    return lists


def run(users, items, places, item_idx, excluded, top_k, item_block, user_block=None):
    """Both lists of the kernel, from blocks of the given sizes: (without excluded pairs, with them)."""
    without, with_excluded = [], []
    for first in range(0, len(users), user_block or len(users)):
        block_users = users[first : first + (user_block or len(users))]
        pairs = np.array(
            [(u - first, i) for u, i in sorted(excluded) if first <= u < first + len(block_users)],
            dtype=np.int64,
        ).reshape(-1, 2)
        csr = Exclusions.from_pairs(pairs[:, 0], pairs[:, 1], num_users=len(block_users))
        running = RunningTopK(block_users, top_k=top_k, excluded=csr)
        for start in range(0, len(items), item_block):
            part = slice(start, start + item_block)
            running.update(ItemBlock(items[part], places[part], item_idx[part]))
        without += as_lists(running.lists())
        with_excluded += as_lists(running.lists_with_excluded())
    return without, with_excluded


@st.composite
def worlds(draw):
    """Users and items with many equal and zero vectors, places and item_idx in a random order, some pairs
    excluded."""
    num_users, num_items, dim = (
        draw(st.integers(1, 9)),
        draw(st.integers(1, 60)),
        draw(st.sampled_from([1, 3, 8])),
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    distinct = snap_to_grid(random.standard_normal((draw(st.integers(1, 20)), dim)))
    distinct[0] *= draw(st.sampled_from([0, 1]))
    users = distinct[random.integers(0, len(distinct), num_users)]
    items = distinct[random.integers(0, len(distinct), num_items)]
    places = random.permutation(num_items * 2)[:num_items]
    item_idx = random.permutation(num_items * 2)[:num_items]
    share = draw(st.sampled_from([0.0, 0.2, 1.0]))
    excluded = {(u, i) for u in range(num_users) for i in range(num_items * 2) if random.random() < share * (u % 3) / 2}
    return users, items, places, item_idx, excluded


@settings(max_examples=300, deadline=None)
@given(worlds(), st.integers(1, 70), st.integers(1, 70), st.integers(1, 9), st.sampled_from([4, 64, 2**23]))
def test_lists_equal_the_oracle_for_every_block_size(world, top_k, item_block, user_block, strip_bytes):
    users, items, places, item_idx, excluded = world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "STRIP_BYTES", strip_bytes)
        without, with_excluded = run(users, items, places, item_idx, excluded, top_k, item_block, user_block)
    assert without == oracle(users, items, places, item_idx, excluded, top_k)
    assert with_excluded == oracle(users, items, places, item_idx, set(), top_k)


@pytest.fixture(scope="module")
def large_world():
    """Large enough for groups, bounds and several strips: 70 users, 3,000 items, 12 seen items per user, 300
    twins."""
    random = np.random.default_rng(7)
    users, items = (snap_to_grid(random.standard_normal((num, 16))) for num in (70, 3000))
    items[random.integers(0, 3000, 300)] = items[random.integers(0, 3000, 300)]
    excluded = {(u, int(i)) for u in range(70) for i in random.integers(0, 3000, 12)}
    return users, items, random.permutation(3000), random.permutation(3000), excluded


@pytest.mark.parametrize("item_block", [1, 7, 500, 1000, 3000])
@pytest.mark.parametrize("top_k", [1, 10, 100])
def test_large_blocks_equal_the_oracle(large_world, top_k, item_block, monkeypatch):
    monkeypatch.setattr(kernel, "STRIP_BYTES", 4 * 20 * 3000)
    without, with_excluded = run(*large_world, top_k, item_block)
    assert without == oracle(*large_world, top_k)
    assert with_excluded == oracle(*large_world[:4], set(), top_k)


def test_the_tests_reach_every_group_width():
    assert {group_width(n, k) for n in (1, 7, 500, 1000, 3000) for k in (1, 10, 100)} == {1, 2, 4, 8, 16}


@pytest.mark.parametrize("ascending", [True, False])
def test_the_order_of_the_blocks_does_not_matter(large_world, ascending):
    users, items, places, item_idx, excluded = large_world
    order = np.argsort(users[0] @ items.T) if ascending else np.argsort(-(users[0] @ items.T))
    shuffled = run(users, items[order], places[order], item_idx[order], excluded, 20, 256)
    assert shuffled == run(*large_world, 20, 3000)


def test_a_user_who_has_seen_everything_gets_an_empty_list():
    users, items = snap_to_grid(np.eye(2, 4)), snap_to_grid(np.random.default_rng(1).standard_normal((50, 4)))
    excluded = {(0, i) for i in range(50)} | {(1, i) for i in range(49)}
    numbers = np.arange(50)
    without, with_excluded = run(users, items, numbers, numbers, excluded, 10, 16)
    assert without == [[], [(49, float(users[1] @ items[49]))]]
    assert with_excluded == oracle(users, items, numbers, numbers, set(), 10)


@pytest.mark.parametrize("vector", [[0, 0, 0, 0], [1, 2, 3, 4], [-1, 0, 0, 0]], ids=str)
@pytest.mark.parametrize("item_block", [1, 64, 1000])
def test_equal_items_are_listed_in_the_order_of_their_places(vector, item_block):
    users = snap_to_grid(np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    items = snap_to_grid(np.tile(np.array(vector, dtype=np.float32), (1000, 1)))
    places = np.random.default_rng(3).permutation(1000)
    without, _ = run(users, items, places, places, {(0, 0), (0, 2)}, 4, item_block)
    assert [[place for place, _ in best] for best in without] == [[1, 3, 4, 5], [0, 1, 2, 3]]


def test_a_list_is_short_when_items_are_few_and_full_when_seen_items_are_many():
    items = snap_to_grid(np.random.default_rng(5).standard_normal((200, 4)))
    users, numbers = items[:1], np.arange(200)
    seen = {(0, int(i)) for i in np.argsort(-(users @ items.T)[0])[:150]}  # the 150 best
    short, _ = run(users, items, numbers, numbers, seen, 80, 32)
    full, _ = run(users, items, numbers, numbers, seen, 50, 32)
    assert len(short[0]) == 50
    assert full == short == oracle(users, items, numbers, numbers, seen, 50)


def test_worked_out_by_hand():
    users = np.array([[1.0, 0.0]], dtype=np.float32)
    items = np.array([[0.5, 0], [-0.5, 0], [0.5, 0.5], [0, 1], [1, 0]], dtype=np.float32)
    running = RunningTopK(users, top_k=4, excluded=Exclusions(np.array([0, 1]), np.array([40])))
    running.update(ItemBlock(items, places_N=np.array([7, 1, 2, 3, 4]), item_idx_N=np.array([0, 10, 20, 30, 40])))
    assert as_lists(running.lists()) == [[(2, 0.5), (7, 0.5), (3, 0.0), (1, -0.5)]]
    assert as_lists(running.lists_with_excluded()) == [[(4, 1.0), (2, 0.5), (7, 0.5), (3, 0.0)]]


def test_no_users_and_no_items_give_no_lists():
    nobody = RunningTopK(np.empty((0, 4), dtype=np.float32), top_k=3)
    nobody.update(ItemBlock(snap_to_grid(np.eye(4)), np.arange(4), np.arange(4)))
    assert as_lists(nobody.lists()) == []
    nothing = RunningTopK(snap_to_grid(np.eye(2, 4)), top_k=3)
    nothing.update(ItemBlock(np.empty((0, 4), dtype=np.float32), np.arange(0), np.arange(0)))
    assert as_lists(nothing.lists()) == as_lists(nothing.lists_with_excluded()) == [[], []]


def test_the_highest_place_and_the_lowest_score_are_kept():
    running = RunningTopK(np.array([[1.0]], dtype=np.float32), top_k=2)
    running.update(ItemBlock(np.array([[-1.0]], dtype=np.float32), np.array([2**32 - 2]), np.array([0])))
    assert as_lists(running.lists()) == [[(2**32 - 2, -1.0)]]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=60))
def test_exclusions_are_the_distinct_pairs_in_order(pairs):
    rows, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    csr = Exclusions.from_pairs(rows, items, num_users=5)
    listed = [(u, i) for u in range(5) for i in csr.item_idx_E[csr.offsets_U1[u] : csr.offsets_U1[u + 1]]]
    assert listed == sorted(set(pairs))


EYE = np.eye(2, dtype=np.float32)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RunningTopK(EYE, top_k=0), "top_k >= 1; found 0"),
        (lambda: RunningTopK(EYE.astype(np.float64), top_k=1), "users as float32"),
        (lambda: RunningTopK(EYE * np.float32(0.3), top_k=1), "users on the grid"),
        (lambda: RunningTopK(EYE, top_k=1, excluded=_csr([0, 1], [5])), "offsets from 0 to 1"),
        (lambda: RunningTopK(EYE, top_k=1, excluded=_csr([0, 2, 2], [5, 5])), "ascending"),
        (lambda: update(np.eye(3, dtype=np.float32), np.arange(3)), "as wide as users .2.; found 3"),
        (lambda: update(EYE * 2, np.arange(2)), "items on the grid"),
        (lambda: update(EYE, np.arange(3)), "one place"),
        (lambda: update(EYE, np.array([0, -1])), "places in"),
        (lambda: update(EYE, np.array([0, 2**32 - 1])), "places in"),
    ],
)  # fmt: skip
def test_refuses_what_would_give_wrong_lists(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _csr(offsets, item_idx):
    return Exclusions(np.array(offsets), np.array(item_idx))


def update(vectors, places):
    RunningTopK(EYE, top_k=1).update(ItemBlock(vectors, places, np.arange(len(vectors))))


@pytest.mark.parametrize("equal", [True, False], ids=["every item ties", "random items"])
def test_memory_stays_below_the_stated_bound(equal):
    random = np.random.default_rng(9)
    users = snap_to_grid(random.standard_normal((1500, 32)))
    items = snap_to_grid(
        random.standard_normal((1, 32)).repeat(6000, 0) if equal else random.standard_normal((6000, 32))
    )
    rows, seen = np.repeat(np.arange(1500), 20), random.integers(0, 6000, 1500 * 20)
    excluded = Exclusions.from_pairs(rows, seen, num_users=1500)
    numbers = np.arange(6000)
    tracemalloc.start()
    running = RunningTopK(users, top_k=50, excluded=excluded)
    for start in range(0, 6000, 3000):
        part = slice(start, start + 3000)
        running.update(ItemBlock(items[part], numbers[part], numbers[part]))
    running.lists(), running.lists_with_excluded()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < block_bytes(1500, 3000, dim=32, top_k=50, num_excluded=len(excluded.item_idx_E))
