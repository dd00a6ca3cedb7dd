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

from recsys_spark.bridges.item_store import on_shelf, share_item_matrix, share_user_matrix
from recsys_spark.bridges.snapshot import Snapshot, SnapshotFile
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.item_matrix import blank_file

DAY = 24 * 3600
MATRIX, OLD, RECENT, NEW = (24 * digit for digit in "abcd")
"""Names of the kind that `name_on_shelf` gives."""


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
    return make_old(shelf / OLD)


def make_old(folder):
    """A folder of yesterday's with a file as matrices have them."""
    folder.mkdir()
    (folder / "steps.npy").write_text("numbers")
    os.utime(folder, (time.time() - 2 * DAY,) * 2)
    return folder


def items_snapshot(path):
    """Three rows of ITEM_EMBEDDINGS."""
    vectors = pa.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]], pa.list_(pa.float32()))
    rows = pa.table({"item_id": ["b", "a", "c"], "item_idx": pa.array([1, 2, 3], pa.int32()), "embedding": vectors})
    pyarrow.parquet.write_table(rows, path)
    return Snapshot("ITEM_EMBEDDINGS", 0, (SnapshotFile(path.as_uri(), 3),))


def users_snapshot(path):
    """One row of USER_EMBEDDINGS."""
    rows = pa.table({"user_id": ["u"], "embedding": pa.array([[1.0, 0.0]], pa.list_(pa.float32()))})
    pyarrow.parquet.write_table(rows, path)
    return Snapshot("USER_EMBEDDINGS", 0, (SnapshotFile(path.as_uri(), 1),))


@pytest.mark.parametrize("folder", ["taken", "nowhere"])
def test_a_temporary_folder_without_a_place_for_matrices_is_named(tmp_path, monkeypatch, folder):
    monkeypatch.setattr("recsys_spark.bridges.item_store.os.getuid", lambda: 7)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / folder))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "recsys_spark-items-7").write_text("a file of that name")
    with pytest.raises(RecsysError, match=r"folder .*recsys_spark-items-7: wanted a folder of this user.* set TMPDIR"):
        share_item_matrix.__wrapped__(Snapshot("ITEM_EMBEDDINGS", 0, ()), "embedding")


