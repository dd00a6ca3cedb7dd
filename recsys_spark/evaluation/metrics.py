"""How good ranked lists are, over the whole catalogue and per user; never against sampled negatives.

Lists: method, slice, user_id, item_id, rank (key: method, slice, user_id, item_id). Truth: slice, user_id,
item_id (the key). Slices: `all` is everything the user chose in the window, measured on lists that may
repeat (seen rule keep); `new` is what of it the user had not had before, measured on lists of unseen items
(rule drop).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.seen_rules import DROP, KEEP

ALL: Final = "all"
NEW: Final = "new"
NDCG: Final = "ndcg"
RECALL: Final = "recall"
PRECISION: Final = "precision"
MRR: Final = "mrr"
COVERAGE: Final = "coverage"
PER_USER_METRICS: Final = (NDCG, RECALL, PRECISION, MRR)

_NUM_TRUE: Final = "num_true"
_RANKS: Final = "ranks"
_REPLICATE: Final = "replicate"
_WEIGHT: Final = "weight"
_DECIMALS: Final = 9
"""Means are rounded here, where the order in which Spark adds no longer shows."""


def as_lists(ranked: DataFrame, *, method: str) -> DataFrame:
    """Lists of one method from rows with seen_rule, user_id, item_id and rank (the towers', RECOMMENDATIONS).

    Lists under keep are measured on the slice `all`, under drop on `new`, others on none.
    """
    slice_of_rule = F.when(F.col(c.SEEN_RULE) == KEEP, F.lit(ALL)).when(F.col(c.SEEN_RULE) == DROP, F.lit(NEW))
    return ranked.where(F.col(c.SEEN_RULE).isin(KEEP, DROP)).select(
        F.lit(method).alias(c.METHOD),
        slice_of_rule.alias(c.SLICE),
        c.USER_ID,
        c.ITEM_ID,
        c.RANK,
    )


def truth_slices(chosen: DataFrame, seen: DataFrame) -> DataFrame:
    """slice, user_id, item_id of both slices. `chosen` are the window's events of the target types, `seen`
    every user_id, item_id from before it (unique). A user who chose nothing new has no row in `new`.
    """
    pairs = chosen.select(c.USER_ID, c.ITEM_ID).distinct()
    unseen = pairs.join(seen, on=[c.USER_ID, c.ITEM_ID], how="left_anti")
    return (
        pairs.withColumn(c.SLICE, F.lit(ALL))
        .unionByName(unseen.withColumn(c.SLICE, F.lit(NEW)))
        .select(c.SLICE, c.USER_ID, c.ITEM_ID)
    )


def discounted_gain(ranks: Column) -> Column:
    """DCG of an array of hit ranks: the sum of 1 / log2(rank + 1), best rank first."""
    return F.aggregate(F.array_sort(ranks), F.lit(0.0), lambda total, rank: total + 1 / F.log2(rank + 1.0))


def per_user_metrics(lists: DataFrame, truth: DataFrame, ks: Sequence[int]) -> DataFrame:
    """method, slice, user_id, k, ndcg, recall, precision, mrr: one row for every user of the truth, every
    method that has a list in the slice, and every k. A user without a list counts 0 for it.

    With hits = true items among the first k: ndcg = DCG / DCG of min(|truth|, k) hits at the top, recall =
    hits / |truth|, precision = hits / k, mrr = 1 / rank of the first hit, or 0.
    """
    cut_offs = F.explode(F.array(*[F.lit(k) for k in ks])).alias(c.K)
    truth_sizes = truth.groupBy(c.SLICE, c.USER_ID).agg(F.count(F.lit(1)).cast("int").alias(_NUM_TRUE))
    methods = lists.select(c.METHOD, c.SLICE).distinct().select(c.METHOD, c.SLICE, cut_offs)
    asked = truth_sizes.join(F.broadcast(methods), on=[c.SLICE], how="inner")
    hit_ranks = (
        lists.where(F.col(c.RANK) <= max(ks))
        .join(truth, on=[c.SLICE, c.USER_ID, c.ITEM_ID], how="inner")
        .groupBy(c.METHOD, c.SLICE, c.USER_ID)
        .agg(F.collect_list(c.RANK).alias(_RANKS))
    )
    hits = F.filter(F.coalesce(F.col(_RANKS), F.array().cast("array<int>")), lambda rank: rank <= F.col(c.K))
    ideal = discounted_gain(F.sequence(F.lit(1), F.least(F.col(_NUM_TRUE), F.col(c.K))))
    return asked.join(hit_ranks, on=[c.METHOD, c.SLICE, c.USER_ID], how="left").select(
        c.METHOD,
        c.SLICE,
        c.USER_ID,
        c.K,
        (discounted_gain(hits) / ideal).alias(NDCG),
        (F.size(hits) / F.col(_NUM_TRUE)).alias(RECALL),
        (F.size(hits) / F.col(c.K)).alias(PRECISION),
        F.coalesce(1 / F.array_min(hits), F.lit(0.0)).alias(MRR),
    )


def poisson_weight(seed: int) -> Column:
    """How often a bootstrap resample draws a user: Poisson(1), from a hash of user_id, replicate and seed.

    The same user has the same weight in a resample for every method, slice and k, so differences between
    methods are resampled in pairs (Poisson bootstrap: Chamandy et al., Google, 2012). Cut at 9: P(more) <
    1e-6.
    """
    digest = F.xxhash64(F.col(c.USER_ID), F.col(_REPLICATE), F.lit(seed))
    uniform = F.shiftrightunsigned(digest, 11) / F.lit(float(2**53))
    below = [sum(math.exp(-1) / math.factorial(n) for n in range(upto + 1)) for upto in range(9)]
    return reduce(lambda total, bound: total + (uniform >= F.lit(bound)).cast("int"), below, F.lit(0))


def summarise(per_user: DataFrame, *, replicates: int, seed: int) -> DataFrame:
    """slice, method, metric, k, value, lower, upper, num_users: means over users with a 95 % bootstrap
    interval.

    Costs rows of `per_user` times `replicates`, in one aggregation whose result has methods * ks * replicates
    rows.
    """
    group = [c.SLICE, c.METHOD, c.K]
    means = per_user.groupBy(*group).agg(
        F.count(F.lit(1)).alias(c.NUM_USERS), *[F.avg(metric).alias(metric) for metric in PER_USER_METRICS]
    )
    drawn = (
        per_user.withColumn(_REPLICATE, F.explode(F.sequence(F.lit(1), F.lit(replicates))))
        .withColumn(_WEIGHT, poisson_weight(seed))
        .where(F.col(_WEIGHT) > 0)
    )
    resampled = drawn.groupBy(*group, _REPLICATE).agg(
        *[(F.sum(F.col(metric) * F.col(_WEIGHT)) / F.sum(_WEIGHT)).alias(metric) for metric in PER_USER_METRICS]
    )
    bounds = (
        resampled.unpivot([*group, _REPLICATE], list(PER_USER_METRICS), c.METRIC, c.VALUE)
        .groupBy(*group, c.METRIC)
        .agg(
            F.round(F.percentile(c.VALUE, F.lit(0.025)), _DECIMALS).alias(c.LOWER),
            F.round(F.percentile(c.VALUE, F.lit(0.975)), _DECIMALS).alias(c.UPPER),
        )
    )
    values = means.unpivot([*group, c.NUM_USERS], list(PER_USER_METRICS), c.METRIC, c.VALUE)
    return values.join(bounds, on=[*group, c.METRIC], how="left").select(
        c.SLICE,
        c.METHOD,
        c.METRIC,
        c.K,
        F.round(c.VALUE, _DECIMALS).alias(c.VALUE),
        c.LOWER,
        c.UPPER,
        c.NUM_USERS,
    )


def coverage(lists: DataFrame, items: DataFrame, ks: Sequence[int]) -> DataFrame:
    """The share of the catalogue that stands in anybody's top k, in the columns of `summarise`; no interval.

    `items` is the catalogue (key: item_id); num_users are the users with a list.
    """
    num_items = "num_items"
    size = items.agg(F.count(F.lit(1)).alias(num_items))
    return (
        lists.withColumn(c.K, F.explode(F.array(*[F.lit(k) for k in ks])))
        .where(F.col(c.RANK) <= F.col(c.K))
        .groupBy(c.SLICE, c.METHOD, c.K)
        .agg(
            F.count_distinct(c.ITEM_ID).alias(c.VALUE),
            F.count_distinct(c.USER_ID).alias(c.NUM_USERS),
        )
        .crossJoin(F.broadcast(size))
        .select(
            c.SLICE,
            c.METHOD,
            F.lit(COVERAGE).alias(c.METRIC),
            c.K,
            F.round(F.try_divide(c.VALUE, num_items), _DECIMALS).alias(c.VALUE),
            F.lit(None).cast("double").alias(c.LOWER),
            F.lit(None).cast("double").alias(c.UPPER),
            c.NUM_USERS,
        )
    )
