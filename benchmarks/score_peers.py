"""Measures one peer on one world: python benchmarks/score_peers.py NAME WORLD --top-k 100.

Each peer is written as its user would write it, without our exclusions: the usual way to leave seen items out is to
fetch as many more as anybody has seen, and to drop them. faiss and implicit run in an environment of their own
(score_peers.in), numpy and torch in the platform's. Prints one JSON line with the recall of the lists, since a peer
that rounds or cuts corners may be fast.

Axes: U users, N items, D dimensions, K list length, E seen items per user, F = K + E fetched items.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.measure import best_seconds, num_threads, print_row
from benchmarks.oracle import Lists, recall
from benchmarks.vectors import IntArray, World

CHECKED_USERS = 200
BATCH_USERS: Final = 1024
"""Users at a time where a peer would otherwise fill the memory with scores."""


def faiss_whole(world: World, top_k: int) -> Lists:
    """Exact inner products by IndexFlatIP, all users in one search."""
    import faiss

    faiss.omp_set_num_threads(num_threads())
    index = faiss.IndexFlatIP(world.items_ND.shape[1])
    index.add(world.items_ND)
    scores_UF, items_UF = index.search(world.users_UD, top_k + world.seen_UE.shape[1])
    return drop_seen(items_UF, scores_UF, world.seen_UE, top_k)


def faiss_batches(world: World, top_k: int) -> Lists:
    """The same, some users at a time."""
    import faiss

    faiss.omp_set_num_threads(num_threads())
    index = faiss.IndexFlatIP(world.items_ND.shape[1])
    index.add(world.items_ND)
    fetched = top_k + world.seen_UE.shape[1]
    return in_batches(world, top_k, lambda users_SD: index.search(users_SD, fetched)[::-1])


def implicit_recommend(world: World, top_k: int) -> Lists:
    """A model of implicit that has these factors, with its own filter of items already liked."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    model = AlternatingLeastSquares(factors=world.items_ND.shape[1], num_threads=num_threads())
    model.user_factors, model.item_factors = world.users_UD, world.items_ND
    num_users, num_seen = world.seen_UE.shape
    offsets = np.arange(0, num_users * num_seen + 1, num_seen)
    ones = np.ones(world.seen_UE.size, dtype=np.float32)
    liked = csr_matrix((ones, world.seen_UE.ravel(), offsets), shape=(num_users, len(world.items_ND)))
    rows = np.arange(num_users)
    items_UK, scores_UK = model.recommend(rows, liked, N=top_k, filter_already_liked_items=True)
    return Lists(rows, items_UK, scores_UK)


def numpy_partition(world: World, top_k: int) -> Lists:
    """A product and `argpartition` of every full row."""
    fetched = top_k + world.seen_UE.shape[1]

    def search(users_SD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores_SN = users_SD @ world.items_ND.T
        items_SF = np.argpartition(scores_SN, -fetched, axis=1)[:, -fetched:]
        scores_SF = np.take_along_axis(scores_SN, items_SF, axis=1)
        order_SF = np.argsort(-scores_SF, axis=1)
        return np.take_along_axis(items_SF, order_SF, axis=1), np.take_along_axis(scores_SF, order_SF, axis=1)

    return in_batches(world, top_k, search)


def torch_topk(world: World, top_k: int) -> Lists:
    """A product and `topk` of every full row."""
    import torch

    torch.set_num_threads(num_threads())
    items_ND = torch.from_numpy(world.items_ND)
    fetched = top_k + world.seen_UE.shape[1]

    def search(users_SD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores_SF, items_SF = torch.topk(torch.mm(torch.from_numpy(users_SD), items_ND.T), fetched)
        return items_SF.numpy(), scores_SF.numpy()

    return in_batches(world, top_k, search)


PEERS: Final[dict[str, Callable[[World, int], Lists]]] = {
    "faiss": faiss_whole,
    "faiss-batches": faiss_batches,
    "implicit": implicit_recommend,
    "numpy": numpy_partition,
    "torch": torch_topk,
}
OF_THE_PLATFORM: Final = ("numpy", "torch")
"""Peers whose library the platform's own environment has."""


def in_batches(world: World, top_k: int, search: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Lists:
    """Fetch (items, scores) for some users at a time and drop what they have seen."""
    parts = []
    for first in range(0, len(world.users_UD), BATCH_USERS):
        block = slice(first, first + BATCH_USERS)
        parts.append(drop_seen(*search(world.users_UD[block]), world.seen_UE[block], top_k))
    items_UK = np.concatenate([part.items_RK for part in parts])
    return Lists(np.arange(len(items_UK)), items_UK, np.concatenate([part.scores_RK for part in parts]))


def drop_seen(items_UF: IntArray, scores_UF: np.ndarray, seen_UE: IntArray, top_k: int) -> Lists:
    """The first K fetched items of each user that are not among the seen ones, in their order."""
    rows_U1 = np.arange(len(items_UF), dtype=np.int64)[:, None] << 32
    is_seen_UF = np.isin(rows_U1 | items_UF, rows_U1 | seen_UE)
    keep_UK = np.argsort(is_seen_UF, axis=1, kind="stable")[:, :top_k]
    items_UK, scores_UK = np.take_along_axis(items_UF, keep_UK, axis=1), np.take_along_axis(scores_UF, keep_UK, axis=1)
    return Lists(np.arange(len(items_UK)), items_UK, scores_UK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("world", type=Path)
    parser.add_argument("--top-k", type=int, default=100)
    options = parser.parse_args()
    world = World.load(options.world)
    print_row(lambda: measure_peer(PEERS[options.peer], world, options.top_k))


def measure_peer(search: Callable[[World, int], Lists], world: World, top_k: int) -> dict[str, Any]:
    seconds, lists = best_seconds(lambda: search(world, top_k))
    return {"seconds": seconds, "recall": recall(world, lists.sample(CHECKED_USERS))}


if __name__ == "__main__":
    main()
