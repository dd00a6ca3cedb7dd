"""What a block of users may not be listed, from the columns they come with; and why a list is short."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark import columns as c
from recsys_spark.bridges.rule_store import Segments
from recsys_spark.errors import problem
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.item_matrix import Int64Array, ItemMatrix
from recsys_spark.kernels.top_k import TopLists
from recsys_spark.seen_rules import days_dropped

SEEN: Final = "seen"
"""Column of users to score: item_idx of the items the user has had, in any order, with or without repetition."""

SEEN_DAYS: Final = "seen_days"
"""Column of users to score: for each of them, the whole days since the last time."""


def exclude(users: pa.RecordBatch, seen_rule: str, items: ItemMatrix, segments: Segments | None) -> Exclusions:
    """What seen rule, block list and conditions exclude for users with the columns seen, seen_days, blocked, segment.

    Raises the typed error for a segment that `segments` does not have.
    """
    pairs = _pairs(users, items, seen_rule)
    if segments is None:
        return pairs
    numbers = users.column(c.SEGMENT).to_pylist()
    unknown = sum(number not in segments.places for number in numbers)
    if unknown:
        raise problem(
            "table SEGMENTS",
            wanted="every user in USER_RULES, and a row for every segment",
            found=f"none for {unknown:,} users of a block",
            do="Run jobs/apply_rules.py again with the same configuration.",
        )
    if not len(segments.barred_GB):
        return pairs
    return pairs.barring(np.array([segments.places[number] for number in numbers]), segments.barred_GB)


def explain_short(
    top: TopLists,
    excluded: Exclusions,
    users: pa.RecordBatch,
    items: ItemMatrix,
    segments: Segments | None,
    *,
    top_k: int,
) -> pa.Array:
    """For each list null, or when it has not `top_k` items how many it has and what became of all the others.

    `excluded` is what `exclude` gave for the lists: conditions count first, then blocked items, then seen ones; what
    is left over, caps have left out.
    """
    counts_U = top.counts_U
    short_S = np.flatnonzero(counts_U < top_k)
    texts: list[str | None] = [None] * len(users)
    if len(short_S):
        excluded, users = excluded.of_users(short_S), users.take(pa.array(short_S))
        only_barred = Exclusions.none(len(users)).barring(excluded.segments_U, excluded.barred_GB)
        blocked = _pairs(users, items).pairs_beyond(only_barred)
        parts = (
            counts_U[short_S],
            only_barred.num_barred(),
            blocked.num_pairs(),
            excluded.pairs_beyond(only_barred).num_pairs() - blocked.num_pairs(),
        )
        reasons = segments.reasons_G if segments is not None and len(segments.barred_GB) else [""] * len(users)
        for user, segment, *numbers in zip(short_S, excluded.segments_U, *parts, strict=True):
            texts[user] = _in_words(top_k, items.num_items, reasons[segment], *numbers)
    return pa.array(texts, pa.string())


def _in_words(
    top_k: int, num_items: int, reason: str, listed: int, num_barred: int, num_blocked: int, num_seen: int
) -> str:
    over = num_items - listed - num_barred - num_blocked - num_seen
    parts = {
        f"barred ({reason or 'of no catalogue'})": num_barred,
        "blocked": num_blocked,
        "left out by the seen rule": num_seen,
        "left out by caps": over,
    }
    others = ", ".join(f"{number:,} {part}" for part, number in parts.items() if number)
    return f"{listed:,} of {top_k:,}: of {num_items:,} items {others or 'all are listed'}"


def _pairs(users: pa.RecordBatch, items: ItemMatrix, seen_rule: str | None = None) -> Exclusions:
    """Blocked items, and those that the seen rule leaves out."""
    rows_P, idx_P = _flat(users.column(c.BLOCKED))
    if seen_rule is not None:
        rows_S, idx_S = _flat(users.column(SEEN))
        is_dropped_S = _days(users) < days_dropped(seen_rule)
        rows_P = np.concatenate([rows_P, rows_S[is_dropped_S]])
        idx_P = np.concatenate([idx_P, idx_S[is_dropped_S]])
    return Exclusions.from_pairs(rows_P, idx_P, items, num_users=len(users))


def _flat(column: pa.Array) -> tuple[Int64Array, Int64Array]:
    """An array<int> column as pairs of user and item_idx (-1, which no item has, for null); a null row has none."""
    counts_U = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    idx_P = pc.fill_null(column.flatten(), -1).to_numpy().astype(np.int64)
    return np.repeat(np.arange(len(column)), counts_U), idx_P


def _days(users: pa.RecordBatch) -> Int64Array:
    """Days since each seen item, in the order of `seen`; 0 for users without them."""
    counts_U = pc.fill_null(pc.list_value_length(users.column(SEEN)), 0).to_numpy()
    days_P = np.zeros(counts_U.sum(), dtype=np.int64)
    is_told_P = np.repeat(~users.column(SEEN_DAYS).is_null().to_numpy(zero_copy_only=False), counts_U)
    days_P[is_told_P] = users.column(SEEN_DAYS).flatten().to_numpy()
    return days_P
