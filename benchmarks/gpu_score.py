"""The search on a GPU against the float32 product on the same GPU, and against what a user would write with torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks.gpu_rows import GpuRow, median_seconds
from benchmarks.score_rows import Size
from benchmarks.vectors import World, around, make_world
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.grid import Float32Array
from recsys_spark.kernels.item_matrix import ItemMatrix, item_matrix
from recsys_spark.kernels.oracle import oracle_keys
from recsys_spark.kernels.products import fastest_products
from recsys_spark.kernels.top_k import TopLists, Users, find_top_k
from recsys_spark.kernels.top_k_gpu import DeviceItems, find_top_k_on

NUM_SEEN = 50
SIMILAR = "similar users"
"""A kind of vectors: the users are the items, and nobody has seen anything. K is one more than is listed: a user finds
itself."""
STANDARD = Size("random", users=20_000, items=50_000, dim=128, top_k=100)
SIZES = (
    STANDARD,
    replace(STANDARD, kind="clustered"),
    replace(STANDARD, kind="many_equal"),
    replace(STANDARD, kind="norms"),
    replace(STANDARD, dim=384),
    replace(STANDARD, kind="clustered", dim=384),
    replace(STANDARD, items=1_000_000, dim=64),
    Size(SIMILAR, users=20_000, items=20_000, dim=128, top_k=51),
)
_SEGMENTS, _SHARE_BARRED = 16, 0.2
_LITTLE_GIB = 1
_CHECKED_BY_ORACLE = 20
_CHECKED_BY_PROCESSOR = 1_000
_LIMIT_TILES = ((4096, 8192), (4096, 65_536), (20_000, 50_000))


def score_rows(device: torch.device, sizes: tuple[Size, ...] = SIZES) -> Iterator[GpuRow]:
    """Ours and its yardsticks for every size; for the first one also with rules, and with little memory."""
    limits: dict[Size, float] = {}
    for size in sizes:
        world = _make_world(size)
        shape = replace(size, kind="")
        if shape not in limits:
            limits[shape], tile = _fastest_product(world, device)
            yield GpuRow("score", "limit: float32 product alone", str(size), limits[shape], 1.0, tile)
            seconds, _ = median_seconds(partial(_as_users_write_it, world, size.top_k, device))
            yield GpuRow("score", "torch.mm and topk", str(size), seconds, seconds / limits[shape])
        matrix = item_matrix(world.items_ND, world.places_N, np.arange(size.items))
        rows = np.repeat(np.arange(size.users), world.seen_UE.shape[1])
        seen = Exclusions.from_pairs(rows, world.seen_UE.ravel(), matrix, num_users=size.users)
        measure = partial(_measure_ours, world.users_UD, matrix, size, limits[shape], device)
        yield measure("ours", seen)
        if size == sizes[0]:
            yield measure(f"ours, {_SEGMENTS} segments, {_SHARE_BARRED:.0%} barred", _bar(seen, matrix))
            with _little_memory(device):
                yield measure(f"ours, {_LITTLE_GIB} GiB of the GPU's memory free", seen)


def _make_world(size: Size) -> World:
    if size.kind != SIMILAR:
        return make_world(size.kind, num_users=size.users, num_items=size.items, dim=size.dim, num_seen=NUM_SEEN)
    users_UD = make_world("clustered", num_users=size.users, num_items=1, dim=size.dim, num_seen=0).users_UD
    return around(users_UD, users_UD, num_seen=0)


def _bar(excluded: Exclusions, matrix: ItemMatrix) -> Exclusions:
    """The same pairs, and for each segment of users other barred items."""
    rng = np.random.default_rng(0)
    is_barred_GN = rng.random((_SEGMENTS, len(matrix.steps_ND)), dtype=np.float32) < _SHARE_BARRED
    segments_U = rng.integers(0, _SEGMENTS, excluded.num_users)
    return excluded.barring(segments_U, np.packbits(is_barred_GN, axis=1, bitorder="little"))


@contextmanager
def _little_memory(device: torch.device) -> Iterator[None]:
    """Somebody else holds all but `_LITTLE_GIB` of the GPU's memory."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    taken = torch.empty(free - _LITTLE_GIB * 2**30, dtype=torch.uint8, device=device)
    try:
        yield
    finally:
        del taken
        torch.cuda.empty_cache()


