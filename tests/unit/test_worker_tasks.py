"""What a worker's task does first: one thread, and no archives of its path to read again."""

import importlib
import sys
import zipfile
import zipimport

import pytest
import torch

from recsys_spark.bridges import embed
from recsys_spark.bridges.worker_tasks import forget_archives


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (embed.embed_item_batches, {"back_end": "float32", "batch_tokens": 64}),
        (embed.embed_user_batches, {"items": None, "made_by": "", "batch_users": 8}),
    ],
)
def test_vectors_are_made_on_one_thread_whatever_the_environment_says(task, settings, two_threads, monkeypatch):
    monkeypatch.setattr(embed, "share_item_matrix", lambda items, column: None)
    assert list(task([], model_name="no model is opened for no rows", **settings)) == []
    assert torch.get_num_threads() == 1


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
