"""The kernel's lists equal those of a brute-force oracle in float64, whatever tiles, products, ties, exclusions."""

import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from recsys_spark.kernels import item_matrix as matrices
from recsys_spark.kernels import top_k as kernel
from recsys_spark.kernels import top_k_gpu as gpu_kernel
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.grid import snap_to_grid
from recsys_spark.kernels.item_matrix import ItemMatrixBuilder, coarsen, item_bytes, item_matrix, open_item_matrix
from recsys_spark.kernels.products import EXACT_PRODUCTS, Products, fastest_products
from recsys_spark.kernels.scan import Guess
from recsys_spark.kernels.top_k import Users, find_top_k, readmit, search_bytes
from recsys_spark.kernels.top_k_gpu import DeviceItems, find_top_k_on

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRODUCTS = {
    "8 bits": Products(True, "numpy"),
    **{name: Products(False, name) for name, speed in fastest_products(32).speeds if speed and name in EXACT_PRODUCTS},
}


def oracle(users, items, places, item_idx, excluded, top_k):
    """All pairs in float64, sorted whole: for each user [(place, score), …], best first."""
    scores = users.astype(np.float64) @ items.astype(np.float64).T
    column_of = {int(idx): column for column, idx in enumerate(item_idx)}
    left_out = [[] for _ in users]
    for row, idx in excluded:
        left_out[row] += [column_of[idx]] if idx in column_of else []
    lists = []
    for row_scores, columns in zip(scores, left_out, strict=True):
        is_allowed = ~np.isin(np.arange(len(items)), columns)
        best = [column for column in np.lexsort((places, -row_scores)) if is_allowed[column]][:top_k]
        lists.append([(int(places[column]), float(row_scores[column])) for column in best])
    return lists


def as_lists(top):
    """TopLists as the oracle writes them."""
    pairs = [*zip(top.places_P.tolist(), top.scores_P.tolist(), strict=True)]
    ends = np.cumsum(top.counts_U)
    return [pairs[end - count : end] for end, count in zip(ends, top.counts_U, strict=True)]


GPU = "the GPU's path"
WAYS = [*PRODUCTS, GPU]


def run(users, items, places, item_idx, excluded, top_k, way="8 bits"):
    """Both lists of the kernel: (without excluded pairs, with them)."""
    matrix = item_matrix(items, places, item_idx)
    pairs = np.array(sorted(excluded), dtype=np.int64).reshape(-1, 2)
    csr = Exclusions.from_pairs(pairs[:, 0], pairs[:, 1], matrix, num_users=len(users))
    ready = Users.of(users, dim=matrix.dim)
    if way == GPU:
        lists = find_top_k_on(users, DeviceItems.of(matrix, DEVICE), top_k=top_k, excluded=csr)
    else:
        lists = find_top_k(ready, matrix, top_k=top_k, products=PRODUCTS[way], excluded=csr)
    return as_lists(lists), as_lists(readmit(lists, ready, matrix, csr))


@st.composite
def worlds(draw):
    """Users and items with many equal and zero vectors, places and item_idx in a random order, some pairs excluded."""
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
    item_idx = random.permutation(num_items * 2)[:num_items]
    share = draw(st.sampled_from([0.0, 0.2, 1.0]))
    excluded = {(u, i) for u in range(num_users) for i in range(num_items * 2) if random.random() < share * (u % 3) / 2}
    return users, items, random.permutation(num_items), item_idx, excluded


@settings(max_examples=300, deadline=None)
@given(worlds(), st.integers(1, 70), st.sampled_from([8, 16, 4096]), st.integers(1, 9), st.sampled_from(WAYS))
def test_lists_equal_the_oracle_for_every_tile_and_way(world, top_k, tile_items, tile_users, way):
    users, items, places, item_idx, excluded = world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_kernel, "TILE_PAIRS", tile_items * tile_users)
        patch.setattr(gpu_kernel, "TILE_ITEMS", tile_items)
        patch.setattr(gpu_kernel, "TILE_USERS", tile_users)
        for name in ("COARSE_TILE", "EXACT_TILE"):
            patch.setattr(kernel, name, kernel.TileShape(tile_users, tile_items))
        without, with_excluded = run(users, items, places, item_idx, excluded, top_k, way)
    assert without == oracle(users, items, places, item_idx, excluded, top_k)
    assert with_excluded == oracle(users, items, places, item_idx, set(), top_k)