def _measure_ours(
    users_UD: Float32Array,
    matrix: ItemMatrix,
    size: Size,
    limit: float,
    device: torch.device,
    name: str,
    excluded: Exclusions,
) -> GpuRow:
    """From users in the machine's memory to lists there; the items stand on the GPU, as for a worker's later blocks."""
    sending, items = median_seconds(lambda: DeviceItems.of(matrix, device), runs=1)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    seconds, lists = median_seconds(
        lambda: find_top_k_on(users_UD, items, top_k=size.top_k, excluded=excluded), runs=11
    )
    peak = (torch.cuda.max_memory_allocated(device) - before) / 2**30
    _require_exact(lists, users_UD, matrix, excluded)
    note = f"{peak:.1f} GiB at most; items sent once in {sending * 1000:.0f} ms"
    return GpuRow("score", name, str(size), seconds, seconds / limit, note)


def _require_exact(lists: TopLists, users_UD: Float32Array, matrix: ItemMatrix, excluded: Exclusions) -> None:
    """Raise AssertionError unless lists are those of the processor's search and of float64, bit for bit."""
    top_k = lists.keys_UK.shape[1]
    some = np.arange(min(_CHECKED_BY_PROCESSOR, len(users_UD)))
    users, products = Users.of(users_UD[some], dim=matrix.dim), fastest_products(matrix.dim)
    wanted = find_top_k(users, matrix, top_k=top_k, products=products, excluded=excluded.of_users(some))
    np.testing.assert_array_equal(lists.keys_UK[some], wanted.keys_UK)
    few = np.linspace(0, len(users_UD) - 1, _CHECKED_BY_ORACLE).astype(np.int64)
    wanted_UK = oracle_keys(
        users_UD[few], matrix, top_k=top_k, excluded=excluded.of_users(few), caps=None, most_C=np.empty(0, np.int64)
    )
    np.testing.assert_array_equal(lists.keys_UK[few], wanted_UK)


def _fastest_product(world: World, device: torch.device) -> tuple[float, str]:
    """Seconds of all products into memory that stands ready, vectors on the GPU, TF32 off; and the best tile."""
    torch.set_float32_matmul_precision("highest")
    users_UD, items_ND = torch.from_numpy(world.users_UD).to(device), torch.from_numpy(world.items_ND).to(device)

    def multiply(tile: tuple[int, int], ready: torch.Tensor) -> None:
        for users_SD in users_UD.split(tile[0]):
            for items_TD in items_ND.split(tile[1]):
                out_ST = ready[: len(users_SD) * len(items_TD)].view(len(users_SD), -1)
                torch.mm(users_SD, items_TD.T, out=out_ST)

    found = []
    for tile in _LIMIT_TILES:
        ready = torch.empty(tile[0] * tile[1], device=device)
        found.append((median_seconds(partial(multiply, tile, ready))[0], tile))
    seconds, tile = min(found)
    return seconds, f"tiles of {tile[0]:,} x {tile[1]:,}"


def _as_users_write_it(world: World, top_k: int, device: torch.device) -> torch.Tensor:
    """Blocks of users against all items: product, seen items blanked, topk; in no order of ties."""
    items_ND, seen_UE = torch.from_numpy(world.items_ND).to(device), torch.from_numpy(world.seen_UE).long()
    block = max(1, 2**28 // len(items_ND))  # 1 GiB of scores
    lists = []
    for users_SD, seen_SE in zip(torch.from_numpy(world.users_UD).split(block), seen_UE.split(block), strict=True):
        scores_SN = users_SD.to(device) @ items_ND.T
        scores_SN.scatter_(1, seen_SE.to(device), -torch.inf)
        lists.append(scores_SN.topk(top_k).indices.cpu())
    return torch.cat(lists)
