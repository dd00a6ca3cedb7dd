"""The arrays that travel from the tables to the model, and the pieces they are dealt out in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]

CHECKSUM_MODULUS = 2**31 - 1
"""Row ids are summed modulo this prime: Spark and the ranks add the same numbers without overflow."""


@dataclass(frozen=True)
class SequenceBatch:
    """Rows of SEQUENCES as arrays: B rows, L events, M targets."""

    row_id_B: npt.NDArray[np.int64]
    event_items_BL: Ints
    event_types_BL: Ints
    event_hours_BL: Ints
    num_events_B: Ints
    target_items_BM: Ints
    num_targets_B: Ints

    def __len__(self) -> int:
        return len(self.row_id_B)

    def rows(self, selection: slice | npt.NDArray[np.int64]) -> SequenceBatch:
        return SequenceBatch(*(getattr(self, field.name)[selection] for field in fields(self)))


@dataclass(frozen=True)
class ItemTexts:
    """The catalogue as a rank holds it: U distinct texts of T tokens, N item numbers.

    `text_of_item_N` is the text's row, -1 for a number that the catalogue no longer has.
    """

    token_ids_UT: Ints
    lengths_U: Ints
    text_of_item_N: npt.NDArray[np.int64]

    @property
    def num_items(self) -> int:
        return len(self.text_of_item_N)

    @property
    def known_items(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self.text_of_item_N >= 0)


def concatenate(parts: list[SequenceBatch]) -> SequenceBatch:
    if len(parts) == 1:  # what is left of a large piece is cut again and again: not copied each time
        return parts[0]
    return SequenceBatch(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(SequenceBatch)))


def plan_batches(num_rows: int, num_steps: int) -> list[int]:
    """Rows of each of `num_steps` batches: sizes differ by one at most and add up to `num_rows`. No rows, no steps."""
    if num_steps == 0 == num_rows:
        return []
    base, longer = divmod(num_rows, num_steps)
    return [base + 1] * longer + [base] * (num_steps - longer)


def deal(groups: Iterable[SequenceBatch], sizes: list[int]) -> Iterator[SequenceBatch]:
    """Cut a stream of row groups into batches of exactly `sizes` rows, in order, none left over.

    Raises ValueError when the stream has fewer or more rows than the sizes add up to.
    """
    stream = iter(groups)
    waiting: list[SequenceBatch] = []
    num_waiting = 0
    for size in sizes:
        while num_waiting < size:
            group = next(stream, None)
            if group is None:
                raise ValueError(f"the feed ended {size - num_waiting} rows too early")
            waiting.append(group)
            num_waiting += len(group)
        rows = concatenate(waiting)
        yield rows.rows(slice(0, size))
        waiting, num_waiting = [rows.rows(slice(size, None))], num_waiting - size
    if num_waiting or any(len(group) for group in stream):
        raise ValueError("the feed has more rows than were planned")
