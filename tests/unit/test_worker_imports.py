"""A worker forgets the archives on its path, and imports from them as before."""

import importlib
import sys
import zipfile
import zipimport

from recsys_spark.bridges.worker_imports import forget_archives


def archives():
    return [path for path, finder in sys.path_importer_cache.items() if isinstance(finder, zipimport.zipimporter)]


def test_no_archive_is_read_again_and_what_is_in_them_can_still_be_imported(tmp_path, monkeypatch):
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("shop_code/__init__.py", "")
        file.writestr("shop_code/first.py", "name = 'first'")
        file.writestr("shop_code/second.py", "name = 'second'")
    monkeypatch.syspath_prepend(str(archive))
    first = importlib.import_module("shop_code.first")
    assert {str(archive), str(archive / "shop_code")} <= set(archives())
    forget_archives()
    assert archives() == []
    assert importlib.import_module("shop_code.first") is first
    assert importlib.import_module("shop_code.second").name == "second"
