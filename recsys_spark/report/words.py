"""Numbers and names as people read them, and the sentence the page begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from recsys_spark.evaluation.metrics import ALL, NDCG, NEW
from recsys_spark.evaluation.verdict import BASELINES, RECOMMENDATIONS, TIE, TWO_TOWER
from recsys_spark.report.facts import Figure

METHOD_NAMES: Final = {
    RECOMMENDATIONS: "the table",
    TWO_TOWER: "two towers alone",
    "popular": "most popular",
    "personal": "personal frequency",
    "item_knn": "item-kNN",
}
METRIC_TITLES: Final = {
    "ndcg": "NDCG",
    "recall": "Recall",
    "precision": "Precision",
    "mrr": "MRR",
    "coverage": "Coverage",
}
_PAST_VERBS: Final = {"purchase": "bought", "view": "viewed", "rating": "rated", "cart": "put in the cart"}


def number(value: float) -> str:
    """1469307 -> '1,469,307'; a number with a fraction keeps one decimal."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def share(part: float, whole: float) -> str:
    """'12.3 %'; what is not nothing never prints as nothing, nor what is not all as all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def count_of(value: int, singular: str, plural: str = "") -> str:
    """'1 user', '2,469 users'."""
    return f"{number(value)} {singular if value == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """'4.2 s', '3 min 05 s', '2 h 10 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def memory(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{number(mib)} MiB"


def past_verb(event_types: Sequence[str]) -> str:
    """What users did in the test window, as a verb: 'bought'."""
    return _PAST_VERBS.get(event_types[0], "chosen") if len(event_types) == 1 else "chosen"


def as_sentence(text: str) -> str:
    """A text that shouts (catalogues often are in capitals throughout) in lower case; any other as it is."""
    letters = [letter for letter in text if letter.isalpha()]
    shouts = len(letters) > 3 and sum(letter.isupper() for letter in letters) > 0.6 * len(letters)
    return text.lower().capitalize() if shouts else text


def method_name(method: str) -> str:
    return METHOD_NAMES.get(method, method.replace("_", " "))


def order_of(method: str) -> tuple[int, str]:
    """Sort key: the table first, then the towers, then the baselines."""
    known = list(METHOD_NAMES)
    return (known.index(method) if method in known else len(known), method)


@dataclass(frozen=True)
class Duel:
    """The table against its strongest baseline on one slice."""

    baseline: Figure
    model: Figure

    @property
    def gain(self) -> float:
        return self.model.value / self.baseline.value - 1 if self.baseline.value else 0.0

    @property
    def is_tie(self) -> bool:
        return abs(self.model.value - self.baseline.value) < TIE

    @property
    def is_lost(self) -> bool:
        return not self.is_tie and self.model.value < self.baseline.value

    @property
    def overlaps(self) -> bool:
        """Whether the confidence intervals share a value; without intervals, no."""
        lowers = [f.lower for f in (self.model, self.baseline) if f.lower is not None]
        uppers = [f.upper for f in (self.model, self.baseline) if f.upper is not None]
        return len(lowers) == len(uppers) == 2 and max(lowers) <= min(uppers)


def find_duel(figures: Sequence[Figure], slice_name: str, k: int) -> Duel | None:
    """NDCG@k of the table and of its best baseline, or None when one of the two was not measured."""
    ndcg = [f for f in figures if f.slice == slice_name and f.metric == NDCG and f.k == k]
    model = next((f for f in ndcg if f.method == RECOMMENDATIONS), None)
    baselines = [f for f in ndcg if f.method in BASELINES]
    if model is None or not baselines:
        return None
    return Duel(baseline=max(baselines, key=lambda f: f.value), model=model)


def headline(figures: Sequence[Figure], k: int) -> str:
    """The first line of the page: does the table beat counting? A loss on either slice is said here."""
    overall, new = find_duel(figures, ALL, k), find_duel(figures, NEW, k)
    if overall is None:
        if new is None:
            return "Not measured: no user with a list chose anything in the test window"
        return f"On new items, the table {_outcome(new)}"
    line = f"The table {_outcome(overall)}"
    if new is not None and new.is_lost:
        line += f"{' and' if overall.is_lost else ', but'} LOSES to {_name(new)} on new items by {_percent(new)}"
    return line


def _outcome(duel: Duel) -> str:
    if duel.is_tie:
        return f"only equals the best baseline, {_name(duel)}"
    if duel.is_lost:
        return f"LOSES to {_name(duel)} by {_percent(duel)}"
    if not duel.baseline.value:
        return f"beats the best baseline, {_name(duel)}, which finds nothing"
    return f"beats the best baseline, {_name(duel)}, by {_percent(duel)}"


def _name(duel: Duel) -> str:
    return method_name(duel.baseline.method)


def _percent(duel: Duel) -> str:
    percent = f"{abs(100 * duel.gain):.1f}"
    return "under 0.1 %" if percent == "0.0" else f"{percent} %"
