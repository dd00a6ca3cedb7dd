"""Vectors made by the UDFs are those the model gives, whatever the partitions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from pyspark import SparkFiles
from pyspark.errors import PythonException

from recsys_spark.bridges.embed import embed_items, embed_users, item_inputs
from recsys_spark.bridges.model_files import share_model
from recsys_spark.bridges.snapshot import take_snapshot
from recsys_spark.kernels.checkpoint import save_model
from recsys_spark.kernels.grid import is_on_grid, snap_to_grid
from recsys_spark.kernels.text_encoder import encode_all
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, SEQUENCES, USER_EMBEDDINGS
from recsys_spark.tables.store import Store
from tests.unit.kernel_world import NUM_ITEMS, make_model, make_rows, make_texts

FEW_TOKENS = 8
AS_OF = datetime(2020, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def model():
    model = make_model()
    torch.nn.init.normal_(model.id_embedding.weight.data[1:])
    torch.nn.init.normal_(model.user_tower.out.weight)
    return model.eval()


@pytest.fixture(scope="module")
def model_name(spark, model, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_model(model, folder, facts={})
    return share_model(spark, folder)


@pytest.fixture(scope="module")
def item_text(spark):
    texts = make_texts()
    rows = [
        (f"i{item:02d}", item, f"hash {text}", "t", texts.token_ids_UT[text].tolist(), int(texts.lengths_U[text]))
        for item, text in enumerate(texts.text_of_item_N)
    ]
    return spark.createDataFrame(
        rows, "item_id string, item_idx int, text_hash string, tokenizer string, token_ids array<int>, num_tokens int"
    )


@pytest.fixture(scope="module")
def expected_items(model):
    texts = make_texts()
    vectors = encode_all(model.text_encoder, texts.token_ids_UT, texts.lengths_U, batch_tokens=64)
    with torch.inference_mode():
        items = model.item_vectors(torch.from_numpy(vectors[texts.text_of_item_N]), torch.arange(NUM_ITEMS))
    return snap_to_grid(items.numpy())


@pytest.fixture(scope="module")
def items(spark, tmp_path_factory, item_text, model_name):
    store = Store(spark, str(tmp_path_factory.mktemp("items")))
    embedded = vectors_of_items(item_text, model_name, batch_tokens=512)
    version = store.replace(ITEM_EMBEDDINGS, embedded, {"model_version": "1"}).version
    return take_snapshot(store.read(ITEM_EMBEDDINGS), "ITEM_EMBEDDINGS", version)


def vectors_of_items(item_text, model_name, batch_tokens):
    inputs = item_inputs(item_text, made_by="a test", back_end="float32")
    return embed_items(inputs, model_name=model_name, back_end="float32", batch_tokens=batch_tokens)


def vectors_of_users(spark, rows, items, model_name, batch_users):
    sequences = spark.createDataFrame(
        [
            (
                int(rows.row_id_B[row]), f"u{row}", AS_OF, "test", rows.event_items_BL[row].tolist(),
                rows.event_types_BL[row].tolist(), rows.event_hours_BL[row].tolist(), int(rows.num_events_B[row]),
                [], 0,
            )
            for row in range(len(rows))
        ],
        ", ".join(f"{column.name} {column.sql_type}" for column in SEQUENCES.columns),
    )  # fmt: skip
    none = spark.createDataFrame([], USER_EMBEDDINGS.schema)
    return embed_users(sequences, none, items, model_name=model_name, made_by="a test", batch_users=batch_users)


@pytest.mark.parametrize(("partitions", "batch_tokens"), [(1, 512), (7, FEW_TOKENS)])
def test_items_get_the_models_vectors(item_text, model_name, expected_items, partitions, batch_tokens):
    rows = vectors_of_items(item_text.repartition(partitions), model_name, batch_tokens).collect()
    assert sorted(row["item_id"] for row in rows) == [f"i{item:02d}" for item in range(NUM_ITEMS)]
    vectors = np.array([row["embedding"] for row in sorted(rows, key=lambda row: row["item_idx"])], dtype=np.float32)
    assert is_on_grid(vectors)
    assert np.array_equal(vectors, expected_items)
    assert {row["back_end"] for row in rows} == {"float32"}
    assert len({row["input_hash"] for row in rows}) == len(set(make_texts().text_of_item_N.tolist()))


def test_users_get_the_models_vectors(spark, model, model_name, items, expected_items):
    rows = make_rows(9)
    by_ones, got = (
        vectors_of_users(spark, rows, items, model_name, batch_users).orderBy("user_id").collect()
        for batch_users in (1, 64)
    )
    assert by_ones == got, "the same bits, whichever users are embedded together"
    with torch.inference_mode():
        expected = model.user_vectors(
            torch.from_numpy(expected_items[rows.event_items_BL.clip(min=0)]),
            torch.from_numpy(rows.event_types_BL),
            torch.from_numpy(rows.event_hours_BL),
            torch.from_numpy(rows.num_events_B.astype(np.int64)),
        )
    vectors = np.array([row["embedding"] for row in got], dtype=np.float32)
    assert [row["user_id"] for row in got] == [f"u{row}" for row in range(9)]
    assert np.abs(vectors - snap_to_grid(expected.numpy())).max() <= 2**-10


def test_names_the_item_and_the_user_whose_vector_is_no_number(spark, tmp_path, item_text, items):
    broken = make_model()
    broken.id_embedding.weight.data[broken.id_row_N[14]] = torch.nan
    broken.user_tower.out.weight.data.fill_(torch.nan)
    save_model(broken, tmp_path / "model", facts={})
    name = share_model(spark, tmp_path / "model")
    wanted = "wanted finite numbers; found NaN or infinity. Train again"
    with pytest.raises(PythonException, match=f"RecsysError: .* by item_id, column embedding, row of i14: {wanted}"):
        vectors_of_items(item_text, name, batch_tokens=512).collect()
    with pytest.raises(PythonException, match=f"RecsysError: .* by user_id, column embedding, row of u0: {wanted}"):
        vectors_of_users(spark, make_rows(1), items, name, batch_users=64).collect()


def test_a_worker_refuses_a_copy_of_the_model_that_was_damaged_on_its_machine(spark, tmp_path, item_text):
    save_model(make_model(seed=3), tmp_path / "model", facts={})
    name = share_model(spark, tmp_path / "model")
    spark.sparkContext.parallelize([0], 1).count()  # the executor unpacks it with its first task
    copy = Path(SparkFiles.get(name)) / "model.safetensors"
    copy.write_bytes(copy.read_bytes()[:-1] + b"!")
    with pytest.raises(
        PythonException, match=r"RecsysError: .*file model\.safetensors: wanted SHA-256 .*; found SHA-256"
    ):
        vectors_of_items(item_text, name, batch_tokens=512).collect()


def test_a_model_shared_twice_is_sent_once_and_another_one_in_its_place_is_another(spark, tmp_path):
    save_model(make_model(seed=4), tmp_path / "model", facts={})
    first = share_model(spark, tmp_path / "model")
    sent = len(spark.sparkContext.listArchives)
    assert (share_model(spark, tmp_path / "model"), len(spark.sparkContext.listArchives)) == (first, sent)
    save_model(make_model(seed=5), tmp_path / "model", facts={})
    assert share_model(spark, tmp_path / "model") != first
    assert len(spark.sparkContext.listArchives) == sent + 1
