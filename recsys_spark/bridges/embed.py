"""ITEM_TEXT and SEQUENCES -> unit vectors, in iterator UDFs: a worker loads the model once and streams batches."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

from recsys_spark import columns as c
from recsys_spark.bridges.model_files import open_model
from recsys_spark.bridges.snapshot import Snapshot, read_batches
from recsys_spark.kernels.grid import snap_to_grid
from recsys_spark.kernels.precision import fast_precision
from recsys_spark.kernels.text_encoder import encode_all
from recsys_spark.kernels.two_tower import TwoTower

_VECTOR = StructField(c.EMBEDDING, ArrayType(FloatType(), containsNull=False))


def embed_items(item_text: DataFrame, *, model_name: str, batch_tokens: int) -> DataFrame:
    """item_id, item_idx, input_hash and embedding of every item.

    Rows come together by text, so that a text which many items share runs through the encoder once.
    """
    kept = (c.ITEM_ID, c.ITEM_IDX, c.INPUT_HASH)
    rows = (
        item_text.withColumn(c.INPUT_HASH, F.col(c.TEXT_HASH))
        .select(*kept, c.TOKEN_IDS, c.NUM_TOKENS)
        .repartition(_num_parts(item_text), c.INPUT_HASH)
        .sortWithinPartitions(c.INPUT_HASH, c.ITEM_ID)
    )

    precision = fast_precision(torch.device("cpu"))  # the driver's choice, for every worker alike

    def embed(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        model = open_model(model_name)
        for batch in batches:
            yield _with_vectors(batch, kept, _item_vectors(model, batch, batch_tokens, precision))

    return rows.mapInArrow(embed, _schema(rows, kept))


def embed_users(sequences: DataFrame, items: Snapshot, *, model_name: str, batch_users: int) -> DataFrame:
    """user_id, as_of, split, input_hash and embedding of every row of SEQUENCES.

    `items` is the ITEM_EMBEDDINGS of the same model: a worker holds them as one array, 4 * N * D bytes.
    """
    kept = (c.USER_ID, c.AS_OF, c.SPLIT, c.INPUT_HASH)
    inputs = (c.EVENT_ITEMS, c.EVENT_TYPES, c.EVENT_HOURS, c.NUM_EVENTS)
    hashed = F.sha2(F.to_json(F.struct(*inputs)), 256)
    rows = (
        sequences.withColumn(c.INPUT_HASH, hashed).select(*kept, *inputs).repartition(_num_parts(sequences), c.USER_ID)
    )

    def embed(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        model, item_vectors_ND = open_model(model_name), _read_item_vectors(items)
        for batch in batches:
            for start in range(0, len(batch), batch_users):
                part = batch.slice(start, batch_users)
                yield _with_vectors(part, kept, _user_vectors(model, part, item_vectors_ND))

    return rows.mapInArrow(embed, _schema(rows, kept))


def _num_parts(rows: DataFrame) -> int:
    """Parts for work that is all in Python: small tables would be read, or joined by Spark, into one."""
    return 2 * rows.sparkSession.sparkContext.defaultParallelism


def _schema(rows: DataFrame, kept: tuple[str, ...]) -> StructType:
    return StructType([*(rows.schema[name] for name in kept), _VECTOR])


def _with_vectors(batch: pa.RecordBatch, kept: tuple[str, ...], vectors: np.ndarray) -> pa.RecordBatch:
    num_rows, dim = vectors.shape
    offsets = pa.array(np.arange(0, (num_rows + 1) * dim, dim, dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(snap_to_grid(vectors).reshape(-1)))
    return pa.RecordBatch.from_arrays([*(batch.column(name) for name in kept), lists], names=[*kept, c.EMBEDDING])


def _matrix(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """A list column as a matrix of its own: torch wants arrays it may write to, Arrow's are not."""
    return np.array(batch.column(name).flatten()).reshape(len(batch), -1)


@torch.inference_mode()
def _item_vectors(model: TwoTower, batch: pa.RecordBatch, batch_tokens: int, precision: torch.dtype) -> np.ndarray:
    hashes = batch.column(c.INPUT_HASH).dictionary_encode()
    text_of_row = hashes.indices.to_numpy()
    _, first_rows = np.unique(text_of_row, return_index=True)
    texts = encode_all(
        model.text_encoder,
        _matrix(batch, c.TOKEN_IDS)[first_rows],
        batch.column(c.NUM_TOKENS).to_numpy()[first_rows],
        batch_tokens=batch_tokens,
        precision=precision,
    )
    items = torch.from_numpy(batch.column(c.ITEM_IDX).to_numpy().astype(np.int64))
    return model.item_vectors(torch.from_numpy(texts[text_of_row]), items).numpy()


@torch.inference_mode()
def _user_vectors(model: TwoTower, batch: pa.RecordBatch, item_vectors_ND: np.ndarray) -> np.ndarray:
    num_events = batch.column(c.NUM_EVENTS).to_numpy()
    width = int(num_events.max())
    items, types, hours = (_matrix(batch, name)[:, :width] for name in (c.EVENT_ITEMS, c.EVENT_TYPES, c.EVENT_HOURS))
    return model.user_vectors(
        torch.from_numpy(item_vectors_ND[items.clip(min=0)]),
        torch.from_numpy(types),
        torch.from_numpy(hours),
        torch.from_numpy(num_events.astype(np.int64)),
    ).numpy()


@lru_cache(maxsize=1)  # one array per worker process
def _read_item_vectors(items: Snapshot) -> np.ndarray:
    """Vectors [N, D] by item_idx; an index without a vector (an item that left the catalogue) is zero."""
    batches = list(read_batches(items.files, [c.ITEM_IDX, c.EMBEDDING], batch_rows=65_536))
    places = np.concatenate([batch.column(c.ITEM_IDX).to_numpy() for batch in batches])
    vectors = np.concatenate([_matrix(batch, c.EMBEDDING) for batch in batches])
    by_index = np.zeros((int(places.max()) + 1, vectors.shape[1]), dtype=np.float32)
    by_index[places] = vectors
    return by_index
