"""A temporary folder that cannot hold item matrices is named, with what to do."""

import pytest

from recsys_spark.bridges.item_store import share_item_matrix
from recsys_spark.bridges.snapshot import Snapshot
from recsys_spark.errors import RecsysError


@pytest.mark.parametrize("folder", ["taken", "nowhere"])
def test_a_temporary_folder_without_a_place_for_matrices_is_named(tmp_path, monkeypatch, folder):
    monkeypatch.setattr("recsys_spark.bridges.item_store.os.getuid", lambda: 7)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / folder))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "recsys_spark-items-7").write_text("a file of that name")
    with pytest.raises(RecsysError, match=r"folder .*recsys_spark-items-7: wanted a folder of this user.* Set TMPDIR"):
        share_item_matrix.__wrapped__(Snapshot("ITEM_EMBEDDINGS", 0, ()), "embedding")
