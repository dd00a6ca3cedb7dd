"""Item matrices are built once per machine, whole or not at all; a disk that cannot hold them is named."""

import errno
import fcntl
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from recsys_spark.bridges.item_store import on_shelf, share_item_matrix
from recsys_spark.bridges.snapshot import Snapshot, SnapshotFile
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.item_matrix import blank_file

DAY = 24 * 3600


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Where this test's matrices lie, empty."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"recsys_spark-items-{os.getuid()}"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def old_folder(shelf):
    """A matrix that nobody has opened for more than a day."""
    folder = shelf / "old"
    folder.mkdir()
    os.utime(folder, (time.time() - 2 * DAY,) * 2)
    return folder


def items_snapshot(path):
    """Three rows of ITEM_EMBEDDINGS."""
    vectors = pa.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]], pa.list_(pa.float32()))
    rows = pa.table({"item_id": ["b", "a", "c"], "item_idx": pa.array([1, 2, 3], pa.int32()), "embedding": vectors})
    pyarrow.parquet.write_table(rows, path)
    return Snapshot("ITEM_EMBEDDINGS", 0, (SnapshotFile(path.as_uri(), 3),))


@pytest.mark.parametrize("folder", ["taken", "nowhere"])
def test_a_temporary_folder_without_a_place_for_matrices_is_named(tmp_path, monkeypatch, folder):
    monkeypatch.setattr("recsys_spark.bridges.item_store.os.getuid", lambda: 7)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / folder))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "recsys_spark-items-7").write_text("a file of that name")
    with pytest.raises(RecsysError, match=r"folder .*recsys_spark-items-7: wanted a folder of this user.* Set TMPDIR"):
        share_item_matrix.__wrapped__(Snapshot("ITEM_EMBEDDINGS", 0, ()), "embedding")


def test_a_blank_file_has_its_room_on_the_disk_before_it_is_written(tmp_path):
    assert not blank_file(tmp_path / "blank.npy", (100, 1000), np.int32).any()
    file = (tmp_path / "blank.npy").stat()
    assert 512 * file.st_blocks >= file.st_size > 400_000


def test_a_full_disk_is_named_and_nothing_is_left(shelf, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", refuse)
    told = rf"folder {re.escape(str(shelf))}: wanted 0 MiB for what workers share; found a full disk.* Set TMPDIR"
    with pytest.raises(RecsysError, match=told):
        share_item_matrix.__wrapped__(items_snapshot(shelf.parent / "items.parquet"), "embedding")
    assert [path.suffix for path in shelf.iterdir()] == [".lock"]


@pytest.mark.parametrize("error", [ValueError("of the build"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing_and_the_next_one_succeeds(shelf, error):
    def fail(folder):
        (folder / "half").write_text("half")
        raise error

    with pytest.raises(type(error)):
        on_shelf("matrix", fail)
    assert [path.name for path in shelf.iterdir()] == ["matrix.lock"]
    on_shelf("matrix", lambda folder: (folder / "whole").write_text("whole"))
    assert [path.name for path in (shelf / "matrix").iterdir()] == ["whole"]


def test_what_nobody_has_opened_for_a_day_goes_with_the_next_build(shelf, old_folder):
    on_shelf("recent", lambda folder: None)
    assert not old_folder.exists()
    on_shelf("new", lambda folder: None)
    assert sorted(path.name for path in shelf.iterdir() if path.is_dir()) == ["new", "recent"]


def test_an_old_matrix_stays_while_a_worker_has_its_lock(shelf, old_folder):
    with (shelf / "old.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        on_shelf("new", lambda folder: None)
        assert old_folder.exists()


def test_an_old_matrix_that_a_worker_opens_before_it_is_locked_stays(shelf, old_folder, monkeypatch):
    def open_then_lock(lock, mode):
        if mode & fcntl.LOCK_NB:
            os.utime(old_folder)

    monkeypatch.setattr("fcntl.flock", open_then_lock)
    on_shelf("new", lambda folder: None)
    assert old_folder.exists()


def test_workers_that_want_the_same_at_once_build_it_once(shelf):
    both, built = threading.Barrier(2), []

    def build(folder):
        built.append(folder)
        time.sleep(0.2)  # the other worker asks meanwhile
        (folder / "whole").write_text("whole")

    def ask(_):
        both.wait()
        return (on_shelf("matrix", build) / "whole").read_text()

    with ThreadPoolExecutor(2) as workers:
        assert list(workers.map(ask, range(2))) == ["whole", "whole"]
    assert len(built) == 1
