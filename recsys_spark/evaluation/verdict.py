"""One line that says whether the recommendations are worth having."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from recsys_spark import columns as c
from recsys_spark.evaluation.baselines import ITEM_KNN, PERSONAL, POPULAR
from recsys_spark.evaluation.metrics import ALL, NDCG, NEW

RECOMMENDATIONS: Final = "recommendations"
TWO_TOWER: Final = "two_tower"
BASELINES: Final = (POPULAR, PERSONAL, ITEM_KNN)
TIE: Final = 0.00005
"""Two means closer than this print the same four decimals: they are called equal."""

_ITEMS: Final = {ALL: "all items", NEW: "items new to the user"}


def judge(metrics: Sequence[Mapping[str, Any]]) -> str:
    """The recommendations against the best baseline, on all items and on new ones; what was lost is said first.

    `metrics` are rows of METRICS of one run. The measure is NDCG at the shortest length that was measured.
    """
    k = min((row[c.K] for row in metrics), default=0)
    values: dict[str, dict[str, float]] = {}
    for row in metrics:
        if row[c.METRIC] == NDCG and row[c.K] == k:
            values.setdefault(row[c.SLICE], {})[row[c.METHOD]] = row[c.VALUE]
    lost, equal, won = [], [], []
    for slice_name, items in _ITEMS.items():
        figures = values.get(slice_name, {})
        if RECOMMENDATIONS not in figures:
            continue
        own = figures[RECOMMENDATIONS]
        best = max((name for name in BASELINES if name in figures), key=lambda name: figures[name])
        compared = f"on {items}: NDCG@{k} {own:.4f} against {figures[best]:.4f}"
        if abs(own - figures[best]) < TIE:
            equal.append(f"Equals the baseline {best} {compared}.")
        elif own < figures[best]:
            lost.append(f"LOSES to the baseline {best} {compared}.")
        else:
            won.append(f"Beats every baseline, {best} is next, {compared}.")
    return " ".join([*lost, *equal, *won]) or (
        "NOT EVALUATED: no events at or after split.test_start to compare the recommendations with."
    )
