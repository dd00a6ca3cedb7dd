from __future__ import annotations

import numpy as np

from recsys_spark.kernels.sampling import TargetSampler, other_targets
from tests.unit.kernel_world import make_rows


def test_drawn_targets_are_targets_of_their_own_row():
    rows = make_rows(40)
    sampler = TargetSampler(np.ones(30, dtype=np.int64), np.arange(30), targets_per_row=5, random_negatives=0)
    drawn = sampler.draw_targets(rows, np.random.default_rng(3))
    for row in range(40):
        assert set(drawn[row]) <= set(rows.target_items_BM[row][: rows.num_targets_B[row]])


def test_expected_draws_are_what_drawing_gives():
    counts = np.array([6, 3, 1, 0])
    sampler = TargetSampler(counts, np.arange(4), targets_per_row=1, random_negatives=20)
    expected = np.exp(sampler.log_expected(np.arange(4), num_targets=10, num_negatives=20))
    assert np.allclose(expected, [6 + 5, 3 + 5, 1 + 5, 0 + 5])
    rng = np.random.default_rng(0)
    drawn = np.bincount(np.concatenate([sampler.draw_negatives(rng) for _ in range(500)]), minlength=4) / 500
    assert np.allclose(drawn, 5, atol=0.4)


def test_every_target_of_a_row_is_marked_and_nothing_else():
    rows = make_rows(20)
    items = np.array([0, 1, 2, 3, 7, 11, 28, 29])
    marked = other_targets(rows, items)
    for row in range(20):
        own = set(rows.target_items_BM[row][: rows.num_targets_B[row]])
        assert [bool(mark) for mark in marked[row]] == [item in own for item in items]
