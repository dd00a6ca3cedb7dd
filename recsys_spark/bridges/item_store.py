"""The matrix of a snapshot's vectors, built once per machine and mapped into every Python worker on it.

The first worker that needs it reads the snapshot, block by block, into files under the machine's temporary folder;
the others wait, then map the same files, whose pages the operating system shares and, when memory is short, drops and
reads again. So a catalogue may be larger than a worker's memory, and than the machine's. TMPDIR says where the files
lie: a local disk. A matrix that nobody has opened for a day goes when the next one is built.

Items are listed by the numbers that the catalogue gave them. Users have none: in their matrix a user's number is the
place of the id among all ids, and the sorted ids are mapped beside it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark import columns as c
from recsys_spark.bridges.snapshot import Snapshot, read_batches
from recsys_spark.bridges.vectors import decode_vectors, explain_bad_vectors
from recsys_spark.errors import problem
from recsys_spark.kernels.item_matrix import Int64Array, ItemMatrix, ItemMatrixBuilder, item_bytes, open_item_matrix

_FORMAT: Final = "1"
"""Part of a matrix's name: raise it when kernels/item_matrix.py writes something else."""

_IDS: Final = "ids.arrow"
_PART: Final = ".part"
_LOCK: Final = ".lock"
_FOLDERS: Final = re.compile(r"[0-9a-f]{24}(\.part)?")
_FILES: Final = re.compile(r"\w+\.(npy|arrow|json)")
"""Names of the folders on the shelf and of the files in them: nothing else is ever removed."""
_BLOCK_ROWS: Final = 2**13
_KEEP_SECONDS: Final = 24 * 3600


@lru_cache(maxsize=1)  # one mapping per worker process
def share_item_matrix(items: Snapshot, column: str) -> ItemMatrix:
    """The matrix of ITEM_EMBEDDINGS rows (item_id, item_idx and the vectors `column`) of one model version.

    Raises the typed error when an item_id comes twice, when vectors are null, of unequal width or off the grid, when
    the disk is too small, and what `read_batches` raises.
    """

    def build(folder: Path) -> None:
        places_M, _ = _order_ids(items, c.ITEM_ID)
        batches = read_batches(items, [c.ITEM_IDX], _BLOCK_ROWS)
        item_idx_M = np.concatenate([batch.column(0).to_numpy() for batch in batches]).astype(np.int64)
        _write_matrix(folder, items, c.ITEM_ID, column, places_M, item_idx_M)

    return open_item_matrix(on_shelf(name_on_shelf(items, _FORMAT, column), build))


@lru_cache(maxsize=1)  # one mapping per worker process
def share_user_matrix(users: Snapshot) -> tuple[ItemMatrix, pa.Array]:
    """The matrix of USER_EMBEDDINGS rows (user_id, embedding) of one model version and split, and the user_id of each
    number in it. Errors are those of `share_item_matrix`.
    """

    def build(folder: Path) -> None:
        places_M, sorted_ids = _order_ids(users, c.USER_ID)
        _write_ids(folder, sorted_ids)
        _write_matrix(folder, users, c.USER_ID, c.EMBEDDING, places_M, places_M)

    folder = on_shelf(name_on_shelf(users, _FORMAT, c.EMBEDDING), build)
    return open_item_matrix(folder), _open_ids(folder)


def on_shelf(name: str, build: Callable[[Path], None]) -> Path:
    """The machine's folder `name`, filled by `build` when it is not there; whoever else wants it waits meanwhile.

    It is built under another name first, so that what has the right name is whole; a build that fails leaves nothing.
    """
    shelf = Path(tempfile.gettempdir()) / f"recsys_spark-items-{os.getuid()}"
    _require_own_folder(shelf)
    folder = shelf / name
    with _locked(folder):
        if not folder.exists():
            _remove_old(shelf)
            part = folder.with_suffix(_PART)
            _remove(part)  # of a worker that was killed
            part.mkdir()
            try:
                build(part)
                part.rename(folder)
            finally:
                _remove(part)
        os.utime(folder)
    return folder


def name_on_shelf(source: Snapshot, *more: str) -> str:
    """A name that only the same rows of the same version have, made into the same thing (`more`)."""
    files = [[file.uri, file.rows, file.live] for file in source.files]
    return hashlib.sha256(json.dumps([*more, source.table, source.version, files]).encode()).hexdigest()[:24]


def _require_own_folder(shelf: Path) -> None:
    """The shelf's name can be known before, by whoever shares the temporary folder: a link, or a folder that others
    may write to, would have us read their matrices and remove what they point at."""
    try:
        with suppress(FileExistsError):
            shelf.mkdir(mode=0o700)
        status = shelf.lstat()
        is_private = _is_ours(status, stat.S_IFDIR) and not status.st_mode & 0o077
        found = "" if is_private else f"{stat.filemode(status.st_mode)} of user {status.st_uid}"
    except OSError as error:  # a temporary folder that cannot be written
        found = str(error)
    if found:
        do = "Look who put it there and remove it, or set TMPDIR of the executors to a local folder of this user's own"
        raise problem(
            f"folder {shelf}",
            wanted="a folder of this user alone (drwx------) for item matrices",
            found=found,
            do=f"{do} (spark.executorEnv.TMPDIR).",
        )


