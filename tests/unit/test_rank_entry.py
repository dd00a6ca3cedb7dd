"""A rank leaves nothing behind, tells why it fails, and clears up after ranks that were killed: after nobody else."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from recsys_spark.bridges.rank_entry import FAILURE_MARK, enter, sweep

TASKS = """
import tempfile

from recsys_spark.errors import problem

def answer(payload):
    tempfile.mkdtemp()
    return f"{payload}, from {__file__}"

def fail(payload):
    raise ValueError("two\\nlines")

def fail_with_advice(payload):
    raise problem("file x", wanted="rows", found="none", do="Mend it.")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The temporary folder of this test's ranks."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delitem(sys.modules, "rank_stub", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def dead():
    """The process id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def archive():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        written.writestr("rank_stub.py", TASKS)
    return packed.getvalue()


def leftover(place, pid, letters="abcdefgh"):
    folder = place / f"recsys_spark-rank-{pid}-{letters}"
    folder.mkdir(mode=0o700)
    (folder / "recsys_spark.zip").write_bytes(b"code")
    (folder / "scratch").mkdir()
    (folder / "scratch" / "model").write_text("half of a model")
    return folder


def test_the_function_runs_from_the_archive_and_nothing_is_left(place):
    path_before = list(sys.path)
    answered = enter(archive(), "rank_stub:answer", "hello")
    assert answered.startswith(f"hello, from {place}/recsys_spark-rank-{os.getpid()}-")
    assert answered.endswith("/recsys_spark.zip/rank_stub.py")
    assert [*place.iterdir()] == []
    assert sys.path == path_before


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("fail", {"problems": [], "error": "ValueError: two\nlines"}),
        (
            "fail_with_advice",
            {
                "problems": [{"where": "file x", "wanted": "rows", "found": "none", "do": "Mend it."}],
                "error": "RecsysError: file x: wanted rows; found none. Mend it.",
            },
        ),
    ],
)
def test_a_rank_that_raises_tells_why_in_one_line_and_leaves_nothing(place, capfd, function, told):
    with pytest.raises(Exception, match=r"lines|Mend it"):
        enter(archive(), f"rank_stub:{function}", "")
    [line] = capfd.readouterr().err.splitlines()
    assert json.loads(line.removeprefix(FAILURE_MARK)) == told
    assert [*place.iterdir()] == []


def test_the_next_rank_removes_what_one_that_was_killed_left(place, dead):
    leftover(place, dead)
    enter(archive(), "rank_stub:answer", "")
    assert [*place.iterdir()] == []


@pytest.mark.parametrize("gone", [["recsys_spark.zip"], ["scratch"], ["recsys_spark.zip", "scratch"]])
def test_what_a_rank_left_that_was_killed_as_it_began_or_cleared_up_is_removed_too(place, dead, gone):
    folder = leftover(place, dead)
    for name in gone:
        shutil.rmtree(folder / name) if name == "scratch" else (folder / name).unlink()
    if "recsys_spark.zip" in gone:
        sweep(place)
        assert folder.exists(), "a rank of another container may just begin"
        os.utime(folder, (1_000_000_000, 1_000_000_000))
    sweep(place)
    assert not folder.exists()


def test_a_living_ranks_archive_stays(place, dead):
    of_this_machine = leftover(place, os.getpid())
    of_another_container = leftover(place, dead)  # its process has a number there that is nobody's here
    with (of_another_container / "recsys_spark.zip").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep(place)
    assert {*place.iterdir()} == {of_this_machine, of_another_container}


def test_nothing_but_our_archives_is_removed(place, dead, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    precious = leftover(elsewhere, dead)
    link = place / precious.name
    link.symlink_to(precious)
    shared = leftover(place, dead, "shared00")
    shared.chmod(0o755)
    with_more = leftover(place, dead, "withmore")
    (with_more / "letter.txt").write_text("dear")
    with_a_link = leftover(place, dead, "withlink")
    (with_a_link / "recsys_spark.zip").unlink()
    (with_a_link / "recsys_spark.zip").symlink_to(precious / "recsys_spark.zip")
    with_a_folder = leftover(place, dead, "withfold")
    (with_a_folder / "recsys_spark.zip").unlink()
    (with_a_folder / "recsys_spark.zip").mkdir()
    with_a_linked_scratch = leftover(place, dead, "linkscra")
    shutil.rmtree(with_a_linked_scratch / "scratch")
    (with_a_linked_scratch / "scratch").symlink_to(precious / "scratch")
    (leftover(place, dead, "goesaway") / "scratch" / "link").symlink_to(precious)
    named_otherwise = [leftover(place, dead, "long" * 4), place / f"recsys_spark_{dead}"]
    named_otherwise[1].mkdir()
    plain_file = place / f"recsys_spark-rank-{dead}-plainfil"
    plain_file.write_text("no folder")
    before = {path.name for path in place.iterdir()}
    sweep(place)
    assert before - {path.name for path in place.iterdir()} == {f"recsys_spark-rank-{dead}-goesaway"}
    assert (precious / "recsys_spark.zip").read_bytes() == b"code"
    assert (precious / "scratch" / "model").exists()
    assert (with_more / "recsys_spark.zip").exists()


def test_another_users_archive_stays(place, dead, monkeypatch):
    theirs = leftover(place, dead)
    monkeypatch.setattr("recsys_spark.bridges.rank_entry.os.getuid", lambda: theirs.stat().st_uid + 1)
    sweep(place)
    assert sorted(path.name for path in theirs.iterdir()) == ["recsys_spark.zip", "scratch"]