def make_vectors(kind, random, num_users, num_items, dim):
    """Users and items of one kind, as they come before they are snapped."""
    if kind == "clustered":
        centres = random.standard_normal((30, dim))
        return [
            centres[random.integers(0, 30, num)] + 0.5 * random.standard_normal((num, dim))
            for num in (num_users, num_items)
        ]
    users, items = (random.standard_normal((num, dim)) for num in (num_users, num_items))
    if kind == "many equal":
        items = items[random.integers(0, 5, num_items)]
    if kind == "all equal":
        items[:] = items[0]
    if kind == "huge and tiny":
        items *= 10.0 ** random.integers(-30, 30, num_items)[:, None]
        users *= 10.0 ** random.integers(-300, 300, num_users)[:, None]
    if kind == "short":  # a third shortened after they were snapped, down to zero
        items = snap_to_grid(items)
        items[::3] = np.trunc(items[::3] * 2.0 ** random.uniform(-14, 0, (len(items[::3]), 1)) * 4096) / 4096
    if kind == "spikes":  # one large coordinate, which leaves the others few of the 8 bits
        items[np.arange(num_items), random.integers(0, dim, num_items)] += random.choice([0, 300], num_items)
    return users, items


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["random", "clustered", "many equal", "all equal", "huge and tiny", "short", "spikes"])
def test_vectors_of_all_kinds_equal_the_oracle(kind, way, monkeypatch):
    """Large enough for several tiles of both sides, with 12 excluded items per user."""
    monkeypatch.setattr(gpu_kernel, "TILE_USERS", 256)
    monkeypatch.setattr(gpu_kernel, "TILE_PAIRS", 256 * 4096)
    random = np.random.default_rng(7)
    users, items = make_vectors(kind, random, 300, 9000, 30)
    users, items = snap_to_grid(users), items.astype(np.float32) if kind == "short" else snap_to_grid(items)
    excluded = {(u, int(i)) for u in range(300) for i in random.integers(0, 9000, 12)}
    world = users, items, random.permutation(9000), random.permutation(9000)
    without, with_excluded = run(*world, excluded, 40, way)
    assert without == oracle(*world, excluded, 40)
    assert with_excluded == oracle(*world, set(), 40)


@pytest.mark.parametrize("way", WAYS)
def test_lists_do_not_depend_on_the_number_of_threads(way):
    random = np.random.default_rng(8)
    users, items = (snap_to_grid(vectors) for vectors in make_vectors("many equal", random, 300, 9000, 64))
    world = users, items, random.permutation(9000), random.permutation(9000), set(), 40, way
    before, found = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            with threadpool_limits(num_threads):
                found.append(run(*world))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_the_order_of_the_items_does_not_matter():
    random = np.random.default_rng(2)
    users, items = (snap_to_grid(random.standard_normal((num, 16))) for num in (70, 9000))
    places, item_idx = random.permutation(9000), random.permutation(9000)
    best_last = np.argsort(users[0] @ items.T)
    shuffled = run(users, items[best_last], places[best_last], item_idx[best_last], set(), 20)
    assert shuffled == run(users, items, places, item_idx, set(), 20)


@pytest.mark.parametrize("products", [*PRODUCTS])
def test_guesses_that_were_too_high_are_found_out(products, monkeypatch):
    """Every user is held to the best item of the first tile, so no list is full."""
    monkeypatch.setattr(kernel._Search, "_guess", lambda self, start, stop: Guess(1, start == 0))
    again = []
    monkeypatch.setattr(
        Users, "of_rows", lambda self, rows, of=Users.of_rows: again.append(len(rows)) or of(self, rows)
    )
    random = np.random.default_rng(4)
    users, items = (snap_to_grid(random.standard_normal((num, 16))) for num in (40, 9000))
    world = users, items, random.permutation(9000), random.permutation(9000)
    excluded = {(u, int(i)) for u in range(40) for i in random.integers(0, 9000, 12)}
    assert run(*world, excluded, 30, products)[0] == oracle(*world, excluded, 30)
    assert again == [40]


