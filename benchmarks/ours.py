"""Our side of the bench, through the platform's own calls: the one file to change when they change."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.oracle import Lists
from benchmarks.vectors import World
from recsys_spark import columns as c
from recsys_spark.bridges.score import score_pairs
from recsys_spark.bridges.snapshot import take_snapshot
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.item_matrix import item_matrix
from recsys_spark.kernels.products import fastest_products
from recsys_spark.kernels.top_k import Users, find_top_k
from recsys_spark.seen_rules import DROP

USER_BLOCK = 4096
"""As in conf/base.yaml, section score."""

_runs = itertools.count()


def prepare(world: World, top_k: int, *, may_be_coarse: bool = True) -> tuple[Callable[[], Lists], str]:
    """The search of every user of the world among all its items, seen ones excluded, and the products it uses.

    Without 8-bit ones (`may_be_coarse` False) it is the search of a processor that has none. The item matrix stands
    ready, as it does for every user block but the first of a machine; in Spark's rows its making is part of the time.
    """
    num_users, num_items = len(world.users_UD), len(world.items_ND)
    matrix = item_matrix(world.items_ND, world.places_N, np.arange(num_items))
    fastest = fastest_products(matrix.dim)
    products = replace(fastest, is_coarse=fastest.is_coarse and may_be_coarse)

    def search() -> Lists:
        parts = [search_block(slice(first, first + USER_BLOCK)) for first in range(0, num_users, USER_BLOCK)]
        items_UK, scores_UK = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Lists(np.arange(num_users), items_UK, scores_UK)

    def search_block(block: slice) -> tuple[np.ndarray, np.ndarray]:
        seen = world.seen_UE[block]
        rows = np.repeat(np.arange(len(seen)), seen.shape[1])
        excluded = Exclusions.from_pairs(rows, seen.ravel(), matrix, num_users=len(seen))
        users = Users.of(world.users_UD[block], dim=matrix.dim)
        top = find_top_k(users, matrix, top_k=top_k, products=products, excluded=excluded)
        return matrix.idx_of_place_M[top.places_P].reshape(-1, top_k), top.scores_P.reshape(-1, top_k)

    return search, products.name


def score_tables(spark: SparkSession, users: str, items: str, out: str, top_k: int) -> None:
    """The stage: two Delta tables in, the table of lists out, seen items excluded."""
    rows = spark.read.format("delta").load(items)
    # A version of its own for every run: none finds the item matrix of the one before.
    snapshot = take_snapshot(rows, "items", version=next(_runs))
    lists = score_pairs(
        spark.read.format("delta").load(users).withColumn(c.SPLIT, F.lit("test")),
        snapshot,
        column=c.EMBEDDING,
        top_k=top_k,
        seen_rules=(DROP,),
        alpha=1.0,
        offset_b=0.0,
        user_block=USER_BLOCK,
    )
    lists.write.format("delta").mode("overwrite").save(out)
