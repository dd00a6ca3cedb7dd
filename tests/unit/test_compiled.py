"""Machine code of functions in an archive is found again when the archive has another path."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
from recsys_spark.kernels.compiled import compiled

@compiled
def double(number):
    return 2 * number
"""
SCRIPT = "import loops; assert loops.double(21) == 42; print(sum(loops.double.stats.cache_hits.values()))"


def run(archive, source, home):
    """Hits in the cache of a process of its own that imports the module from an archive."""
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("loops.py", source)
    environment = {**os.environ, "PYTHONPATH": f"{archive}{os.pathsep}{ROOT}", "XDG_CACHE_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_the_cache_of_an_archive_goes_by_its_content_not_by_its_path(tmp_path):
    home = tmp_path / "home"
    assert run(tmp_path / "application_1" / "a.zip", MODULE, home) == 0
    assert run(tmp_path / "application_2" / "a.zip", MODULE, home) == 1
    assert run(tmp_path / "application_3" / "a.zip", MODULE.replace("2 * number", "number + number"), home) == 0


def test_without_a_place_for_the_cache_functions_are_compiled_all_the_same(tmp_path):
    nowhere = tmp_path / "file"
    nowhere.write_text("not a folder")
    assert run(tmp_path / "application" / "a.zip", MODULE, nowhere / "home") == 0