def test_usual_guesses_are_seldom_too_high():
    random = np.random.default_rng(5)
    users, items = (snap_to_grid(random.standard_normal((num, 16))) for num in (400, 20_000))
    matrix = item_matrix(items, np.arange(20_000), np.arange(20_000))
    search = kernel._Search(Users.of(users, dim=16), matrix, 50, PRODUCTS["8 bits"], Exclusions.none(400))
    _, is_proven = search.run(with_guesses=True)
    assert is_proven.sum() > 380


@pytest.mark.parametrize("copies, rounds", [(1, [1]), (60, [1, 4]), (300, [1, 4, None])])
def test_the_gpu_searches_again_where_equal_items_leave_a_list_unproven(copies, rounds, monkeypatch):
    """Lists of 10 have 36 candidates at first, then 144, then all items; 9,000 items are `copies` of each vector."""
    searched = []

    def search(*arguments, times, of=gpu_kernel._search):
        searched.append(times)
        return of(*arguments, times=times)

    monkeypatch.setattr(gpu_kernel, "_search", search)
    random = np.random.default_rng(6)
    users, items = (snap_to_grid(random.standard_normal((num, 16))) for num in (40, 9000 // copies))
    world = users, np.repeat(items, copies, axis=0), random.permutation(9000), random.permutation(9000)
    assert run(*world, set(), 10, GPU)[0] == oracle(*world, set(), 10)
    assert searched == rounds


def test_items_that_do_not_fit_on_the_device_are_sent_in_tiles():
    random = np.random.default_rng(8)
    users, items = (snap_to_grid(random.standard_normal((num, 16))) for num in (40, 900))
    matrix = item_matrix(items, np.arange(900), np.arange(900))
    here = DeviceItems.of(matrix, DEVICE)
    there = replace(here, steps_ND=here.steps_ND.cpu(), place_N=here.place_N.cpu())
    found = [find_top_k_on(users, held, top_k=9, excluded=Exclusions.none(40)).keys_UK for held in (here, there)]
    np.testing.assert_array_equal(*found)


def test_vectors_that_may_not_be_written_are_searched_without_a_warning():
    """A worker's are: they lie in Arrow's memory. torch warns once per process, unless it is told to do so always."""
    users, items = (snap_to_grid(np.random.default_rng(3).standard_normal((num, 16))) for num in (4, 90))
    matrix = item_matrix(items, np.arange(90), np.arange(90))
    users.flags.writeable = False
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            find_top_k_on(users, DeviceItems.of(matrix, DEVICE), top_k=9, excluded=Exclusions.none(4))
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize(("free_gib", "pairs"), [(80, 2**30), (4, 4 * 2**30 // 10)])
def test_tiles_on_a_device_leave_half_of_its_free_memory_to_others(free_gib, pairs, monkeypatch):
    """Memory that torch keeps for itself counts as free."""
    told = {"mem_get_info": ((free_gib - 1) * 2**30, 0), "memory_reserved": 3 * 2**30, "memory_allocated": 2 * 2**30}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert gpu_kernel._tile_pairs(torch.device("cuda")) == pairs


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4, 64]))
def test_the_error_of_float16_scores_is_bounded(seed, dim):
    random = np.random.default_rng(seed)
    one, other = (torch.from_numpy(snap_to_grid(random.standard_normal((50, dim)) ** 3)).to(DEVICE) for _ in range(2))
    errors = (one.half() @ other.half().T).double() - one.double() @ other.double().T
    assert errors.abs().max() <= gpu_kernel.worst_error(dim)


def test_a_user_who_has_seen_everything_gets_an_empty_list():
    users, items = snap_to_grid(np.eye(2, 4)), snap_to_grid(np.random.default_rng(1).standard_normal((50, 4)))
    excluded = {(0, i) for i in range(50)} | {(1, i) for i in range(49)}
    numbers = np.arange(50)
    without, with_excluded = run(users, items, numbers, numbers, excluded, 10)
    assert without == [[], [(49, float(users[1] @ items[49]))]]
    assert with_excluded == oracle(users, items, numbers, numbers, set(), 10)


@pytest.mark.parametrize("vector", [[0, 0, 0, 0], [1, 2, 3, 4], [-1, 0, 0, 0]], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_equal_items_are_listed_in_the_order_of_their_places(vector, way):
    users = snap_to_grid(np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    items = snap_to_grid(np.tile(np.array(vector, dtype=np.float32), (9000, 1)))
    places = np.random.default_rng(3).permutation(9000)
    without, _ = run(users, items, places, places, {(0, 0), (0, 2)}, 4, way)
    assert [[place for place, _ in best] for best in without] == [[1, 3, 4, 5], [0, 1, 2, 3]]


def test_a_list_is_short_when_items_are_few_and_full_when_seen_items_are_many():
    items = snap_to_grid(np.random.default_rng(5).standard_normal((200, 4)))
    users, numbers = items[:1], np.arange(200)
    seen = {(0, int(i)) for i in np.argsort(-(users @ items.T)[0])[:150]}  # the 150 best
    short, _ = run(users, items, numbers, numbers, seen, 80)
    full, _ = run(users, items, numbers, numbers, seen, 50)
    assert len(short[0]) == 50
    assert full == short == oracle(users, items, numbers, numbers, seen, 50)


@pytest.mark.parametrize("way", WAYS)
def test_worked_out_by_hand(way):
    users = np.array([[1.0, 0.0]], dtype=np.float32)
    items = np.array([[0.5, 0], [-0.5, 0], [0.5, 0.5], [0, 1], [1, 0]], dtype=np.float32)
    places, item_idx = np.array([4, 0, 1, 2, 3]), np.array([0, 10, 20, 30, 40])
    without, with_excluded = run(users, items, places, item_idx, {(0, 40), (0, 7), (0, 99), (0, -1)}, 4, way)
    assert without == [[(1, 0.5), (4, 0.5), (2, 0.0), (0, -0.5)]]
    assert with_excluded == [[(3, 1.0), (1, 0.5), (4, 0.5), (2, 0.0)]]


def test_no_users_give_no_lists():
    matrix = item_matrix(snap_to_grid(np.eye(4)), np.arange(4), np.arange(4))
    nobody = Users.of(np.empty((0, 4), dtype=np.float32), dim=4)
    assert as_lists(find_top_k(nobody, matrix, top_k=3, products=PRODUCTS["8 bits"], excluded=Exclusions.none(0))) == []


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 12)), max_size=60), st.permutations(range(5)))
def test_exclusions_are_the_distinct_known_pairs_in_order(pairs, chosen):
    matrix = item_matrix(snap_to_grid(np.eye(8)), np.arange(8), np.arange(1, 9))
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    csr = Exclusions.from_pairs(users, items, matrix, num_users=5)
    wanted = [sorted({int(matrix.row_of_idx_I[i]) for v, i in pairs if v == u and 1 <= i <= 8}) for u in range(5)]

    def by_user(csr):
        return [part.tolist() for part in np.split(csr.rows_E, csr.offsets_U1[1:-1])]

    assert by_user(csr) == wanted
    assert by_user(csr.of_users(np.array(chosen))) == [wanted[u] for u in chosen]


