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
from recsys_spark.bridges.snapshot import SnapshotFile, require_whole
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


class PetastormFeed:
    """One rank's files: every row once per epoch, in `num_steps` batches of nearly equal size.

    Rows were dealt to files by hash; an epoch reads the files in an order of its own and shuffles within row groups.
    """

    def __init__(self, files: Sequence[SnapshotFile], *, num_steps: int, seed: int) -> None:
        self.num_steps = num_steps
        self._files = list(files)
        self._seed = seed

    @property
    def num_rows(self) -> int:
        return sum(file.rows for file in self._files)

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        rng = np.random.default_rng([self._seed, number])
        files = [self._files[place] for place in rng.permutation(len(self._files))]
        shuffled = (group.rows(rng.permutation(len(group))) for group in _read_ahead(files))
        try:
            yield from deal(shuffled, plan_batches(self.num_rows, self.num_steps))
        except ValueError as error:
            raise problem(
                "training feed",
                wanted=f"each of {self.num_rows:,} rows once per epoch",
                found=str(error),
                do="A file of the snapshot changed while it was read: run build_sequences and train again.",
            ) from error


def plan_steps(shards: Sequence[Sequence[SnapshotFile]], batch_rows: int) -> int:
    """Steps per epoch, the same on every rank: the largest shard in batches of at most `batch_rows` rows."""
    num_rows = [sum(file.rows for file in shard) for shard in shards]
    num_steps = -(-max(num_rows) // batch_rows)
    if min(num_rows) < num_steps:
        raise problem(
            "training feed",
            wanted=f"a row for each of {num_steps:,} steps on every rank",
            found=f"{min(num_rows):,} to {max(num_rows):,} rows per rank",
            do="Raise train.batch_rows, or lower train.ranks.",
        )
    return num_steps


def read_row_groups(files: Sequence[SnapshotFile]) -> Iterator[SequenceBatch]:
    """The rows of the files in order, a row group at a time, through Petastorm, which reads whole files."""
    from petastorm import make_batch_reader

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
