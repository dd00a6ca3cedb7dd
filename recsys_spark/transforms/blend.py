"""Two opinions in one list: what the two towers foretell and what the user keeps coming back for.

    score = history + max(tower_weight, 1e-6) * (tower - the user's lowest tower score + 0.1)

`history` is a count (`decayed_counts`), `tower` a log-probability (`CANDIDATES.score`). An item outside the
towers' top-K adds nothing, which places it just below the worst listed one; an item the user never had has
history 0. Weight 0 is pure counting: towers only order what counting calls equal. On Complete Journey, with
EASE in the towers' place, this sum was the best of seven formulas on the validation window (weight 0.2),
and on the test window its NDCG@10 was 0.422 where counting had 0.412; adding probabilities reached 0.418,
scores normalised by the user's maximum 0.419, log counts 0.421, reciprocal ranks 0.413.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.evaluation.metrics import ALL, NDCG, per_user_metrics
from recsys_spark.transforms.history import LAST_TS, age_days, may_repeat
from recsys_spark.transforms.order import keep_best

TOWERS: Final = "towers"
HISTORY: Final = "history"
PINNED: Final = "pinned"

_MISSING_GAP: Final = 0.1
"""How far below the worst listed item an unlisted one is taken to be, in units of log-probability."""
_TIE_WEIGHT: Final = 1e-6
"""Weight of the towers where they only break ties: below any difference between counts that means
something.
"""

_GAIN: Final = "gain"
_COUNT: Final = "history_score"
_PAST_VERBS: Final = {"purchase": "bought", "view": "viewed", "rating": "rated", "cart": "put in the cart"}


def tower_gains(towers: DataFrame) -> DataFrame:
    """seen_rule, user_id, item_id, gain: how far each candidate stands above one that is not listed; > 0."""
    whole_list = Window.partitionBy(c.SEEN_RULE, c.USER_ID).rowsBetween(
        Window.unboundedPreceding, Window.unboundedFollowing
    )
    gain = F.col(c.SCORE) - F.min(c.SCORE).over(whole_list) + F.lit(_MISSING_GAP)
    return towers.select(c.SEEN_RULE, c.USER_ID, c.ITEM_ID, gain.alias(_GAIN))


def blend_candidates(towers: DataFrame, history: DataFrame, weights: DataFrame, *, as_of: datetime) -> DataFrame:
    """Every candidate of either source, scored with every weight: tower_weight, seen_rule, user_id, item_id,
    score, sources, num_events, last_ts (the last two null for items the user never had).

    `towers` are those of `list_items` of one split (key: seen_rule, user_id, item_id), `history` rows of
    `decayed_counts` as of the same cut-off `as_of` (key: user_id, item_id), `weights` a few rows of tower_weight
    (unique). Own items compete under the rules that the towers were scored under and that let them be repeated.
    """
    gains = tower_gains(towers)
    own = history.select(c.USER_ID, c.ITEM_ID, F.col(c.SCORE).alias(_COUNT), c.NUM_EVENTS, LAST_TS)
    seen_rules = F.broadcast(gains.select(c.SEEN_RULE).distinct())
    counts = own.crossJoin(seen_rules).where(may_repeat(c.SEEN_RULE, age_days(LAST_TS, as_of=as_of)))
    both = gains.join(counts, on=[c.SEEN_RULE, c.USER_ID, c.ITEM_ID], how="outer")
    gain = F.coalesce(F.col(_GAIN), F.lit(0.0))
    count = F.coalesce(F.col(_COUNT), F.lit(0.0))
    sources = F.array_compact(
        F.array(F.when(F.col(_GAIN).isNotNull(), F.lit(TOWERS)), F.when(F.col(_COUNT).isNotNull(), F.lit(HISTORY)))
    )
    score = count + F.greatest(F.col(c.TOWER_WEIGHT), F.lit(_TIE_WEIGHT)) * gain
    return both.crossJoin(F.broadcast(weights.select(c.TOWER_WEIGHT))).select(
        c.TOWER_WEIGHT,
        c.SEEN_RULE,
        c.USER_ID,
        c.ITEM_ID,
        score.alias(c.SCORE),
        sources.alias(c.SOURCES),
        c.NUM_EVENTS,
        LAST_TS,
    )


def rank_blends(blended: DataFrame, *, list_size: int) -> DataFrame:
    """The `list_size` best rows of `blend_candidates` per weight, seen rule and user, with their rank."""
    return keep_best(blended, c.TOWER_WEIGHT, c.SEEN_RULE, c.USER_ID, num_rows=list_size)


def measure_weights(
    towers: DataFrame,
    history: DataFrame,
    weights: DataFrame,
    truth: DataFrame,
    *,
    seen_rule: str,
    as_of: datetime,
    k: int,
) -> DataFrame:
    """tower_weight, score, num_users: mean NDCG@k of each weight's lists over the users of the truth.

    The first three as in `blend_candidates`, as of the validation cut-off `as_of`; `truth` from `truth_slices` of the
    window after it. Measured on the lists of one seen rule, that which leaves out least: under drop there is no
    history, and the weight changes no list. A weight that could not be measured (an empty window, no lists of the
    rule) has score 0 and 0 users.
    """
    kept = towers.where(F.col(c.SEEN_RULE) == seen_rule)
    ranked = rank_blends(blend_candidates(kept, history, weights, as_of=as_of), list_size=k)
    lists = ranked.select(
        F.col(c.TOWER_WEIGHT).alias(c.METHOD), F.lit(ALL).alias(c.SLICE), c.USER_ID, c.ITEM_ID, c.RANK
    )
    means = (
        per_user_metrics(lists, truth, [k])
        .groupBy(F.col(c.METHOD).alias(c.TOWER_WEIGHT))
        .agg(F.round(F.avg(NDCG), 9).alias(c.SCORE), F.count(F.lit(1)).alias(c.NUM_USERS))
    )
    return (
        weights.select(c.TOWER_WEIGHT)
        .join(means, on=[c.TOWER_WEIGHT], how="left")
        .select(
            c.TOWER_WEIGHT,
            F.coalesce(F.col(c.SCORE), F.lit(0.0)).alias(c.SCORE),
            F.coalesce(F.col(c.NUM_USERS), F.lit(0)).alias(c.NUM_USERS),
        )
    )


def best_weight(blends: DataFrame) -> DataFrame:
    """The one row of BLENDS with the highest score; among equals (to six decimals) the smallest weight, so
    that plain counting wins ties. With no rows there is no best: the result is empty.
    """
    return blends.orderBy(F.round(c.SCORE, 6).desc(), F.col(c.TOWER_WEIGHT).asc()).limit(1)


def reason(*, as_of: datetime, event_types: Sequence[str]) -> Column:
    """Why an item is listed, in plain words, from `sources`, `num_events` and `last_ts`.

    "bought 12 times, last 3 days before the cut-off; fits what you chose lately"
    """
    verb = _PAST_VERBS.get(event_types[0], "chosen") if len(event_types) == 1 else "chosen"
    days = F.floor(age_days(LAST_TS, as_of=as_of))
    times = F.when(F.col(c.NUM_EVENTS) == 1, F.lit("once")).otherwise(
        F.concat(F.col(c.NUM_EVENTS).cast("string"), F.lit(" times"))
    )
    ago = (
        F.when(days == 0, F.lit("less than a day"))
        .when(days == 1, F.lit("1 day"))
        .otherwise(F.concat(days.cast("string"), F.lit(" days")))
    )
    own = F.when(
        F.array_contains(c.SOURCES, HISTORY),
        F.concat(F.lit(f"{verb} "), times, F.lit(", last "), ago, F.lit(" before the cut-off")),
    )
    fits = F.when(F.array_contains(c.SOURCES, TOWERS), F.lit("fits what you chose lately"))
    pinned = F.when(F.array_contains(c.SOURCES, PINNED), F.lit("pinned to its place"))
    return F.concat_ws("; ", pinned, own, fits)