# --- the item matrix -------------------------------------------------------------------------------------------------


def test_a_matrix_in_files_is_that_in_memory_whatever_the_blocks(tmp_path):
    random = np.random.default_rng(1)
    items, places, item_idx = (
        snap_to_grid(random.standard_normal((100, 7))),
        random.permutation(100),
        np.arange(100) * 3,
    )
    builder = ItemMatrixBuilder(places, item_idx, dim=7, folder=tmp_path)
    for start in range(0, 100, 33):
        builder.add(items[start : start + 33])
    builder.finish()
    mapped, made = open_item_matrix(tmp_path), item_matrix(items, places, item_idx)
    parts = [(*matrix.coarse, *vars(matrix).values()) for matrix in (mapped, made)]
    for of_files, in_memory in zip(*parts, strict=True):
        if not isinstance(of_files, tuple):
            assert isinstance(of_files, np.memmap)
            np.testing.assert_array_equal(of_files, in_memory)
    rows = made.row_of_idx_I[item_idx]
    np.testing.assert_array_equal(made.steps_ND[rows] / np.float32(4096), items)
    np.testing.assert_array_equal(made.place_N[rows], places)
    np.testing.assert_array_equal(made.idx_of_place_M[places], item_idx)
    held = sum(array.nbytes for array in (*made.coarse, made.steps_ND, made.place_N, made.idx_of_place_M))
    assert held + 4 * 100 <= item_bytes(104, 7)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0, 300))
