"""The final lists under rules: at most so many items of a group, and pinned items at their places."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.transforms.blend import PINNED, rank_blends
from recsys_spark.transforms.history import LAST_TS, age_days, may_repeat, of_items
from recsys_spark.transforms.rules import Rules, allowed_pairs

_ENTRY: Final = "entry"
_ENTRIES: Final = "entries"
_PLACE: Final = "place"
_LAST: Final = "last"


def rank_lists(
    blended: DataFrame,
    candidates: DataFrame,
    own: DataFrame,
    items: DataFrame,
    groups: DataFrame,
    rules: Rules,
    *,
    as_of: datetime,
    list_size: int,
) -> DataFrame:
    """The lists of `blended` (rows of `blend_candidates` of one weight) with their rank, pins and caps applied.

    `candidates` has a row for each list (seen_rule, user_id); a pinned item of the catalogue (`items`) is listed where
    conditions, block list and seen rule allow it. `own` are rows of `decayed_counts` as of the same cut-off.
    """
    if not rules.caps and rules.pinned is None:
        return rank_blends(blended, list_size=list_size)
    rows = blended.withColumn(c.POSITION, F.lit(None).cast("int"))
    if rules.pinned is not None:
        pinned = of_items(rules.pinned, items)
        everywhere = candidates.select(c.SEEN_RULE, c.USER_ID).crossJoin(F.broadcast(pinned))
        last = own.select(c.USER_ID, c.ITEM_ID, F.col(LAST_TS).alias(_LAST))
        repeated = everywhere.join(last, on=[c.USER_ID, c.ITEM_ID], how="left")
        pins = repeated.where(may_repeat(c.SEEN_RULE, age_days(_LAST, as_of=as_of))).drop(_LAST)
        rows = add_pins(blended, allowed_pairs(pins, items, rules, as_of=as_of))
    return make_lists(rows, groups, most=tuple(rules.caps.values()), list_size=list_size)


def add_pins(blended: DataFrame, pins: DataFrame) -> DataFrame:
    """The rows of both, once for each seen_rule, user_id and item_id, with `position` (null: not pinned).

    `pins` (seen_rule, user_id, item_id, position) may name an item, or a position, several times for a user: the
    smallest position and then the smallest item_id counts.
    """
    of_list = [c.SEEN_RULE, c.USER_ID]
    once = pins.groupBy(*of_list, c.ITEM_ID).agg(F.min(c.POSITION).alias(c.POSITION))
    first = once.groupBy(*of_list, c.POSITION).agg(F.min(c.ITEM_ID).alias(c.ITEM_ID))
    joined = blended.join(first, on=[*of_list, c.ITEM_ID], how="outer")
    pin = F.when(F.col(c.POSITION).isNotNull(), F.array(F.lit(PINNED)))
    nothing = F.array().cast("array<string>")
    sources = F.concat(F.coalesce(pin, nothing), F.coalesce(F.col(c.SOURCES), nothing))
    return joined.withColumn(c.SOURCES, sources)


def make_lists(rows: DataFrame, groups: DataFrame, *, most: Sequence[int], list_size: int) -> DataFrame:
    """The lists of `rows` (seen_rule, user_id, item_id, score, position and others; see `add_pins`), with their rank.

    Down the order of each list (pinned items by position, then score descending, then item_id), an item is passed over
    when the list holds as many of one of its groups as `most` allows. The first `list_size` stay; pinned ones take
    their positions, the others fill the places between. `groups` has item_id and groups (as in ITEM_GROUPS).
    """
    grouped = rows.join(groups.select(c.ITEM_ID, c.GROUPS), on=[c.ITEM_ID], how="left")
    of_list = [c.SEEN_RULE, c.USER_ID]
    others = [name for name in rows.columns if name not in (*of_list, c.ITEM_ID, c.POSITION)]
    order = (F.col(c.POSITION).isNull().alias("is_last"), F.col(c.POSITION), (-F.col(c.SCORE)).alias("against"))
    entry = F.struct(*order, c.ITEM_ID, c.GROUPS, *others).alias(_ENTRY)
    gathered = grouped.select(*of_list, entry).groupBy(*of_list).agg(F.collect_list(_ENTRY).alias(_ENTRIES))
    entry_type = gathered.schema[_ENTRIES].dataType.simpleString()
    listed = F.aggregate(
        F.array_sort(_ENTRIES),
        F.array().cast(entry_type),
        lambda kept, new: F.when(
            (F.size(kept) < list_size) & _fits(kept, new, most), F.concat(kept, F.array(new))
        ).otherwise(kept),
    )
    placed = gathered.select(*of_list, listed.alias(_ENTRIES)).select(
        *of_list, F.posexplode(_ENTRIES).alias("number", _ENTRY), _free_places(list_size).alias("free"),
        F.size(F.filter(_ENTRIES, lambda entry: ~entry["is_last"])).alias("num_pins"),
    )  # fmt: skip
    place = F.coalesce(F.col(f"{_ENTRY}.{c.POSITION}"), F.get("free", F.col("number") - F.col("num_pins")))
    in_order = Window.partitionBy(*of_list).orderBy(_PLACE)
    ranked = placed.withColumn(_PLACE, place).withColumn(c.RANK, F.row_number().over(in_order))
    return ranked.select(*of_list, *[f"{_ENTRY}.{name}" for name in (c.ITEM_ID, *others)], c.RANK)


def _fits(kept: Column, new: Column, most: Sequence[int]) -> Column:
    """Whether the list may hold one more item of each of the new one's groups."""
    together = F.lit(True)
    for cap, limit in enumerate(most):
        group = F.get(new[c.GROUPS], F.lit(cap))
        together = together & (group.isNull() | (F.size(_of_group(kept, group, cap)) < limit))
    return together


def _of_group(kept: Column, group: Column, cap: int) -> Column:
    return F.filter(kept, lambda other: F.get(other[c.GROUPS], F.lit(cap)) == group)


def _free_places(list_size: int) -> Column:
    """Places 1 … list_size that no pinned item of the list takes."""
    taken = F.transform(F.filter(_ENTRIES, lambda entry: ~entry["is_last"]), lambda entry: entry[c.POSITION])
    return F.array_except(F.sequence(F.lit(1), F.lit(list_size)), taken)