@pytest.fixture
def precious(tmp_path):
    """A folder somewhere else, of the same user, that looks as a matrix does and is older than a day."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    make_old(folder / OLD)
    return folder


def test_a_link_in_the_place_of_the_shelf_is_refused_and_nothing_behind_it_is_touched(shelf, precious):
    shelf.rmdir()
    shelf.symlink_to(precious)
    with pytest.raises(RecsysError, match=r"wanted a folder of this user alone .*; found lrwxrwxrwx of user"):
        on_shelf(NEW, lambda folder: None)
    assert [path.name for path in precious.iterdir()] == [OLD]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o701])
def test_a_shelf_that_others_reach_is_refused(shelf, old_folder, mode):
    shelf.chmod(mode)
    with pytest.raises(RecsysError, match=r"wanted a folder of this user alone \(drwx------\).*; found drwx"):
        on_shelf(NEW, lambda folder: None)
    assert [path.name for path in shelf.iterdir()] == [OLD]


def test_a_shelf_of_another_user_is_refused(shelf, monkeypatch):
    another = os.getuid() + 1
    shelf.rename(shelf.with_name(f"recsys_spark-items-{another}"))
    monkeypatch.setattr("recsys_spark.bridges.item_store.os.getuid", lambda: another)
    with pytest.raises(RecsysError, match=rf"found drwx------ of user {another - 1}\. Look who put it there"):
        on_shelf(NEW, lambda folder: None)


def test_a_new_shelf_is_this_users_alone_whatever_the_umask(shelf):
    shelf.rmdir()
    before = os.umask(0)
    try:
        on_shelf(NEW, lambda folder: None)
    finally:
        os.umask(before)
    assert shelf.stat().st_mode & 0o777 == 0o700
    assert (shelf / f"{NEW}.lock").stat().st_mode & 0o777 == 0o600


def test_only_what_was_made_here_is_ever_removed(shelf, precious):
    def dated(folder):
        os.utime(folder, (time.time() - 2 * DAY,) * 2, follow_symlinks=False)

    named_otherwise = make_old(shelf / "holiday-pictures")
    with_another_file = make_old(shelf / f"{23 * 'e'}1")
    (with_another_file / "letter.txt").write_text("dear")
    with_a_folder = make_old(shelf / f"{23 * 'e'}2")
    (with_a_folder / "inside.npy").mkdir()
    with_a_link = make_old(shelf / f"{23 * 'e'}3")
    (with_a_link / "link.npy").symlink_to(precious / OLD / "steps.npy")
    link = shelf / f"{23 * 'e'}4"
    link.symlink_to(precious / OLD)
    stay = [named_otherwise, with_another_file, with_a_folder, with_a_link, link]
    for folder in stay:
        dated(folder)
    make_old(shelf / OLD)
    make_old(shelf / f"{RECENT}.part")
    on_shelf(NEW, lambda folder: None)
    left = {path.name for path in shelf.iterdir() if path.suffix != ".lock"}
    assert left == {NEW, *(path.name for path in stay)}
    assert sorted(path.name for path in with_another_file.iterdir()) == ["letter.txt", "steps.npy"]
    assert (precious / OLD / "steps.npy").read_text() == "numbers"


def test_a_link_in_the_place_of_a_lock_is_not_followed(shelf, precious):
    target = precious / OLD / "steps.npy"
    (shelf / f"{NEW}.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        on_shelf(NEW, lambda folder: None)
    assert target.read_text() == "numbers"


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
        (folder / "half.npy").write_text("half")
        raise error

    with pytest.raises(type(error)):
        on_shelf(MATRIX, fail)
    assert [path.name for path in shelf.iterdir()] == [f"{MATRIX}.lock"]
    on_shelf(MATRIX, lambda folder: (folder / "whole.npy").write_text("whole"))
    assert [path.name for path in (shelf / MATRIX).iterdir()] == ["whole.npy"]


def test_what_a_killed_worker_left_is_built_anew(shelf):
    part = shelf / f"{MATRIX}.part"
    part.mkdir()
    (part / "half.npy").write_text("half")
    on_shelf(MATRIX, lambda folder: (folder / "whole.npy").write_text("whole"))
    assert [path.name for path in (shelf / MATRIX).iterdir()] == ["whole.npy"]


def test_what_nobody_has_opened_for_a_day_goes_with_the_next_build(shelf, old_folder):
    on_shelf(RECENT, lambda folder: None)
    assert not old_folder.exists()
    on_shelf(NEW, lambda folder: None)
    assert sorted(path.name for path in shelf.iterdir() if path.is_dir()) == [RECENT, NEW]


def test_a_table_of_one_row_has_a_matrix(shelf):
    matrix, ids = share_user_matrix.__wrapped__(users_snapshot(shelf.parent / "users.parquet"))
    assert (matrix.num_items, ids.to_pylist()) == (1, ["u"])


def test_real_matrices_that_are_old_go_too(shelf):
    share_item_matrix.__wrapped__(items_snapshot(shelf.parent / "items.parquet"), "embedding")
    share_user_matrix.__wrapped__(users_snapshot(shelf.parent / "users.parquet"))
    built = [path for path in shelf.iterdir() if path.is_dir()]
    assert len(built) == 2
    for folder in built:
        os.utime(folder, (time.time() - 2 * DAY,) * 2)
    on_shelf(NEW, lambda folder: None)
    assert [path.name for path in shelf.iterdir() if path.is_dir()] == [NEW]


def test_an_old_matrix_stays_while_a_worker_has_its_lock(shelf, old_folder):
    with (shelf / f"{OLD}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        on_shelf(NEW, lambda folder: None)
        assert old_folder.exists()


def test_an_old_matrix_that_a_worker_opens_before_it_is_locked_stays(shelf, old_folder, monkeypatch):
    def open_then_lock(lock, mode):
        if mode & fcntl.LOCK_NB:
            os.utime(old_folder)

    monkeypatch.setattr("fcntl.flock", open_then_lock)
    on_shelf(NEW, lambda folder: None)
    assert old_folder.exists()


def test_workers_that_want_the_same_at_once_build_it_once(shelf):
    both, built = threading.Barrier(2), []

    def build(folder):
        built.append(folder)
        time.sleep(0.2)  # the other worker asks meanwhile
        (folder / "whole").write_text("whole")

    def ask(_):
        both.wait()
        return (on_shelf(MATRIX, build) / "whole").read_text()

    with ThreadPoolExecutor(2) as workers:
        assert list(workers.map(ask, range(2))) == ["whole", "whole"]
    assert len(built) == 1
