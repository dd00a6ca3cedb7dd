"""Which items may be listed for whom: SQL conditions over an item and a user, block lists, groups for caps.

A condition sees the item as `item.COLUMN` (ITEMS and the rules' item tables), the user as `user.COLUMN` (the rules'
user tables) and the cut-off as `as_of`. What it is not true for (false or null) is barred. Conditions are worked out
once per segment, not per user: users with the same values in the columns that conditions name, as of one cut-off,
are one segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c

ITEM: Final = "item"
USER: Final = "user"
NOTHING: Final = "nothing"
"""The one field of a struct from which expressions name no column."""

WORD_ITEMS: Final = 64
"""Items of a word of SEGMENTS.allowed."""

_EXACT_JSON: Final = {
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
"""Spark writes timestamps to milliseconds unless it is told otherwise; all else it writes to the last digit."""

_WORD: Final = "word"
_BITS: Final = "bits"


@dataclass(frozen=True)
class Rules:
    """The configuration's rules with their tables.

    `conditions`: name -> SQL. `caps`: SQL over the item -> most items of one value in a list. `item_tables` and
    `user_tables` have one row per item_id and user_id; `blocked` has user_id and item_id, `pinned` item_id and
    position (from 1).
    """

    conditions: Mapping[str, str]
    caps: Mapping[str, int]
    item_tables: tuple[DataFrame, ...] = ()
    user_tables: tuple[DataFrame, ...] = ()
    blocked: DataFrame | None = None
    pinned: DataFrame | None = None


def describe_items(items: DataFrame, rules: Rules) -> DataFrame:
    """item_id and `item`, a struct of what conditions and caps name of it."""
    for table in rules.item_tables:
        items = items.join(table, on=[c.ITEM_ID], how="left")
    return items.select(c.ITEM_ID, _facts(items, ITEM, [*rules.conditions.values(), *rules.caps]))


def describe_users(users: DataFrame, rules: Rules) -> DataFrame:
    """The columns of `users` (any number of rows per user_id) and `user`, a struct of what conditions name of it."""
    wide = users.select(c.USER_ID).distinct()
    for table in rules.user_tables:
        wide = wide.join(table, on=[c.USER_ID], how="left")
    facts = wide.select(c.USER_ID, _facts(wide, USER, rules.conditions.values()))
    return users.join(facts, on=[c.USER_ID], how="left")


def _facts(wide: DataFrame, side: str, expressions: Iterable[str]) -> Column:
    """A struct of the columns that expressions name, as `user.region` or user.`region`, in letters of any size."""
    names = (re.findall(rf"\b{side}`?\s*\.\s*`?(\w+)", text, re.IGNORECASE) for text in expressions)
    named = {name.lower() for found in names for name in found}
    chosen = [F.col(name) for name in wide.columns if name.lower() in named]
    return F.struct(*(chosen or [F.lit(None).cast("string").alias(NOTHING)])).alias(side)


def number_segments(users: DataFrame, rules: Rules) -> DataFrame:
    """user_id, split, as_of (of `users`), `user`, user_facts (the same as JSON) and segment: a hash of user_facts and
    as_of. The struct itself would not do: Spark's hash passes over nulls, so (null, x) and (x, null) would be one.
    """
    described = describe_users(users.select(c.USER_ID, c.SPLIT, c.AS_OF), rules)
    with_facts = described.withColumn(c.USER_FACTS, F.to_json(USER, _EXACT_JSON))
    return with_facts.withColumn(c.SEGMENT, F.xxhash64(c.AS_OF, c.USER_FACTS))


def allow_items(segments: DataFrame, items: DataFrame, index: DataFrame, rules: Rules) -> DataFrame:
    """segment, as_of, user_facts, allowed and barred_by (as in SEGMENTS) of each segment.

    `segments` are the distinct segment, as_of, user_facts and `user` of `number_segments`: few rows, every machine
    gets them all. Bits are gathered in words of 64, which Spark adds up without sorting the pairs.
    """
    described = describe_items(items, rules).join(index, on=[c.ITEM_ID], how="inner").select(c.ITEM_IDX, ITEM)
    pairs = described.crossJoin(F.broadcast(segments))
    is_true = {name: F.coalesce(F.expr(sql), F.lit(False)) for name, sql in rules.conditions.items()}
    barred = {f"barred{n}": F.sum((~flag).cast("bigint")) for n, flag in enumerate(is_true.values())}
    bit = F.expr(f"shiftleft(1L, {c.ITEM_IDX} % {WORD_ITEMS})")
    of_segment = (c.SEGMENT, c.AS_OF, c.USER_FACTS)
    words = pairs.groupBy(*of_segment, F.floor(F.col(c.ITEM_IDX) / WORD_ITEMS).cast("int").alias(_WORD)).agg(
        F.bit_or(F.when(_all(is_true.values()), bit).otherwise(F.lit(0).cast("bigint"))).alias(_BITS),
        *[count.alias(name) for name, count in barred.items()],
    )
    counts = [F.struct(F.lit(name), F.sum(column)) for name, column in zip(is_true, barred, strict=True)]
    return words.groupBy(*of_segment).agg(
        F.collect_list(F.when(F.col(_BITS) != 0, F.struct(_WORD, _BITS))).alias(c.ALLOWED),
        F.map_from_entries(F.array(*counts).cast("array<struct<name:string,items:bigint>>")).alias(c.BARRED_BY),
    )


def rules_of_users(segmented: DataFrame, index: DataFrame, rules: Rules) -> DataFrame:
    """user_id, split, segment and blocked (item_idx, in order; empty for none) of each row of `number_segments`."""
    users = segmented.select(c.USER_ID, c.SPLIT, c.SEGMENT)
    if rules.blocked is None:
        return users.withColumn(c.BLOCKED, F.array().cast("array<int>"))
    per_user = (
        rules.blocked.join(index, on=[c.ITEM_ID], how="inner")
        .groupBy(c.USER_ID)
        .agg(F.array_sort(F.collect_set(c.ITEM_IDX)).alias(c.BLOCKED))
    )
    blocked = F.coalesce(c.BLOCKED, F.array().cast("array<int>"))
    return users.join(per_user, on=[c.USER_ID], how="left").withColumn(c.BLOCKED, blocked)


def allowed_pairs(pairs: DataFrame, items: DataFrame, rules: Rules, *, as_of: datetime) -> DataFrame:
    """The rows of `pairs` (user_id, item_id and others) that neither a condition nor a block list forbids."""
    columns = pairs.columns
    if rules.conditions:
        users = describe_users(pairs.withColumn(c.AS_OF, F.lit(as_of)), rules)
        described = users.join(describe_items(items, rules), on=[c.ITEM_ID], how="inner")
        pairs = described.where(_all(F.expr(sql) for sql in rules.conditions.values()))
    if rules.blocked is not None:
        pairs = pairs.join(rules.blocked, on=[c.USER_ID, c.ITEM_ID], how="left_anti")
    return pairs.select(*columns)


def group_items(items: DataFrame, index: DataFrame, rules: Rules) -> DataFrame:
    """item_id, item_idx and groups (as in ITEM_GROUPS) of each item; no rows without caps."""
    described = describe_items(items, rules).join(index, on=[c.ITEM_ID], how="inner")
    values = [F.expr(sql) for sql in rules.caps]
    texts = [F.to_json(F.struct(value.alias("value")), _EXACT_JSON) for value in values]
    hashes = [F.when(value.isNotNull(), F.xxhash64(text)) for value, text in zip(values, texts, strict=True)]
    groups = F.array(*hashes).cast("array<bigint>")
    return described.where(F.lit(bool(rules.caps))).select(c.ITEM_ID, c.ITEM_IDX, groups.alias(c.GROUPS))


def _all(flags: Iterable[Column]) -> Column:
    together = F.lit(True)
    for flag in flags:
        together = together & flag
    return together
