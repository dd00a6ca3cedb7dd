"""One line that says whether the recommendations are worth having."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from recsys_spark import columns as c
from recsys_spark.evaluation.baselines import ITEM_KNN, PERSONAL, POPULAR

RECOMMENDATIONS: Final = "recommendations"
TWO_TOWER: Final = "two_tower"
BASELINES: Final = (POPULAR, PERSONAL, ITEM_KNN)


def judge(metrics: Sequence[Mapping[str, Any]]) -> str:
    """`metrics` are rows of METRICS of one run. The measure is NDCG@10 over all items, or over new ones where lists
    hold only those; losing is said first."""
    for slice_name in ("all", "new"):
        values = {
            row[c.METHOD]: row[c.VALUE]
            for row in metrics
            if row[c.METRIC] == "ndcg" and row[c.SLICE] == slice_name and row[c.K] == min(_k_values(metrics))
        }
        if RECOMMENDATIONS in values:
            break
    else:
        return "NOT EVALUATED: no events at or after split.test_start to compare the recommendations with."
    own = values[RECOMMENDATIONS]
    best = max((name for name in BASELINES if name in values), key=lambda name: values[name])
    change = f"NDCG@{min(_k_values(metrics))} {own:.4f} against {values[best]:.4f}"
    items = "all items" if slice_name == "all" else "new items"
    if own < values[best]:
        return f"LOSES to the baseline {best}: {change} ({items})."
    return f"Beats every baseline, {best} is next: {change} ({items})."


def _k_values(metrics: Sequence[Mapping[str, Any]]) -> set[int]:
    return {row[c.K] for row in metrics}
