"""Files of a snapshot -> what a rank holds in memory: the catalogue's texts, the targets' counts, validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys_spark import columns as c
from recsys_spark.bridges.feed import count_rows, read_row_groups
from recsys_spark.bridges.snapshot import SnapshotFile, read_batches
from recsys_spark.errors import problem
from recsys_spark.kernels.batches import ItemTexts, SequenceBatch, deal, plan_batches

_READ_ROWS = 65_536
_VALIDATION_ROWS = 256
"""Validation rows scored at once: 4 * rows * items bytes."""


def read_item_texts(files: Sequence[SnapshotFile]) -> ItemTexts:
    """The catalogue's distinct texts and each item's text; memory grows with the catalogue's texts.

    Texts are numbered in the order of the first item that has each, wherever its row lies.
    """
    rows_of: dict[str, int] = {}
    token_ids, lengths, items, texts = [], [], [], []
    for batch in read_batches(files, [c.ITEM_IDX, c.TEXT_HASH, c.TOKEN_IDS, c.NUM_TOKENS], batch_rows=_READ_ROWS):
        hashes = batch.column(c.TEXT_HASH).to_pylist()
        new_places = []
        for place, text_hash in enumerate(hashes):
            if text_hash not in rows_of:
                rows_of[text_hash] = len(rows_of)
                new_places.append(place)
        token_ids.append(_fixed_width(batch.column(c.TOKEN_IDS), len(batch))[new_places])
        lengths.append(batch.column(c.NUM_TOKENS).to_numpy()[new_places])
        items.append(batch.column(c.ITEM_IDX).to_numpy())
        texts.append(np.array([rows_of[text_hash] for text_hash in hashes], dtype=np.int64))
    all_items, all_texts = np.concatenate(items), np.concatenate(texts)
    first_item_U = np.full(len(rows_of), np.iinfo(np.int64).max)
    np.minimum.at(first_item_U, all_texts, all_items)
    order_U = np.argsort(first_item_U)
    text_of_item_N = np.full(int(all_items.max()) + 1, -1, dtype=np.int64)
    text_of_item_N[all_items] = np.argsort(order_U)[all_texts]
    return ItemTexts(np.concatenate(token_ids)[order_U], np.concatenate(lengths)[order_U], text_of_item_N)


def count_targets(files: Sequence[SnapshotFile], num_items: int) -> npt.NDArray[np.int64]:
    """How often each item is a target in the rows of the files, int64 [N]; an item number of N or more is an error."""
    counts = np.zeros(num_items, dtype=np.int64)
    for batch in read_batches(files, [c.TARGET_ITEMS], batch_rows=_READ_ROWS):
        targets = batch.column(c.TARGET_ITEMS).flatten().to_numpy()
        if (largest := targets.max(initial=-1)) >= num_items:
            raise problem(
                "table SEQUENCES",
                wanted=f"item numbers below {num_items:,}, as ITEM_TEXT has them",
                found=f"{largest:,}",
                do="The catalogue has grown since its texts were made: run build_item_text, then train again.",
            )
        counts += np.bincount(targets[targets >= 0], minlength=num_items)
    return counts


def read_validation(files: Sequence[SnapshotFile]) -> list[SequenceBatch]:
    """All rows of the files, in batches of nearly equal size; no files, no batches."""
    num_rows = count_rows(files)
    return list(deal(read_row_groups(files), plan_batches(num_rows, -(-num_rows // _VALIDATION_ROWS))))


def _fixed_width(lists: Any, num_rows: int) -> npt.NDArray[np.int32]:
    return np.asarray(lists.flatten().to_numpy()).reshape(num_rows, -1)
