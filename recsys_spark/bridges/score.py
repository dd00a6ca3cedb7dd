"""Every user against every item inside Spark: each task keeps its users and streams the items past them.

One `mapInArrow`: a task takes its partition's users in blocks of `user_block`; for each block the item files
of the snapshot stream by in blocks of `item_block`, and `kernels/top_k.py` keeps the best K. Nothing is
collected on the driver, and no matrix of all pairs exists anywhere. Both seen rules come from one pass over
the scores.

The result does not depend on partitions, blocks or files: vectors lie on the grid on which products are
exact, and equal scores are ordered by item_id, whose places (numbers in the order of the ids) a task works
out once.

Memory of a task: `top_k.block_bytes`, the Arrow batches of one user and one item block (both sides' vectors
once more), and of the catalogue its ids only: the bytes of an id plus 16 per item.

The work is one BLAS thread per Python worker: the session sets OMP_NUM_THREADS and OPENBLAS_NUM_THREADS in
the workers' environment (tables/session.py), since Spark's tasks already fill the cores.

Dropped: `applyInPandas` per group of users (one group is one Arrow batch and meets its 2 GiB limit); a join
of user and item blocks (the blocks of the larger side travel through the shuffle once per block of the
other).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from recsys_spark import columns as c
from recsys_spark.bridges.snapshot import Snapshot, read_batches, rebatch
from recsys_spark.errors import problem
from recsys_spark.kernels.grid import Float32Array
from recsys_spark.kernels.top_k import Exclusions, ItemBlock, RunningTopK, TopLists

KEEP: Final = "keep"
DROP: Final = "drop"

SCORED_SCHEMA: Final = (
    f"{c.USER_ID} string, {c.SPLIT} string, {c.SEEN_RULE} string, {c.ITEM_ID} string, {c.RANK} int, {c.SCORE} double"
)

SEEN: Final = "seen"
"""Column of `users`: item_idx of the items the user has had, in any order, with or without repetition."""

_OUTPUT_ROWS: Final = 2**16
"""Rows per Arrow batch handed back to Spark: about 5 MiB, far from Arrow's limits whatever K and
user_block."""

_ID_BATCH_ROWS: Final = 2**16
"""Rows per batch when only the item ids are read."""


@dataclass(frozen=True)
class ScoreSettings:
    """What a worker needs to know besides its users: plain values."""

    items: Snapshot
    top_k: int
    seen_rules: tuple[str, ...]
    alpha: float
    offset_b: float
    user_block: int
    item_block: int


def score_pairs(
    users: DataFrame,
    items: Snapshot,
    *,
    top_k: int,
    seen_rules: Sequence[str],
    alpha: float,
    offset_b: float,
    user_block: int,
    item_block: int,
) -> DataFrame:
    """The exact best `top_k` items of every row of `users` under each seen rule (SCORED_SCHEMA), in no order.

    `users` has user_id, split, embedding (array<float> on the grid) and seen (array<int>, may be null or
    empty); `items` is a snapshot of ITEM_EMBEDDINGS (item_id, item_idx, embedding) of one model version. Rule
    `drop` leaves out seen items before the selection, `keep` does not. Rank counts from 1: score descending,
    then item_id ascending; score = alpha * cosine + offset_b with alpha > 0.

    Raises the typed error at once when K exceeds the number of items; in the workers when vectors are null or
    of unequal width, when an item_id comes twice, and what `read_batches` raises. Vectors off the grid are
    the kernel's ValueError.
    """
    require_top_k_fits(top_k, items.rows)
    unknown = sorted(set(seen_rules) - {KEEP, DROP})
    if unknown or not seen_rules:
        raise ValueError(f"wanted seen_rules of {KEEP} and {DROP}; found {list(seen_rules)}")
    if not alpha > 0 or not np.isfinite([alpha, offset_b]).all():
        raise ValueError(f"wanted a finite alpha > 0 and a finite offset_b; found {alpha} and {offset_b}")
    if user_block < 1 or item_block < 1:
        raise ValueError(f"wanted blocks of at least one row; found {user_block} users, {item_block} items")
    settings = ScoreSettings(items, top_k, tuple(seen_rules), alpha, offset_b, user_block, item_block)
    rows = users.select(c.USER_ID, c.SPLIT, c.EMBEDDING, SEEN)
    return rows.mapInArrow(_scorer(settings), SCORED_SCHEMA)


def require_top_k_fits(top_k: int, num_items: int) -> None:
    """Raise the typed error when lists of `top_k` cannot be filled from `num_items` items."""
    if top_k > num_items:
        raise problem(
            "configuration, score.top_k",
            wanted=f"at most {num_items:,}, the number of items with a vector",
            found=f"{top_k:,}",
            do=f"Lower it (--set score.top_k={num_items}), or ingest the whole catalogue.",
        )


def _scorer(settings: ScoreSettings) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return score_batches(batches, settings)

    return score


def score_batches(batches: Iterable[pa.RecordBatch], settings: ScoreSettings) -> Iterator[pa.RecordBatch]:
    """The worker: batches of users (user_id, split, embedding, seen) to batches of SCORED_SCHEMA's
    columns."""
    order: ItemOrder | None = None
    for users in rebatch(batches, settings.user_block):
        # One order per task, and none for a task without users.
        order = order or ItemOrder.of(settings.items)
        yield from _score_block(users, order, settings)


@dataclass(frozen=True)
class ItemOrder:
    """The items' places: `places_M` in the order the snapshot is read, `ids` in the order of the places."""

    places_M: npt.NDArray[np.int64]
    ids: pa.Array

    @classmethod
    def of(cls, items: Snapshot) -> ItemOrder:
        """Sort the item ids by their UTF-8 bytes, as Spark does; the typed error names an id that comes
        twice."""
        batches = read_batches(items, [c.ITEM_ID], _ID_BATCH_ROWS)
        # Large strings: all ids of a catalogue may be more than the 2 GiB that Arrow's plain strings address.
        ids = pa.concat_arrays([batch.column(0).cast(pa.large_string()) for batch in batches])
        order_M = pc.sort_indices(ids).to_numpy()
        sorted_ids = ids.take(pa.array(order_M))
        num_distinct = len(ids) and 1 + pc.sum(pc.not_equal(sorted_ids[1:], sorted_ids[:-1])).as_py()
        if ids.null_count or num_distinct != len(ids):
            raise problem(
                f"table {items.table}, version {items.version}",
                wanted=f"one row for each {c.ITEM_ID}",
                found=f"{len(ids):,} rows, {num_distinct:,} distinct ids, {ids.null_count:,} null",
                do="Take the snapshot of one model version (one partition).",
            )
        places_M = np.empty(len(ids), dtype=np.int64)
        places_M[order_M] = np.arange(len(ids))
        return cls(places_M, sorted_ids)


