"""Files of a snapshot -> batches of training rows, through Petastorm.

Petastorm's thread pool can end early and lose rows without an error: `ThreadPool.get_results` asks whether all workers
are done before it asks whether all work was handed out. The dummy pool reads in the calling thread and cannot; the
thread that overlaps reading with training is our own. Every epoch the rows are counted against the plan all the same.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

import numpy as np

from recsys_spark import columns as c
from recsys_spark.bridges.snapshot import SnapshotFile, assign_files, require_whole
from recsys_spark.errors import problem
from recsys_spark.kernels.batches import SequenceBatch, deal, plan_batches

_COLUMNS = (
    c.ROW_ID,
    c.EVENT_ITEMS,
    c.EVENT_TYPES,
    c.EVENT_HOURS,
    c.NUM_EVENTS,
    c.TARGET_ITEMS,
    c.NUM_TARGETS,
)  # in the order of SequenceBatch's fields
_ROW_GROUPS_AHEAD = 2
_SHUFFLED_ROWS = 32_768
"""Rows shuffled at once: 55 MB with 128 events and 64 targets a row."""


class PetastormFeed:
    """One rank's files: every row once per epoch, in `num_steps` batches of nearly equal size.

    Rows were dealt to files by hash; an epoch reads the files in an order of its own and shuffles what comes, so many
    rows at once. The order depends on the rows, the order of `files` and the seed: neither on the files' names nor on
    how their writer cut them into row groups.
    """

    def __init__(self, files: Sequence[SnapshotFile], *, num_steps: int, seed: int) -> None:
        self.num_steps = num_steps
        self._files = list(files)
        self._seed = seed

    @property
    def num_rows(self) -> int:
        return count_rows(self._files)

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        rng = np.random.default_rng([self._seed, number])
        files = [self._files[place] for place in rng.permutation(len(self._files))]
        pieces = deal(_read_ahead(files), plan_batches(self.num_rows, -(-self.num_rows // _SHUFFLED_ROWS)))
        shuffled = (piece.rows(rng.permutation(len(piece))) for piece in pieces)
        try:
            yield from deal(shuffled, plan_batches(self.num_rows, self.num_steps))
        except ValueError as error:
            raise problem(
                "training feed",
                wanted=f"each of {self.num_rows:,} rows once per epoch",
                found=str(error),
                do="A file of the snapshot changed while it was read: run build_sequences and train again.",
            ) from error


def plan_shards(files: Sequence[SnapshotFile], *, most_ranks: int, batch_rows: int) -> list[tuple[SnapshotFile, ...]]:
    """The files of each rank: of `most_ranks`, or of as many as have files of their own and a row for each step."""
    for num_ranks in range(min(most_ranks, len(files)), 1, -1):
        shards = assign_files(files, num_ranks)
        if min(count_rows(shard) for shard in shards) >= plan_steps(shards, batch_rows):
            return shards
    return assign_files(files, 1)


def plan_steps(shards: Sequence[Sequence[SnapshotFile]], batch_rows: int) -> int:
    """Steps per epoch, the same on every rank: the largest shard in batches of at most `batch_rows` rows."""
    return -(-max(count_rows(shard) for shard in shards) // batch_rows)


def count_rows(files: Sequence[SnapshotFile]) -> int:
    return sum(file.rows for file in files)


def read_row_groups(files: Sequence[SnapshotFile]) -> Iterator[SequenceBatch]:
    """The rows of the files in order, a row group at a time, through Petastorm, which reads whole files."""
    from petastorm import make_batch_reader

    if not files:  # Petastorm would ask for one
        return
    require_whole(files)
    with make_batch_reader(
        [unquote(file.uri) for file in files],  # Petastorm takes the path of a URI as it stands, blanks and all
        schema_fields=list(_COLUMNS),
        reader_pool_type="dummy",
        shuffle_row_groups=False,
        num_epochs=1,
    ) as reader:
        for group in reader:
            yield SequenceBatch(*(_as_array(getattr(group, name), name) for name in _COLUMNS))


def _as_array(values: np.ndarray, name: str) -> np.ndarray:
    """Petastorm may hand list columns over as arrays of arrays."""
    if values.dtype == object:
        values = np.stack(list(values))
    return values.astype(np.int64 if name == c.ROW_ID else np.int32, copy=False)


def _read_ahead(files: Sequence[SnapshotFile]) -> Iterator[SequenceBatch]:
    """`read_row_groups` in a thread of its own, a few row groups ahead; its errors come out here."""
    ready: queue.Queue[SequenceBatch | BaseException | None] = queue.Queue(_ROW_GROUPS_AHEAD)
    abandoned = threading.Event()

    def read() -> None:
        try:
            for group in read_row_groups(files):
                ready.put(group)
                if abandoned.is_set():
                    return
            ready.put(None)
        except BaseException as error:  # handed over to the consumer, who raises it
            ready.put(error)

    reader = threading.Thread(target=read, daemon=True, name="feed")
    reader.start()
    try:
        while (group := ready.get()) is not None:
            if isinstance(group, BaseException):
                raise group
            yield group
    finally:
        abandoned.set()
        while reader.is_alive():  # a full queue would keep the thread waiting for ever
            try:
                ready.get(timeout=0.05)
            except queue.Empty:
                continue
