"""Capped lists and barred items equal those of a plain walk down each user's whole order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.kernels import caps as capping
from recsys_spark.kernels import top_k as kernel
from recsys_spark.kernels import top_k_gpu as gpu_kernel
from recsys_spark.kernels.caps import Caps, find_capped
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.item_matrix import item_matrix
from recsys_spark.kernels.oracle import oracle_keys
from recsys_spark.kernels.top_k import TopLists, Users, find_top_k, readmit
from recsys_spark.kernels.top_k_gpu import DeviceItems, find_top_k_on
from tests.unit.test_top_k import PRODUCTS, as_lists, worlds

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def walk(users, items, places, allowed, groups, most, top_k):
    """Down all items in order of (-score, place), passing over what is not allowed and what a cap forbids."""
    scores = users.astype(np.float64) @ items.astype(np.float64).T
    lists = []
    for row_scores, is_allowed in zip(scores, allowed, strict=True):
        listed = []
        for item in np.lexsort((places, -row_scores)):
            counts = [sum(cap[item] == cap[other] for other, _ in listed) for cap in groups]
            is_open = all(
                cap[item] < 0 or count < limit for cap, count, limit in zip(groups, counts, most, strict=True)
            )
            if is_allowed[item] and is_open and len(listed) < top_k:
                listed.append((item, row_scores[item]))
        lists.append([(int(places[item]), float(score)) for item, score in listed])
    return lists


def bits_of(is_barred_GI, places, matrix):
    """Bits of the item matrix's rows from flags of the items, in the order in which these were added."""
    item_of_place = np.argsort(places)
    rows_GN = np.zeros((len(is_barred_GI), len(matrix.steps_ND)), dtype=np.uint8)
    rows_GN[:, : matrix.num_items] = is_barred_GI[:, item_of_place[matrix.place_N[: matrix.num_items]]]
    return np.packbits(rows_GN, axis=1, bitorder="little")


class World:
    """A drawn world with segments of users, barred items, and groups."""

    def __init__(self, drawn, seed, share_barred, num_groups, num_caps):
        random = np.random.default_rng(seed)
        self.users, self.items, self.places, item_idx, excluded = drawn
        num_users, num_items = len(self.users), len(self.items)
        self.matrix = item_matrix(self.items, self.places, item_idx)
        self.is_barred_GI = random.random((3, num_items)) < np.array([[0], [share_barred], [1]])
        self.segments = random.integers(0, 3, num_users)
        pairs = np.array(sorted(excluded), dtype=np.int64).reshape(-1, 2)
        self.pairs = Exclusions.from_pairs(pairs[:, 0], pairs[:, 1], self.matrix, num_users=num_users)
        self.excluded = self.pairs.barring(self.segments, bits_of(self.is_barred_GI, self.places, self.matrix))
        self.is_open = ~self.is_barred_GI[self.segments]
        self.allowed = self.is_open & ~np.array(
            [[(user, idx) in excluded for idx in item_idx] for user in range(num_users)]
        )
        self.groups = random.integers(-1, num_groups, (num_caps, num_items))
        by_place = np.empty_like(self.groups)
        by_place[:, self.places] = self.groups
        self.caps = Caps.of(by_place.astype(np.int32), self.matrix)
        self.most = random.integers(1, 5, num_caps)

    def walk(self, allowed, top_k, capped):
        groups, most = (self.groups, self.most) if capped else ((), ())
        return walk(self.users, self.items, self.places, allowed, groups, most, top_k)


def find_on_gpu_path(users, matrix, *, top_k, excluded):
    return find_top_k_on(users.vectors_UD, DeviceItems.of(matrix, DEVICE), top_k=top_k, excluded=excluded)


def find_by(name):
    def find(users, matrix, *, top_k, excluded):
        return find_top_k(users, matrix, top_k=top_k, products=PRODUCTS[name], excluded=excluded)

    return find


FINDS = [find_by("8 bits"), find_by("torch"), find_on_gpu_path]


@settings(max_examples=150, deadline=None)
@given(worlds(), st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 70), st.sampled_from([8, 16, 4096]),
       st.sampled_from(FINDS))  # fmt: skip
def test_barred_items_are_in_no_list_and_are_not_readmitted(drawn, seed, share, top_k, tile_items, find):
    world = World(drawn, seed, share, 1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_kernel, "TILE_ITEMS", tile_items)
        for name in ("COARSE_TILE", "EXACT_TILE"):
            patch.setattr(kernel, name, kernel.TileShape(256, tile_items))
        ready = Users.of(world.users, dim=world.matrix.dim)
        lists = find(ready, world.matrix, top_k=top_k, excluded=world.excluded)
    only_barred = Exclusions.none(len(world.users)).barring(world.segments, world.excluded.barred_GB)
    again = readmit(lists, ready, world.matrix, world.excluded.pairs_beyond(only_barred))
    assert as_lists(lists) == world.walk(world.allowed, top_k, capped=False)
    assert as_lists(again) == world.walk(world.is_open, top_k, capped=False)


@settings(max_examples=250, deadline=None)
@given(worlds(), st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 2), st.integers(1, 40),
       st.sampled_from([1, 2]), st.sampled_from([1, 64]), st.sampled_from(FINDS))  # fmt: skip
def test_capped_lists_equal_a_walk_down_the_order(drawn, seed, num_groups, num_caps, top_k, fetch, bits, find):
    world = World(drawn, seed, 0.2, num_groups, num_caps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capping, "FETCH", fetch)
        patch.setattr(capping, "MAX_BITS_BYTES", bits)
        lists = find_capped(
            lambda users, length, excluded: find(users, world.matrix, top_k=length, excluded=excluded),
            Users.of(world.users, dim=world.matrix.dim), world.matrix, top_k=top_k, excluded=world.excluded,
            caps=world.caps, most_C=world.most,
        )  # fmt: skip
    assert as_lists(lists) == world.walk(world.allowed, top_k, capped=True)


@settings(max_examples=100, deadline=None)
@given(worlds(), st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 2), st.integers(1, 40), st.booleans())
def test_the_oracle_of_a_checked_run_walks_down_the_order_too(drawn, seed, num_groups, num_caps, top_k, capped):
    world = World(drawn, seed, 0.2, num_groups, num_caps)
    keys = oracle_keys(
        world.users, world.matrix, top_k=top_k, excluded=world.excluded, caps=world.caps if capped else None,
        most_C=world.most,
    )  # fmt: skip
    assert as_lists(TopLists(keys)) == world.walk(world.allowed, top_k, capped=capped)


def test_counts_of_what_is_excluded():
    items = item_matrix(np.zeros((20, 1), np.float32), np.arange(20), np.arange(20))
    pairs = Exclusions.from_pairs(np.array([0, 0, 2]), np.array([3, 4, 3]), items, num_users=3)
    barred = np.zeros((2, 20), dtype=bool)
    barred[1, [3, 5, 6]] = True
    excluded = pairs.barring(np.array([0, 1, 1]), bits_of(barred, np.arange(20), items))
    assert excluded.num_barred().tolist() == [0, 3, 3]
    assert excluded.num_pairs().tolist() == [2, 0, 1]
    none = Exclusions.none(3)
    assert pairs.pairs_beyond(excluded).num_pairs().tolist() == [0, 0, 0]
    assert pairs.pairs_beyond(none.barring(excluded.segments_U, excluded.barred_GB)).num_pairs().tolist() == [2, 0, 0]
