"""What every model has to beat: popularity, counting, and item-kNN, learnt from events before the cut-off
only.

Each gives ranked lists (method, slice, user_id, item_id, rank) for every user asked for, in both slices of
evaluation/metrics.py: `all` may repeat, `new` holds only items without an event of that user. What a method
cannot fill - a user without history - is filled by popularity, so that no list is short while there are
items left.

`counts` are always rows of `decayed_counts` as of the cut-off (key: user_id, item_id): every pair from before it, so
they also say what a user has had. `popular` are rows of `popularity`, `users` have a unique user_id.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config import EvaluateConfig
from recsys_spark.evaluation.metrics import ALL, NEW
from recsys_spark.transforms.history import age_days, before
from recsys_spark.transforms.order import exact_sum, keep_best, rank_in

POPULAR: Final = "popular"
PERSONAL: Final = "personal"
ITEM_KNN: Final = "item_knn"

_TIE_WEIGHT: Final = 1e-6
"""Weight of log popularity where it only breaks ties between counts."""
_SHRINKAGE: Final = 5.0
"""Added to the cosine's denominator: two items that one user bought once are no twins (Bell & Koren, 2007).
Complete Journey, NDCG@10 / new, all pairs: 0 gives 0.125 / 0.041, 5 gives 0.271 / 0.045, 20 0.249 / 0.045."""

_PLACE: Final = "place"
_SEEN_PLACES: Final = "seen_places"
_NUM_SHARED: Final = "num_shared"
_NEIGHBOUR: Final = "neighbour"
_SIMILARITY: Final = "similarity"
_WEIGHT: Final = "weight"
_NORM: Final = "norm"
_OTHER: Final = "other_"


def popularity(events: DataFrame, *, as_of: datetime, popular_days: int) -> DataFrame:
    """item_id, score: events of the last `popular_days` before the cut-off, plus a fraction below 1 that
    grows with all earlier events and orders items of equal recent counts. Every item with an event has a
    row.
    """
    is_recent = age_days(c.TS, as_of=as_of) <= popular_days
    num_events = F.count(F.lit(1))
    return (
        before(events, as_of)
        .groupBy(c.ITEM_ID)
        .agg((F.count_if(is_recent) + num_events / (num_events + 1)).alias(c.SCORE))
    )


def popular_lists(popular: DataFrame, counts: DataFrame, users: DataFrame, *, list_size: int) -> DataFrame:
    """The most popular items for each user.

    No users x items join: among the first list_size + n places of the popularity order at least list_size are
    unseen by a user who has seen n items, so a user costs an array of that many places.
    """
    ranked = popular.select(c.ITEM_ID, rank_in().alias(_PLACE))
    seen = (
        counts.select(c.USER_ID, c.ITEM_ID)
        .join(users, on=[c.USER_ID], how="left_semi")
        .join(ranked, on=[c.ITEM_ID], how="inner")
        .groupBy(c.USER_ID)
        .agg(F.collect_list(_PLACE).alias(_SEEN_PLACES))
    )
    lists = users.select(c.USER_ID).join(seen, on=[c.USER_ID], how="left").select(c.USER_ID, _list_places(list_size))
    return (
        lists.select(c.USER_ID, f"list.{c.SLICE}", F.posexplode("list.places").alias("position", _PLACE))
        .join(ranked, on=[_PLACE], how="inner")
        .withColumn(c.RANK, F.col("position") + 1)
        .select(F.lit(POPULAR).alias(c.METHOD), c.SLICE, c.USER_ID, c.ITEM_ID, c.RANK)
    )


def _list_places(list_size: int) -> Column:
    """Two rows per user, `list`: slice and places - the first ones, and the first ones that are not seen."""
    seen = F.coalesce(F.col(_SEEN_PLACES), F.array().cast("array<int>"))
    first = F.sequence(F.lit(1), F.lit(list_size))
    unseen = F.array_except(F.sequence(F.lit(1), F.lit(list_size) + F.size(seen)), seen)
    lists = F.array(
        F.struct(F.lit(ALL).alias(c.SLICE), first.alias("places")),
        F.struct(F.lit(NEW).alias(c.SLICE), F.slice(unseen, 1, list_size).alias("places")),
    )
    return F.explode(lists).alias("list")


def fill_lists(scored: DataFrame, filler: DataFrame, *, method: str, list_size: int) -> DataFrame:
    """Lists of a method from its scores (slice, user_id, item_id, score >= 0; unique), completed from those of
    `popular_lists`. A list is cut before it is completed: what is grouped is list_size rows, not all that was
    scored.
    """
    key = [c.SLICE, c.USER_ID, c.ITEM_ID]
    best = keep_best(scored, c.SLICE, c.USER_ID, num_rows=list_size).select(*key, c.SCORE)
    behind = filler.select(*key, (-F.col(c.RANK)).cast("double").alias(c.SCORE))
    either = best.unionByName(behind).groupBy(*key).agg(F.max(c.SCORE).alias(c.SCORE))
    return keep_best(either, c.SLICE, c.USER_ID, num_rows=list_size).select(
        F.lit(method).alias(c.METHOD), c.SLICE, c.USER_ID, c.ITEM_ID, c.RANK
    )


def personal_scores(counts: DataFrame, popular: DataFrame, users: DataFrame) -> DataFrame:
    """slice, user_id, item_id, score: the user's own decayed counts; equal ones in the order of popularity.
    Only in the slice `all`: counting has no opinion on what a user never had.
    """
    ties = popular.select(c.ITEM_ID, (F.lit(_TIE_WEIGHT) * F.log1p(c.SCORE)).alias("tie"))
    return (
        counts.join(users, on=[c.USER_ID], how="left_semi")
        .join(ties, on=[c.ITEM_ID], how="inner")
        .select(F.lit(ALL).alias(c.SLICE), c.USER_ID, c.ITEM_ID, (F.col(c.SCORE) + F.col("tie")).alias(c.SCORE))
    )


def heaviest_items(counts: DataFrame, *, knn_history: int) -> DataFrame:
    """user_id, item_id, weight, norm: each user's `knn_history` items with the highest decayed count.

    weight = log(1 + decayed count); norm = the length of the item's column over all users, not only over
    these.
    """
    weight = F.log1p(c.SCORE).alias(_WEIGHT)
    norms = (
        counts.select(c.ITEM_ID, weight)
        .groupBy(c.ITEM_ID)
        .agg(F.sqrt(exact_sum(F.col(_WEIGHT) * F.col(_WEIGHT), digits=9)).alias(_NORM))
    )
    return (
        keep_best(counts, c.USER_ID, num_rows=knn_history)
        .select(c.USER_ID, c.ITEM_ID, weight)
        .join(norms, on=[c.ITEM_ID], how="inner")
    )


def nearest_items(heaviest: DataFrame, *, knn_neighbours: int) -> DataFrame:
    """item_id, neighbour, similarity: each item's `knn_neighbours` most similar others, by the damped
    cosine of their columns of user weights. Two items are similar only if two users share them: pairs of
    one user alone would bring back that user's own items, which is counting again (NDCG@10 0.271 instead of
    0.236, but 0.0446 instead of 0.0455 on new items). Costs users * knn_history**2 / 2 pairs, whatever the
    catalogue.
    """
    other = heaviest.select(c.USER_ID, *[F.col(name).alias(_OTHER + name) for name in (c.ITEM_ID, _WEIGHT, _NORM)])
    is_pair = F.col(c.ITEM_ID) < F.col(_OTHER + c.ITEM_ID)
    product = exact_sum(F.col(_WEIGHT) * F.col(_OTHER + _WEIGHT), digits=9)
    lengths = F.max(F.col(_NORM) * F.col(_OTHER + _NORM))
    halves = (
        heaviest.join(other, on=[c.USER_ID], how="inner")
        .where(is_pair)
        .groupBy(c.ITEM_ID, _OTHER + c.ITEM_ID)
        .agg((product / (lengths + F.lit(_SHRINKAGE))).alias(c.SCORE), F.count(F.lit(1)).alias(_NUM_SHARED))
        .where(F.col(_NUM_SHARED) > 1)
    )
    one, two = F.col(c.ITEM_ID), F.col(_OTHER + c.ITEM_ID)
    both_ways = F.explode(
        F.array(F.struct(one.alias("of"), two.alias(c.ITEM_ID)), F.struct(two.alias("of"), one.alias(c.ITEM_ID)))
    )
    directed = halves.select(both_ways.alias("pair"), c.SCORE).select("pair.*", c.SCORE)
    return keep_best(directed, "of", num_rows=knn_neighbours).select(
        F.col("of").alias(c.ITEM_ID), F.col(c.ITEM_ID).alias(_NEIGHBOUR), F.col(c.SCORE).alias(_SIMILARITY)
    )


def item_knn_scores(counts: DataFrame, users: DataFrame, *, knn_history: int, knn_neighbours: int) -> DataFrame:
    """slice, user_id, item_id, score: the sum over the user's heaviest items of weight * similarity.

    An item is no neighbour of itself, or this would be counting again. Costs users * knn_history *
    knn_neighbours rows (item-based collaborative filtering: Sarwar et al., 2001).
    """
    heaviest = heaviest_items(counts, knn_history=knn_history)
    neighbours = nearest_items(heaviest, knn_neighbours=knn_neighbours)
    is_seen = "is_seen"
    seen = counts.select(c.USER_ID, c.ITEM_ID, F.lit(True).alias(is_seen))
    slices = F.when(F.col(is_seen), F.array(F.lit(ALL))).otherwise(F.array(F.lit(ALL), F.lit(NEW)))
    return (
        heaviest.join(users, on=[c.USER_ID], how="left_semi")
        .join(neighbours, on=[c.ITEM_ID], how="inner")
        .groupBy(c.USER_ID, F.col(_NEIGHBOUR).alias(c.ITEM_ID))
        .agg(exact_sum(F.col(_WEIGHT) * F.col(_SIMILARITY), digits=9).alias(c.SCORE))
        .join(seen, on=[c.USER_ID, c.ITEM_ID], how="left")
        .select(F.explode(slices).alias(c.SLICE), c.USER_ID, c.ITEM_ID, c.SCORE)
    )


def baseline_lists(
    popular: DataFrame, counts: DataFrame, users: DataFrame, *, list_size: int, settings: EvaluateConfig
) -> DataFrame:
    """The lists of every baseline, in both slices, for each of the users."""
    filler = popular_lists(popular, counts, users, list_size=list_size)
    personal = personal_scores(counts, popular, users)
    item_knn = item_knn_scores(counts, users, knn_history=settings.knn_history, knn_neighbours=settings.knn_neighbours)
    return filler.unionByName(fill_lists(personal, filler, method=PERSONAL, list_size=list_size)).unionByName(
        fill_lists(item_knn, filler, method=ITEM_KNN, list_size=list_size)
    )
