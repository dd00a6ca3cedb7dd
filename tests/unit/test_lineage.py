"""A stage's hash moves with its own code, near and far, and with nobody else's; wherever the code lies."""

import importlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

import jobs
from recsys_spark.lineage import code_hash, fingerprint

ROOT = Path(__file__).resolve().parents[2]


# --- fingerprint ------------------------------------------------------------------------------------------------------


def test_equal_parts_have_one_fingerprint_whatever_the_order_of_keys():
    assert fingerprint(["a", {"x": 1, "y": [2, None]}]) == fingerprint(("a", {"y": (2, None), "x": 1}))
    assert fingerprint({"when": datetime(2020, 6, 1, tzinfo=UTC)}) == fingerprint({"when": "2020-06-01 00:00:00+00:00"})


def test_a_fingerprint_is_the_same_on_every_machine():
    assert fingerprint({"stage": "score", "inputs": {"EVENTS": 3}}) == "3a5a9399f7cecaf1"


def test_any_other_value_gives_another_fingerprint():
    parts = [{}, [], None, 0, 1, 1.5, "1", "", [1], [[1]], {"a": 1}, {"a": "1"}, {"b": 1}, ["a", "b"], ["b", "a"]]
    found = [fingerprint(part) for part in parts]
    equal = [pair for pair in itertools.combinations(range(len(parts)), 2) if found[pair[0]] == found[pair[1]]]
    assert equal == []


# --- code_hash: a package of a few modules ----------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules into the package `jobs`, beside the real ones; each test has modules of its own name."""
    monkeypatch.setattr(jobs, "__path__", [*jobs.__path__, str(tmp_path)])

    def write_modules(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()

    return write_modules


def test_a_change_of_an_imported_module_is_a_change_however_far_and_however_imported(write):
    write(
        near="import jobs.far\n",
        far="from jobs import farther\nfrom jobs.constants import LIMIT, is_small\n",
        farther="def work():\n    import jobs.late as late\n",
        constants="LIMIT = 3\n",
        late="",
    )
    hashes = [code_hash("jobs.near")]
    for changed in ("near", "far", "farther", "constants", "late"):
        path = Path(jobs.__path__[-1]) / f"{changed}.py"
        path.write_text(path.read_text() + "\n# changed\n")
        hashes.append(code_hash("jobs.near"))
    assert len(set(hashes)) == 6, hashes


def test_a_change_of_a_module_that_is_not_imported_changes_nothing(write):
    write(lonely="import json\n", other="from jobs import lonely\n")
    before = code_hash("jobs.lonely")
    write(other="from jobs import lonely  # changed\n", unheard_of="")
    assert code_hash("jobs.lonely") == before


def test_modules_that_import_each_other_have_a_hash(write):
    write(ping="import jobs.pong\n", pong="import jobs.ping\n")
    before = code_hash("jobs.ping"), code_hash("jobs.pong")
    assert before[0] == before[1], "both are the same two modules"
    write(pong="import jobs.ping  # changed\n")
    assert code_hash("jobs.ping") != before[0]


def test_a_module_moved_to_another_name_is_other_code(write):
    write(here="X = 1\n", there="X = 1\n")
    assert code_hash("jobs.here") != code_hash("jobs.there")


# --- code_hash: the real jobs, as a tree and as an archive ------------------------------------------------------------

NAMES = ("ingest_events", "build_sequences", "train", "embed_items", "score", "rank", "evaluate")
REACHED_BY = {
    "recsys_spark/kernels/top_k.py": {"score"},
    "recsys_spark/transforms/blend.py": {"rank"},
    "recsys_spark/kernels/train_loop.py": {"train"},
    "recsys_spark/kernels/two_tower.py": {"train", "embed_items", "score", "evaluate"},
    "recsys_spark/bridges/rank_entry.py": {"train"},
    "recsys_spark/tables/store.py": set(NAMES),
    "recsys_spark/report/page.py": set(),
}
SCRIPT = """
import json, sys
from pathlib import Path
from recsys_spark.lineage import code_hash

names, changes = json.loads(sys.argv[1])
hashes = {"unchanged": {name: code_hash(f"jobs.{name}") for name in names}}
for change in changes:
    source = Path(change).read_text()
    Path(change).write_text(source + "# changed\\n")
    hashes[change] = {name: code_hash(f"jobs.{name}") for name in names}
    Path(change).write_text(source)
print(json.dumps(hashes))
"""


def hashes_in(place, changes=()):
    """Hashes of the jobs, as they are and after each change, in an interpreter that finds the code at `place` only."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([NAMES, list(changes)])],
        env={**os.environ, "PYTHONPATH": str(place)},
        cwd=place if place.is_dir() else place.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the code that may be changed."""
    place = tmp_path_factory.mktemp("tree")
    for package in ("recsys_spark", "jobs"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture(scope="module")
def hashes(tree):
    return hashes_in(tree, REACHED_BY)


def test_a_packaged_archive_has_the_hashes_of_the_source_tree(tree, hashes, tmp_path):
    archive = tmp_path / "recsys_spark.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in tree.rglob("*.py"):
            packed.write(file, file.relative_to(tree))
    assert hashes_in(archive)["unchanged"] == hashes["unchanged"]


@pytest.mark.parametrize("changed", REACHED_BY)
def test_a_change_is_work_again_for_the_stages_that_reach_it_only(hashes, changed):
    assert {name for name in NAMES if hashes[changed][name] != hashes["unchanged"][name]} == REACHED_BY[changed]