def test_the_error_of_coarse_vectors_is_what_they_leave_out(seed, dim, spike):
    vectors = np.random.default_rng(seed).standard_normal((20, dim))
    vectors[:, 0] += spike
    vectors[3] = 0
    snapped = snap_to_grid(vectors)
    coarse, scale, error = coarsen(snapped)
    rest = snapped - scale[:, None].astype(np.float64) * coarse[:, :dim]
    np.testing.assert_allclose(np.linalg.norm(rest, axis=1), error, rtol=1e-6, atol=2**-23)
    assert (error <= np.sqrt(dim) / 254 * (1 + 1e-6) + 2**-23).all()
    assert not coarse[:, dim:].any() and not coarse[3].any()


EYE = np.eye(2, dtype=np.float32)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: find(EYE, top_k=0), "top_k >= 1"),
        (lambda: Users.of(EYE.astype(np.float64), dim=2), "users as float32"),
        (lambda: Users.of(EYE * np.float32(0.3), dim=2), "row 0 off the grid"),
        (lambda: Users.of(EYE * np.float32(np.nan), dim=2), "row 0 off the grid"),
        (lambda: Users.of(EYE, dim=3), "users of 3 dimensions; found 2"),
        (lambda: item_matrix(EYE * 2, np.arange(2), np.arange(2)), "row 0 off the grid"),
        (lambda: item_matrix(EYE, np.arange(3), np.arange(3)), "wanted 3 vectors; found 2"),
        (lambda: item_matrix(EYE[:, :0], np.arange(2), np.arange(2)), "1 to 16384 dimensions; found 0"),
    ],
)  # fmt: skip
def test_refuses_what_would_give_wrong_lists(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def find(vectors, *, top_k):
    matrix = item_matrix(EYE, np.arange(2), np.arange(2))
    users, none = Users.of(vectors, dim=2), Exclusions.none(len(vectors))
    return find_top_k(users, matrix, top_k=top_k, products=PRODUCTS["numpy"], excluded=none)


# --- speed and memory ------------------------------------------------------------------------------------------------


@pytest.fixture
def probe_anew():
    fastest_products.cache_clear()
    yield lambda: fastest_products(24)
    fastest_products.cache_clear()


def test_the_products_are_timed_and_the_fastest_is_named(probe_anew):
    products = probe_anew()
    speeds = dict(products.speeds)
    assert set(speeds) == {"numpy", "torch", "oneDNN", "8 bits"}
    assert speeds["numpy"] > 0 and speeds["torch"] > 0
    assert speeds[products.exact] == max(speed for name, speed in speeds.items() if name != "8 bits")
    assert products.name in (f"{products.exact} float32", f"8 bits, then {products.exact} float32")


def test_a_wrong_8_bit_product_is_not_used_however_fast(probe_anew, monkeypatch):
    monkeypatch.setattr("recsys_spark.kernels.products.multiply_coarse", lambda users, items, out: None)
    assert not probe_anew().is_coarse


def in_bfloat16(users, items, out):
    out[:] = (torch.from_numpy(users).bfloat16().float() @ torch.from_numpy(items).bfloat16().float().T).numpy()


def right_for_whole_tiles(users, items, out):
    if len(users) > 3:
        np.matmul(users, items.T, out=out)


@pytest.mark.parametrize("wrong", [in_bfloat16, right_for_whole_tiles])
def test_a_float32_product_that_is_not_exact_is_not_used(probe_anew, monkeypatch, wrong):
    monkeypatch.setitem(EXACT_PRODUCTS, "oneDNN", wrong)
    products = probe_anew()
    assert products.exact != "oneDNN" and dict(products.speeds)["oneDNN"] == 0


def test_a_product_by_onednn_leaves_torchs_precision_as_it_was():
    ones, out = np.ones((2, 4), np.float32), np.empty((2, 2), np.float32)
    EXACT_PRODUCTS["oneDNN"](ones, ones, out)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("equal", [True, False], ids=["every item ties", "random items"])
@pytest.mark.parametrize("products", ["8 bits", "numpy"])
def test_memory_stays_below_the_stated_bound(equal, products):
    random = np.random.default_rng(9)
    vectors = snap_to_grid(random.standard_normal((1500, 32)))
    items = random.standard_normal((1, 32)).repeat(6000, 0) if equal else random.standard_normal((6000, 32))
    matrix = item_matrix(snap_to_grid(items), np.arange(6000), np.arange(6000))
    rows, seen = np.repeat(np.arange(1500), 20), random.integers(0, 6000, 1500 * 20)

    def search():
        users = Users.of(vectors, dim=32)
        excluded = Exclusions.from_pairs(rows, seen, matrix, num_users=1500)
        lists = find_top_k(users, matrix, top_k=50, products=PRODUCTS[products], excluded=excluded)
        readmit(lists, users, matrix, excluded)

    search()  # compiles
    tracemalloc.start()
    search()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    bound = search_bytes(1500, dim=32, top_k=50, num_excluded=len(rows), num_segments=0)
    assert bound / 3 < peak < bound


def private_bytes():
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


@pytest.mark.parametrize("products", [name for name in ("8 bits", "numpy", "oneDNN") if name in PRODUCTS])
def test_a_catalogue_larger_than_the_memory_for_the_search_stays_in_its_file(tmp_path, products):
    random, num_items, dim = np.random.default_rng(5), 300_000, 32
    vectors = snap_to_grid(random.standard_normal((num_items, dim)))
    builder = ItemMatrixBuilder(np.arange(num_items), np.arange(num_items), dim=dim, folder=tmp_path)
    for start in range(0, num_items, 50_000):
        builder.add(vectors[start : start + 50_000])
    builder.finish()
    matrix, users = open_item_matrix(tmp_path), Users.of(vectors[:64], dim=dim)

    def search():
        return find_top_k(users, matrix, top_k=5, products=PRODUCTS[products], excluded=Exclusions.none(64))

    search()  # compiles
    before = private_bytes()
    tracemalloc.start()
    lists = search()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    bound = search_bytes(64, dim=dim, top_k=5, num_excluded=0, num_segments=0)
    assert max(peak, private_bytes() - before) < bound < item_bytes(num_items, dim) / 4
    best = (vectors[:64].astype(np.float64) @ vectors.T.astype(np.float64)).argmax(axis=1)
    assert lists.places_P.reshape(64, 5)[:, 0].tolist() == best.tolist()


def test_vectors_come_back_by_number_and_zeros_for_numbers_without_one():
    vectors = snap_to_grid(np.random.default_rng(3).standard_normal((5, 8)))
    matrix = item_matrix(vectors, np.array([4, 2, 0, 1, 3]), np.array([7, 0, 3, 9, 4]))
    found = matrix.vectors_of(np.array([[9, -1, 7], [8, 10, 0]], dtype=np.int32))
    nothing = np.zeros(8, np.float32)
    np.testing.assert_array_equal(found, [[vectors[3], nothing, vectors[0]], [nothing, nothing, vectors[1]]])


def test_the_padding_of_the_last_group_is_never_listed():
    for num_items in range(1, 2 * matrices.GROUP_ROWS + 1):
        items = -snap_to_grid(np.ones((num_items, 3)))  # worse than the zero vectors of the padding
        matrix = item_matrix(items, np.arange(num_items), np.arange(num_items))
        for products in PRODUCTS.values():
            user = Users.of(-items[:1], dim=3)
            lists = find_top_k(user, matrix, top_k=20, products=products, excluded=Exclusions.none(1))
            assert lists.places_P.tolist() == [*range(num_items)]
