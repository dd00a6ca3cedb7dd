"""What a run tells of lists that end early."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.runner import Context


def note_short(context: Context, candidates: DataFrame, *, top_k: int) -> None:
    """A note of the lists of CANDIDATES that have fewer items than wanted, and a reason."""
    num_short = candidates.where(F.col(c.SHORTFALL).isNotNull()).count()
    context.note_count(num_short, f"lists have fewer than {top_k} items: CANDIDATES.shortfall says why")


def note_few(context: Context, setting: str, *, wanted: int, there_are: int) -> None:
    """A note when all others of the `there_are` do not fill a list of `wanted` (the value of the setting)."""
    if wanted >= there_are:
        context.note(f"{setting} = {wanted:,}, but no list has more than {there_are - 1:,}: there are no others")


def note_cut_off(context: Context, candidates: DataFrame, *, list_size: int, num_items: int) -> None:
    """A note of the lists of CANDIDATES that end before `list_size` items for no reason but `score.top_k`.

    All lists without a reason are equally long, so that one of them tells whether there is anything to count.
    """
    without_reason = candidates.where(F.col(c.SHORTFALL).isNull())
    one = without_reason.select(F.size(c.ITEMS)).first()
    if one is not None and one[0] < min(list_size, num_items):
        what = "lists of candidates end at score.top_k, before rank.list_size: raise score.top_k"
        context.note_count(without_reason.count(), what)
