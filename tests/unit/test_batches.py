from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.kernels.batches import concatenate, deal, plan_batches
from tests.unit.kernel_world import make_rows


@given(num_rows=st.integers(0, 500), num_steps=st.integers(1, 40))
def test_planned_batches_add_up_and_differ_by_one_at_most(num_rows, num_steps):
    sizes = plan_batches(num_rows, num_steps)
    assert len(sizes) == num_steps
    assert sum(sizes) == num_rows
    assert max(sizes) - min(sizes) <= 1


@given(groups=st.lists(st.integers(1, 9), min_size=1, max_size=8), num_steps=st.integers(1, 12))
def test_every_row_of_the_stream_is_dealt_once_in_order(groups, num_steps):
    rows = make_rows(sum(groups))
    bounds = np.cumsum([0, *groups])
    stream = [rows.rows(slice(start, end)) for start, end in itertools.pairwise(bounds)]
    dealt = list(deal(stream, plan_batches(len(rows), num_steps)))
    assert concatenate(dealt).row_id_B.tolist() == rows.row_id_B.tolist()
    assert concatenate(dealt).target_items_BM.tolist() == rows.target_items_BM.tolist()


def test_a_stream_that_ends_early_is_an_error_that_says_by_how_much():
    with pytest.raises(ValueError, match="ended 3 rows too early"):
        list(deal([make_rows(5)], [4, 4]))


def test_a_stream_with_more_rows_than_planned_is_an_error():
    with pytest.raises(ValueError, match="more rows than were planned"):
        list(deal([make_rows(5), make_rows(2)], [5]))