def _score_block(users: pa.RecordBatch, order: ItemOrder, settings: ScoreSettings) -> Iterator[pa.RecordBatch]:
    """One pass of all items over one block of users."""
    users_UD = decode_vectors(users.column(c.EMBEDDING), "users to score")
    excluded = decode_seen(users.column(SEEN)) if DROP in settings.seen_rules else None
    running = RunningTopK(users_UD, top_k=settings.top_k, excluded=excluded)
    items, start = settings.items, 0
    for batch in read_batches(items, [c.ITEM_IDX, c.EMBEDDING], settings.item_block):
        where = f"table {items.table}, version {items.version}"
        vectors_ND = decode_vectors(batch.column(c.EMBEDDING), where, width=users_UD.shape[1])
        places_N = order.places_M[start : start + batch.num_rows]
        running.update(ItemBlock(vectors_ND, places_N, batch.column(c.ITEM_IDX).to_numpy()))
        start += batch.num_rows
    for rule in settings.seen_rules:
        top = running.lists() if rule == DROP else running.lists_with_excluded()
        yield from _lists_as_batches(top, rule, users, order, settings)


def _lists_as_batches(
    top: TopLists, rule: str, users: pa.RecordBatch, order: ItemOrder, settings: ScoreSettings
) -> Iterator[pa.RecordBatch]:
    rows_P, ranks_P = top.rows_P, top.ranks_P
    for start in range(0, len(rows_P), _OUTPUT_ROWS):
        part = slice(start, start + _OUTPUT_ROWS)
        rows = pa.array(rows_P[part])
        scores = settings.alpha * top.scores_P[part].astype(np.float64) + settings.offset_b
        columns = {
            c.USER_ID: users.column(c.USER_ID).take(rows),
            c.SPLIT: users.column(c.SPLIT).take(rows),
            c.SEEN_RULE: pa.repeat(rule, len(rows)),
            c.ITEM_ID: order.ids.take(pa.array(top.places_P[part])).cast(pa.string()),
            c.RANK: pa.array(ranks_P[part].astype(np.int32)),
            c.SCORE: pa.array(scores),
        }
        yield pa.RecordBatch.from_pydict(columns)


def decode_vectors(column: pa.Array, where: str, *, width: int | None = None) -> Float32Array:
    """An array<float> column as float32 [N, D] without a copy; `width` is the D it must have (None: any one).

    Raises the typed error for another type, nulls, or rows of unequal width; N is at least 1.
    """
    found = None
    if not (pa.types.is_list(column.type) and pa.types.is_float32(column.type.value_type)):
        found = str(column.type)
    elif column.null_count or column.flatten().null_count:
        found = f"nulls in {column.null_count:,} rows or inside of rows"
    else:
        widths = pc.min_max(pc.list_value_length(column)).as_py()
        if not 0 < widths["min"] == widths["max"] == (width or widths["max"]):
            found = f"widths from {widths['min']} to {widths['max']}"
    if found:
        raise problem(
            f"{where}, column {c.EMBEDDING}",
            wanted=f"an array<float> of width {width}" if width else "an array<float> of one width",
            found=found,
            do="Users and items must be embedded by the same model version: run both embed jobs again.",
        )
    vectors: Float32Array = column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), -1)
    return vectors


def decode_seen(column: pa.Array) -> Exclusions:
    """An array<int> column of item_idx as exclusions, one row per user; a null row has none."""
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    item_idx = pc.fill_null(column.flatten(), -1).to_numpy()  # no item has the number -1
    rows = np.repeat(np.arange(len(column)), counts)
    return Exclusions.from_pairs(rows, item_idx, num_users=len(column))