def _is_ours(status: os.stat_result, kind: int) -> bool:
    """Whether it is this user's and of that kind, a folder or a plain file; a link is neither."""
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == os.getuid()


@contextmanager
def _locked(folder: Path, mode: int = fcntl.LOCK_EX) -> Iterator[None]:
    path = folder.with_suffix(_LOCK)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, mode)  # the system releases it, however this process ends
        yield
    finally:
        os.close(lock)


def _order_ids(source: Snapshot, column: str) -> tuple[Int64Array, pa.Array]:
    """Each row's place among the ids sorted by their UTF-8 bytes, as Spark sorts them, and the sorted ids."""
    # Large strings: all ids of a catalogue may be more than the 2 GiB that Arrow's plain strings address.
    batches = read_batches(source, [column], _BLOCK_ROWS)
    ids = pa.concat_arrays([batch.column(0).cast(pa.large_string()) for batch in batches])
    order_M = pc.sort_indices(ids).to_numpy()
    sorted_ids = ids.take(pa.array(order_M))
    num_distinct = len(ids) and 1 + pc.sum(pc.not_equal(sorted_ids[1:], sorted_ids[:-1]), min_count=0).as_py()
    if ids.null_count or num_distinct != len(ids):
        raise problem(
            f"table {source.table}, version {source.version}",
            wanted=f"one row for each {column}",
            found=f"{len(ids):,} rows, {num_distinct:,} distinct ids, {ids.null_count:,} null",
            do="Take the snapshot of one model version (one partition), of users one split too.",
        )
    places_M = np.empty(len(ids), dtype=np.int64)
    places_M[order_M] = np.arange(len(ids))
    return places_M, sorted_ids


def _write_matrix(
    folder: Path, source: Snapshot, key: str, column: str, places_M: Int64Array, numbers_M: Int64Array
) -> None:
    where, builder, width = f"table {source.table}, version {source.version}, column {column}", None, None
    for batch in read_batches(source, [key, column], _BLOCK_ROWS):
        vectors_ND = decode_vectors(batch.column(column), where, width=width)
        if builder is None:
            width = vectors_ND.shape[1]
            with explain_full_disk(folder, item_bytes(len(places_M), width)):
                builder = ItemMatrixBuilder(places_M, numbers_M, dim=width, folder=folder)
        with explain_bad_vectors(where, batch.column(key)):
            builder.add(vectors_ND)
    if builder is not None:
        builder.finish()


def _write_ids(folder: Path, sorted_ids: pa.Array) -> None:
    batch = pa.RecordBatch.from_pydict({c.USER_ID: sorted_ids})
    with (
        explain_full_disk(folder, sorted_ids.nbytes),
        pa.OSFile(str(folder / _IDS), "wb") as file,
        pa.ipc.new_file(file, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def _open_ids(folder: Path) -> pa.Array:
    """The sorted ids, mapped and not read."""
    return pa.ipc.open_file(pa.memory_map(str(folder / _IDS))).get_batch(0).column(0)


@contextmanager
def explain_full_disk(folder: Path, num_bytes: int) -> Iterator[None]:
    """Turns the OSError of a full disk into the typed error, while so many bytes go to a folder on the shelf."""
    free = shutil.disk_usage(folder).free
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise problem(
            f"folder {folder.parent}",
            wanted=f"{num_bytes / 2**20:,.0f} MiB for what workers share",
            found=f"a full disk; {free / 2**20:,.0f} MiB were free before",
            do="Set TMPDIR of the executors to a larger local disk (spark.executorEnv.TMPDIR).",
        ) from None


def _remove_old(shelf: Path) -> None:
    """Remove what nobody has asked for in a day, unless a worker has its lock: it may be about to open it.

    What others still have mapped stays readable for them until they close it. Lock files stay: a worker may wait for
    one, and would hold the lock of a removed file while the next worker locks a new one.
    """
    for folder in [path for path in shelf.iterdir() if _FOLDERS.fullmatch(path.name)]:
        with suppress(BlockingIOError, FileNotFoundError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            # Looked at under the lock: another worker may have asked for it, or removed it, since it was listed.
            if time.time() - folder.lstat().st_mtime > _KEEP_SECONDS:
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder that `on_shelf` made, if it is there; one with anything else in it stays as it is."""
    with suppress(OSError):
        if not _is_ours(folder.lstat(), stat.S_IFDIR):
            return
        files = [*folder.iterdir()]
        if all(_FILES.fullmatch(file.name) and _is_ours(file.lstat(), stat.S_IFREG) for file in files):
            for file in files:
                file.unlink()
            folder.rmdir()
