"""Every user against every item inside Spark: each task keeps its users and searches the machine's item matrix.

One `mapInArrow`: a task takes its partition's users in blocks of `user_block`, and `kernels/top_k.py` finds their best
K among the items of the matrix that all workers of a machine share (bridges/item_store.py). A row comes out for each
user and seen rule, so nothing has to be merged. Nothing is collected on the driver, and no matrix of all pairs exists
anywhere. All seen rules come from one pass over the scores; with caps, each from one of its own.

The result does not depend on partitions, blocks or files: vectors lie on the grid on which products are exact, and
equal scores are ordered by item_id.

A run that is asked to (`checked_share`) proves that it is exact (bridges/proof.py).

The work is one thread per Python worker (bridges/worker_tasks.py), since Spark's tasks already fill the cores. Its
memory has a bound that is known before the stage runs (bridges/worker_memory.py).

Dropped: `applyInPandas` per group of users (one group is one Arrow batch and meets its 2 GiB limit); a join of user and
item blocks (the blocks of the larger side travel through the shuffle once per block of the other); a row per listed
item (Spark spent longer writing them than the kernel finding them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark import TaskContext
from pyspark.sql import DataFrame

from recsys_spark import columns as c
from recsys_spark.bridges.item_store import share_item_matrix
from recsys_spark.bridges.proof import require_exact
from recsys_spark.bridges.rule_store import RuleTables, share_caps, share_segments
from recsys_spark.bridges.snapshot import Snapshot, rebatch
from recsys_spark.bridges.user_rules import SEEN, SEEN_DAYS, exclude, explain_short
from recsys_spark.bridges.vectors import decode_vectors, encode_lists, explain_bad_vectors
from recsys_spark.bridges.worker_memory import MAX_BLOCK_PAIRS
from recsys_spark.bridges.worker_tasks import begin_in_worker
from recsys_spark.kernels.caps import find_capped
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.item_matrix import ItemMatrix
from recsys_spark.kernels.products import fastest_products
from recsys_spark.kernels.top_k import TopLists, Users, find_top_k, readmit
from recsys_spark.kernels.top_k_gpu import DeviceItems, find_top_k_on
from recsys_spark.seen_rules import days_dropped
from recsys_spark.tables.session import ARROW_BATCH_BYTES

SCORED_SCHEMA: Final = (
    f"{c.USER_ID} string, {c.SPLIT} string, {c.SEEN_RULE} string, {c.ITEMS} array<int>, {c.SCORES} array<double>, "
    f"{c.SHORTFALL} string"
)

_LIST: Final = pa.list_(pa.int32())
_OF_USERS: Final = {SEEN: _LIST, SEEN_DAYS: _LIST, c.BLOCKED: _LIST, c.SEGMENT: pa.int64()}
"""What users may come without."""


@dataclass(frozen=True)
class ScoreSettings:
    """What a worker needs to know besides its users: plain values."""

    items: Snapshot
    column: str
    rules: RuleTables | None
    top_k: int
    seen_rules: tuple[str, ...]
    alpha: float
    offset_b: float
    user_block: int
    checked_share: float


def score_pairs(
    users: DataFrame,
    items: Snapshot,
    *,
    column: str,
    rules: RuleTables | None = None,
    top_k: int,
    seen_rules: Sequence[str],
    alpha: float,
    offset_b: float,
    user_block: int,
    checked_share: float = 0.0,
) -> DataFrame:
    """The exact best `top_k` items of every row of `users` under each seen rule (SCORED_SCHEMA), in no order.

    `users` has user_id, split and embedding (array<float> on the grid), and may have seen, seen_days (without it, all
    was had today), blocked (item_idx never listed) and segment (of `rules`); null arrays are empty ones. `items` is a
    snapshot of ITEM_EMBEDDINGS (item_id, item_idx and the vectors `column`) of one model version, `rules` are those of
    one run. What a seen rule, a condition or a block list excludes is left out before the selection, and caps are kept
    within it, so a list is short only when nothing is left, as in a catalogue of fewer items; `shortfall` says why
    then. A list holds item_idx and scores, best first: score descending, then item_id ascending; score = alpha * cosine
    + offset_b with alpha > 0.
    Lists of about `checked_share` of the users (by their ids' hashes) are worked out in float64 too.

    Raises the typed error in the workers when vectors are null or of unequal width or off the grid, when an item_id
    comes twice, when a checked list differs, and what `read_batches` raises.
    """
    if not seen_rules:
        raise ValueError("wanted at least one seen rule; found none")
    for rule in seen_rules:
        days_dropped(rule)
    if not alpha > 0 or not np.isfinite([alpha, offset_b]).all():
        raise ValueError(f"wanted a finite alpha > 0 and a finite offset_b; found {alpha} and {offset_b}")
    if user_block < 1:
        raise ValueError(f"wanted blocks of at least one user; found {user_block}")
    settings = ScoreSettings(items, column, rules, top_k, tuple(seen_rules), alpha, offset_b, user_block, checked_share)
    given = [name for name in _OF_USERS if name in users.columns]
    return users.select(c.USER_ID, c.SPLIT, c.EMBEDDING, *given).mapInArrow(_scorer(settings), SCORED_SCHEMA)


def _scorer(settings: ScoreSettings) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return score_batches(batches, settings)

    return score


def score_batches(batches: Iterable[pa.RecordBatch], settings: ScoreSettings) -> Iterator[pa.RecordBatch]:
    """The worker: batches of users (user_id, split, embedding, seen) to batches of SCORED_SCHEMA's columns."""
    begin_in_worker()
    for users in rebatch(batches, settings.user_block, max_bytes=ARROW_BATCH_BYTES):
        for block in split_by_pairs(with_all_columns(users)):
            yield from _score_block(block, share_item_matrix(settings.items, settings.column), settings)


def with_all_columns(users: pa.RecordBatch) -> pa.RecordBatch:
    """The users with nulls for what they came without."""
    missing = {name: pa.nulls(len(users), kind) for name, kind in _OF_USERS.items() if name not in users.schema.names}
    return pa.RecordBatch.from_arrays([*users.columns, *missing.values()], names=[*users.schema.names, *missing])


def split_by_pairs(users: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Blocks with at most MAX_BLOCK_PAIRS seen and blocked items in all; a user with more is alone."""
    counts = [pc.fill_null(pc.list_value_length(users.column(name)), 0).to_numpy() for name in (SEEN, c.BLOCKED)]
    ends = np.cumsum(np.sum(counts, axis=0, dtype=np.int64))
    start = 0
    while start < len(users):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + MAX_BLOCK_PAIRS, side="right")))
        yield users.slice(start, stop - start)
        start = stop


def _score_block(users: pa.RecordBatch, items: ItemMatrix, settings: ScoreSettings) -> Iterator[pa.RecordBatch]:
    """One pass of all items over one block of users; with caps, one for each seen rule."""
    where = f"users to score, column {c.EMBEDDING}"
    vectors_UD = decode_vectors(users.column(c.EMBEDDING), where, width=items.dim)
    with explain_bad_vectors(where, users.column(c.USER_ID)):
        ready = Users.of(vectors_UD, dim=items.dim)
    rules, source = settings.rules, (settings.items, settings.column)
    top_k = min(settings.top_k, items.num_items)
    caps, most_C = None, np.array(rules.most if rules else (), dtype=np.int64)
    segments = share_segments(rules.segments, *source) if rules else None
    excluded = {rule: exclude(users, rule, items, segments) for rule in settings.seen_rules}
    if rules and rules.most:
        caps = share_caps(rules.groups, len(rules.most), *source)
        find = partial(search, items=items)
        lists = {
            rule: find_capped(find, ready, items, top_k=top_k, excluded=without, caps=caps, most_C=most_C)
            for rule, without in excluded.items()
        }
    else:
        widest = excluded[max(settings.seen_rules, key=days_dropped)]
        fewest = search(ready, top_k, widest, items=items)
        lists = {
            rule: readmit(fewest, ready, items, widest.pairs_beyond(without)) for rule, without in excluded.items()
        }
    for rule, top in lists.items():
        require_exact(
            top, ready, users.column(c.USER_ID), items, share=settings.checked_share, excluded=excluded[rule],
            caps=caps, most_C=most_C, under=f" under seen rule {rule}",
        )  # fmt: skip
        why = explain_short(top, excluded[rule], users, items, segments, top_k=settings.top_k)
        yield _lists_as_batch(top, rule, why, users, items, settings)


def search(users: Users, top_k: int, excluded: Exclusions, *, items: ItemMatrix) -> TopLists:
    """On the task's GPU where there is one, else by the processor's fastest products: the lists are the same."""
    if torch.cuda.is_available():
        task = TaskContext.get()
        given = task.resources().get("gpu") if task else None  # what Spark gave this task, if it hands out GPUs
        device = torch.device("cuda", int(given.addresses[0]) if given else 0)
        return find_top_k_on(users.vectors_UD, _on_gpu(items, device), top_k=top_k, excluded=excluded)
    return find_top_k(users, items, top_k=top_k, products=fastest_products(items.dim), excluded=excluded)


@lru_cache(maxsize=1)  # sent once per worker process
def _on_gpu(items: ItemMatrix, device: torch.device) -> DeviceItems:
    return DeviceItems.of(items, device)


def _lists_as_batch(
    top: TopLists, rule: str, why: pa.Array, users: pa.RecordBatch, items: ItemMatrix, settings: ScoreSettings
) -> pa.RecordBatch:
    counts_U = top.counts_U
    scores_P = settings.alpha * top.scores_P.astype(np.float64) + settings.offset_b
    columns = {
        c.USER_ID: users.column(c.USER_ID),
        c.SPLIT: users.column(c.SPLIT),
        c.SEEN_RULE: pa.repeat(rule, len(users)),
        c.ITEMS: encode_lists(pa.array(items.idx_of_place_M[top.places_P]), counts_U),
        c.SCORES: encode_lists(pa.array(scores_P), counts_U),
        c.SHORTFALL: why,
    }
    return pa.RecordBatch.from_pydict(columns)
