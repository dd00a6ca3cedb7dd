"""The first lines a rank runs. Standard library only: this module travels by value, the package in its argument.

A Horovod rank is a child process of a Spark task and has neither Spark's --py-files nor the driver's source tree on
its path, so it brings its code along (about 100 KiB) and imports nothing of ours before it is unpacked.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

FAILURE_MARK = "recsys_spark rank failed: "
"""Begins the line on which a rank says in JSON why it stops; the driver reads it (rank_ends.py)."""

_ARCHIVE = "recsys_spark.zip"
_SCRATCH = "scratch"
_PREFIX = "recsys_spark-rank-"
_FOLDER_NAME = re.compile(r"recsys_spark-rank-(\d+)-[a-z0-9_]{8}")
_BEGINNING_SECONDS = 60.0
"""How old a folder without an archive has to be before nobody can be about to write one."""
_TO_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def enter(archive: bytes, function: str, payload: str) -> str:
    """Put the packed package first on the path, then call `module:name` with the payload; text in, text out.

    The rank's temporary files lie beside its archive. All of it goes when the rank ends, what a killed rank left when
    the next one starts. An exception is told in one line before it ends the rank.
    """
    usual_place = tempfile.gettempdir()
    sweep(Path(usual_place))
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    place = folder / _ARCHIVE
    (folder / _SCRATCH).mkdir(mode=0o700)
    with place.open("wb") as unpacked:
        fcntl.flock(unpacked, fcntl.LOCK_EX)  # for ranks of other containers, who cannot see whether this process lives
        unpacked.write(archive)
        unpacked.flush()
        sys.path.insert(0, str(place))
        tempfile.tempdir = str(folder / _SCRATCH)
        try:
            module, _, name = function.partition(":")
            return str(getattr(importlib.import_module(module), name)(payload))
        except Exception as error:
            print(FAILURE_MARK + json.dumps(_describe(error)), file=sys.stderr, flush=True)
            raise
        finally:
            tempfile.tempdir = usual_place
            sys.path.remove(str(place))
            shutil.rmtree(folder / _SCRATCH, ignore_errors=True)  # the large one first: a rank may be killed here, too
            shutil.rmtree(folder, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove what this user's killed ranks left: nothing else, and no link is followed."""
    for path in place.iterdir():
        match = _FOLDER_NAME.fullmatch(path.name)
        if match is None or _is_alive(int(match[1])):
            continue
        try:
            folder = os.open(path, _TO_FOLDER)
        except OSError:  # a link, a file, somebody else's, or already gone
            continue
        with contextlib.suppress(OSError):  # another rank sweeps as well
            if _is_a_dead_ranks(folder):
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(_SCRATCH, dir_fd=folder)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_ARCHIVE, dir_fd=folder)
                path.rmdir()
        os.close(folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_a_dead_ranks(folder: int) -> bool:
    """Whether an open folder is this user's alone and holds what `enter` put there, or a part of it, and nothing else:
    an archive that no living rank has locked, and a folder."""
    states = {name: os.stat(name, dir_fd=folder, follow_symlinks=False) for name in os.listdir(folder)}
    kinds = {name: stat.S_IFMT(state.st_mode) for name, state in states.items()}
    itself = os.fstat(folder)
    if not kinds.items() <= {_ARCHIVE: stat.S_IFREG, _SCRATCH: stat.S_IFDIR}.items() or itself.st_mode & 0o077:
        return False
    if {state.st_uid for state in (itself, *states.values())} != {os.getuid()}:
        return False
    if _ARCHIVE not in states:
        return time.time() - itself.st_mtime > _BEGINNING_SECONDS  # a rank of another container may just begin
    archive = os.open(_ARCHIVE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        fcntl.flock(archive, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError where its rank lives
        return True
    finally:
        os.close(archive)


def _describe(error: Exception) -> dict[str, object]:
    """A user's error with its problems whole, so that it reaches the driver in its own words; else its last line."""
    name = type(error).__name__
    problems = [vars(problem) for problem in error.problems] if name == "RecsysError" else []  # type: ignore[attr-defined]
    return {"problems": problems, "error": f"{name}: {error}"}
