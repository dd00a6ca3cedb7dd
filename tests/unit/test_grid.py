"""On the grid a dot product is exact, in float32, in any order and any shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys_spark.kernels.grid import GRID_STEPS, NotFiniteError, first_off_grid, is_on_grid, snap_to_grid

finite = st.floats(-(2.0**100), 2.0**100, width=32)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 40)), elements=finite)


def random_vectors(num, dim, seed=0):
    return snap_to_grid(np.random.default_rng(seed).standard_normal((num, dim)).astype(np.float32))


@given(matrices)
def test_every_row_lies_on_the_grid_inside_the_unit_ball(vectors):
    snapped = snap_to_grid(vectors)
    steps = snapped.astype(np.float64) * GRID_STEPS
    assert snapped.dtype == np.float32 and snapped.shape == vectors.shape
    assert np.array_equal(steps, np.rint(steps))
    assert (np.square(snapped.astype(np.float64)).sum(axis=1) <= 1.0).all()
    assert is_on_grid(snapped)


@given(matrices)
def test_every_coordinate_is_truncated_towards_zero_by_less_than_one_step(vectors):
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    units = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    short_of = np.abs(units) - np.abs(snap_to_grid(vectors).astype(np.float64))
    assert (short_of > -1e-12).all()
    assert (short_of < 1 / GRID_STEPS + 1e-12).all()
    assert (units * snap_to_grid(vectors) >= 0).all()


@given(matrices)
def test_a_row_does_not_depend_on_its_neighbours(vectors):
    alone = np.concatenate([snap_to_grid(vectors[i : i + 1]) for i in range(len(vectors))])
    assert alone.tobytes() == snap_to_grid(vectors).tobytes()


@given(matrices, st.randoms(use_true_random=False))
def test_float32_products_are_the_exact_ones_in_any_order_of_the_coordinates(vectors, random):
    snapped = snap_to_grid(vectors)
    exact = snapped.astype(np.float64) @ snapped.astype(np.float64).T
    shuffled = snapped[:, random.sample(range(snapped.shape[1]), snapped.shape[1])]
    assert np.array_equal((shuffled @ shuffled.T).astype(np.float64), exact)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_products_have_the_same_bits_in_every_block_shape(user_block, item_block, seed):
    users, items = random_vectors(70, 128, seed), random_vectors(70, 128, seed + 1)
    whole = (users.astype(np.float64) @ items.astype(np.float64).T).astype(np.float32)
    blocks = np.empty_like(whole)
    for u in range(0, 70, user_block):
        for i in range(0, 70, item_block):
            blocks[u : u + user_block, i : i + item_block] = users[u : u + user_block] @ items[i : i + item_block].T
    assert np.array_equal(whole, blocks)


@pytest.mark.parametrize("dim", [1, 384, 4096])
def test_parallel_and_opposite_vectors_stay_exact(dim):
    vectors = np.concatenate([random_vectors(5, dim), -random_vectors(5, dim), np.eye(1, dim, dtype=np.float32)])
    exact = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    assert np.array_equal((vectors @ vectors.T).astype(np.float64), exact)


def test_values_worked_out_by_hand():
    vectors = np.array([[3, 4], [0, 0], [-2, 0], [1, -1]], dtype=np.float32)
    # 0.6 * 4096 = 2457.6, 0.8 * 4096 = 3276.8, 4096 / sqrt(2) = 2896.3
    wanted = np.array([[2457, 3276], [0, 0], [-4096, 0], [2896, -2896]], dtype=np.float32) / 4096
    assert snap_to_grid(vectors).tobytes() == wanted.tobytes()


def test_very_long_and_very_short_rows_keep_their_direction():
    vectors = np.array([[3e38, 0], [1e-45, 0], [3e38, 3e38]], dtype=np.float32)
    assert np.array_equal(snap_to_grid(vectors) * 4096, [[4096, 0], [4096, 0], [2896, 2896]])


def test_zero_has_no_sign():
    assert not np.signbit(snap_to_grid(np.array([[-1e-9, 1.0], [-0.0, 0.0]], dtype=np.float32))).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_the_row_that_is_no_number(bad):
    vectors = np.ones((5, 3), dtype=np.float32)
    vectors[3, 1] = bad
    with pytest.raises(NotFiniteError, match=r"row 3 holds NaN or infinity \(1 of 5") as raised:
        snap_to_grid(vectors)
    assert raised.value.row == 3


def test_refuses_a_single_vector():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        snap_to_grid(np.ones(3, dtype=np.float32))


def test_no_rows_are_on_the_grid():
    assert snap_to_grid(np.empty((0, 4), dtype=np.float32)).shape == (0, 4)
    assert is_on_grid(np.empty((0, 4), dtype=np.float32))


@pytest.mark.parametrize(
    "row",
    [[0.3, 0.0], [1.0, 1 / 4096], [np.nan, 0.0], [np.inf, 0.0], [2.0, 0.0], [2.0**-13, 0.0], [1e-30, 0.0]],
    ids=str,
)
def test_sees_a_row_off_the_grid(row):
    # [1, 1/4096] has the squared norm 2^24 + 1 in steps: float32 would round it to 2^24 and let it pass.
    assert first_off_grid(np.array([[0.5, 0.5], row], dtype=np.float32)) == 1
