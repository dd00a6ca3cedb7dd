"""Our side of the bench, through the platform's own calls: the one file to change when they change."""

from __future__ import annotations

import numpy as np
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.oracle import Lists
from benchmarks.vectors import World
from recsys_spark import columns as c
from recsys_spark.bridges.score import DROP, score_pairs
from recsys_spark.bridges.snapshot import take_snapshot
from recsys_spark.kernels.top_k import Exclusions, ItemBlock, RunningTopK

USER_BLOCK, ITEM_BLOCK = 4096, 8192
"""As in conf/base.yaml, section score."""


def search(world: World, top_k: int) -> Lists:
    """The kernel: every user of the world against every item, seen items excluded."""
    num_users, num_items = len(world.users_UD), len(world.items_ND)
    item_idx_N = np.arange(num_items)
    item_of_place = np.empty(num_items, dtype=np.int64)
    item_of_place[world.places_N] = item_idx_N
    items_UK = np.empty((num_users, top_k), dtype=np.int64)
    scores_UK = np.empty((num_users, top_k), dtype=np.float32)
    for first in range(0, num_users, USER_BLOCK):
        block = slice(first, first + USER_BLOCK)
        seen = world.seen_UE[block]
        offsets = np.arange(0, seen.size + 1, seen.shape[1])
        running = RunningTopK(world.users_UD[block], top_k=top_k, excluded=Exclusions(offsets, seen.ravel()))
        for start in range(0, num_items, ITEM_BLOCK):
            part = slice(start, start + ITEM_BLOCK)
            running.update(ItemBlock(world.items_ND[part], world.places_N[part], item_idx_N[part]))
        top = running.lists()
        items_UK[block] = item_of_place[top.places_P].reshape(-1, top_k)
        scores_UK[block] = top.scores_P.reshape(-1, top_k)
    return Lists(np.arange(num_users), items_UK, scores_UK)


def score_tables(spark: SparkSession, users: str, items: str, out: str, top_k: int) -> None:
    """The stage: two Delta tables in, the table of lists out (one row per pair, seen items excluded)."""
    snapshot = take_snapshot(spark.read.format("delta").load(items), "items", version=0)
    lists = score_pairs(
        spark.read.format("delta").load(users).withColumn(c.SPLIT, F.lit("test")),
        snapshot,
        top_k=top_k,
        seen_rules=(DROP,),
        alpha=1.0,
        offset_b=0.0,
        user_block=USER_BLOCK,
        item_block=ITEM_BLOCK,
    )
    lists.write.format("delta").mode("overwrite").save(out)
