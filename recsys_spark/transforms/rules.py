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
BLOCK_ITEMS: Final = 2**15
"""Items of a block of SEGMENTS.allowed: those of Spark's bitmaps."""

_BLOCK: Final = "block"
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
    """item_id and `item`, a struct of all that rules may say of it."""
    for table in rules.item_tables:
        items = items.join(table, on=[c.ITEM_ID], how="left")
    return items.select(c.ITEM_ID, F.struct(*items.columns).alias(ITEM))


def describe_users(users: DataFrame, rules: Rules) -> DataFrame:
    """The columns of `users` (any number of rows per user_id) and `user`, a struct of what conditions name of it."""
    named = columns_named(USER, rules.conditions.values())
    facts = users.select(c.USER_ID).distinct()
    for table in rules.user_tables:
        facts = facts.join(table, on=[c.USER_ID], how="left")
    chosen = [name for name in facts.columns if name in named]
    if not chosen:
        return users.withColumn(USER, F.struct(F.lit(None).cast("string").alias("nothing")))
    return users.join(facts.select(c.USER_ID, F.struct(*chosen).alias(USER)), on=[c.USER_ID], how="left")


def columns_named(side: str, expressions: Iterable[str]) -> set[str]:
    """The columns of `side` that expressions name, as `user.region` or user.`region of birth`."""
    pattern = rf"\b{side}\.(?:(\w+)|`([^`]+)`)"
    return {plain or quoted for text in expressions for plain, quoted in re.findall(pattern, text)}


def number_segments(users: DataFrame, rules: Rules) -> DataFrame:
    """user_id, split, as_of (of `users`), `user` and segment: a hash of `user` and as_of."""
    described = describe_users(users.select(c.USER_ID, c.SPLIT, c.AS_OF), rules)
    return described.withColumn(c.SEGMENT, F.xxhash64(c.AS_OF, USER))


def allow_items(segments: DataFrame, items: DataFrame, index: DataFrame, rules: Rules) -> DataFrame:
    """segment, as_of, user_facts, allowed and barred_by (as in SEGMENTS) of each segment.

    `segments` are the distinct segment, as_of and `user` of `number_segments`: few rows, every machine gets them all.
    """
    described = describe_items(items, rules).join(index, on=[c.ITEM_ID], how="inner").select(c.ITEM_IDX, ITEM)
    pairs = described.crossJoin(F.broadcast(segments))
    is_true = {name: F.coalesce(F.expr(sql), F.lit(False)) for name, sql in rules.conditions.items()}
    barred = {f"barred{n}": F.sum((~flag).cast("bigint")) for n, flag in enumerate(is_true.values())}
    keys = [F.col(c.SEGMENT), F.col(c.AS_OF), F.to_json(USER).alias(c.USER_FACTS)]
    bit = F.when(_all(is_true.values()), F.bitmap_bit_position(F.col(c.ITEM_IDX) + 1))
    blocks = pairs.groupBy(*keys, (F.col(c.ITEM_IDX) / BLOCK_ITEMS).cast("int").alias(_BLOCK)).agg(
        F.bitmap_construct_agg(bit).alias(_BITS), *[count.alias(name) for name, count in barred.items()]
    )
    counts = [F.struct(F.lit(name), F.sum(column)) for name, column in zip(is_true, barred, strict=True)]
    return blocks.groupBy(c.SEGMENT, c.AS_OF, c.USER_FACTS).agg(
        F.map_from_entries(F.collect_list(F.struct(_BLOCK, _BITS))).alias(c.ALLOWED),
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
    groups = F.array(*[F.when(value.isNotNull(), F.xxhash64(value)) for value in values]).cast("array<bigint>")
    return described.where(F.lit(bool(rules.caps))).select(c.ITEM_ID, c.ITEM_IDX, groups.alias(c.GROUPS))


def _all(flags: Iterable[Column]) -> Column:
    together = F.lit(True)
    for flag in flags:
        together = together & flag
    return together
