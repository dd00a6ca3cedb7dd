"""ITEM_TEXT and SEQUENCES -> unit vectors, in iterator UDFs: a worker loads the model once and streams batches.

Only what changed is computed. An item's vector depends on what `item_inputs` hashes and on its back end; a user's on
the bytes that go into the model, the vectors of the items among them, so that a new text of an item renews the users
who had it. What stands is compared with that, and a vector is the same bits whichever others are computed beside it:
batches hold rows of one width only and are filled up to 16 rows, since matrix products of fewer run through other
kernels (measured: MKL's under 4 rows, oneDNN's under 16; other neighbours moved 2 to 6 of 100 users by a grid step),
and a worker has one thread (bridges/worker_tasks.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, StringType, StructField, StructType

from recsys_spark import columns as c
from recsys_spark.bridges.item_store import share_item_matrix
from recsys_spark.bridges.model_files import open_model
from recsys_spark.bridges.snapshot import Snapshot
from recsys_spark.bridges.vectors import encode_lists, explain_bad_vectors
from recsys_spark.bridges.worker_tasks import begin_in_worker
from recsys_spark.kernels.back_ends import back_end_named
from recsys_spark.kernels.grid import snap_to_grid
from recsys_spark.kernels.item_matrix import ItemMatrix
from recsys_spark.kernels.text_encoder import TextEncoder
from recsys_spark.kernels.two_tower import TwoTower

ITEM_INPUT: Final = (c.ITEM_ID, c.ITEM_IDX, c.INPUT_HASH, c.BACK_END)
"""Columns whose values, all equal, mean that an item's vector still stands."""

_USER_KEY: Final = (c.USER_ID, c.AS_OF, c.SPLIT)
_KNOWN: Final = "known_hash"
_ITEM_VECTORS: Final = (c.EMBEDDING, c.TEXT_EMBEDDING, c.BEHAVIOUR_EMBEDDING)
_MIN_ROWS: Final = 16
_MIN_WIDTH: Final = 8


def item_inputs(item_text: DataFrame, *, made_by: str, back_end: str) -> DataFrame:
    """ITEM_INPUT, token_ids and num_tokens of every item; `made_by` names the model and the code."""
    input_hash = F.sha2(F.concat_ws(" ", c.TEXT_HASH, c.TOKENIZER, F.lit(made_by)), 256)
    named = item_text.withColumn(c.INPUT_HASH, input_hash).withColumn(c.BACK_END, F.lit(back_end))
    return named.select(*ITEM_INPUT, c.TOKEN_IDS, c.NUM_TOKENS)


def embed_items(inputs: DataFrame, *, model_name: str, back_end: str, batch_tokens: int) -> DataFrame:
    """ITEM_INPUT and the three vectors of every row of `inputs`, which are rows of `item_inputs` for the same back end.

    Rows come together by text, so that a text which many items share runs through the encoder once.
    """
    rows = inputs.repartition(_num_parts(inputs), c.INPUT_HASH).sortWithinPartitions(c.INPUT_HASH, c.ITEM_ID)

    vectors = [_vector_field(name) for name in _ITEM_VECTORS]
    embed = partial(embed_item_batches, model_name=model_name, back_end=back_end, batch_tokens=batch_tokens)
    return rows.mapInArrow(embed, StructType([*(rows.schema[name] for name in ITEM_INPUT), *vectors]))


def embed_item_batches(
    batches: Iterable[pa.RecordBatch], *, model_name: str, back_end: str, batch_tokens: int
) -> Iterator[pa.RecordBatch]:
    """The worker: rows of `item_inputs` to ITEM_INPUT and the three vectors."""
    begin_in_worker()
    for batch in batches:
        texts, text_of_row = _encode_texts(batch, model_name, back_end, batch_tokens)
        vectors = _item_vectors(open_model(model_name), batch, texts[text_of_row])
        yield _with_vectors(batch, ITEM_INPUT, dict(zip(_ITEM_VECTORS, vectors, strict=True)))


def embed_users(
    sequences: DataFrame, standing: DataFrame, items: Snapshot, *, model_name: str, made_by: str, batch_users: int
) -> DataFrame:
    """user_id, as_of, split, input_hash and embedding of those rows of SEQUENCES that do not stand already.

    `standing` is the slice of USER_EMBEDDINGS so far, `items` the ITEM_EMBEDDINGS of the same model, read as the matrix
    that all workers of a machine map (bridges/item_store.py). Time gaps are an input: a cut-off that moves renews all.
    """
    known = standing.select(*_USER_KEY, F.col(c.INPUT_HASH).alias(_KNOWN))
    rows = (
        sequences.select(*_USER_KEY, c.EVENT_ITEMS, c.EVENT_TYPES, c.EVENT_HOURS, c.NUM_EVENTS)
        .join(known, on=list(_USER_KEY), how="left")
        .repartition(_num_parts(sequences), c.USER_ID)
    )
    hashed = StructField(c.INPUT_HASH, StringType())
    fields = [*(rows.schema[name] for name in _USER_KEY), hashed, _vector_field(c.EMBEDDING)]
    embed = partial(embed_user_batches, items=items, model_name=model_name, made_by=made_by, batch_users=batch_users)
    return rows.mapInArrow(embed, StructType(fields))


def embed_user_batches(
    batches: Iterable[pa.RecordBatch], *, items: Snapshot, model_name: str, made_by: str, batch_users: int
) -> Iterator[pa.RecordBatch]:
    """The worker: rows of SEQUENCES with their `known_hash` to those that do not stand, hashed and embedded."""
    begin_in_worker()
    matrix = share_item_matrix(items, c.EMBEDDING)
    for batch in batches:
        for users in _changed_users(batch, matrix, made_by, batch_users):
            vectors = _user_vectors(open_model(model_name), users, matrix)
            yield _with_vectors(users, (*_USER_KEY, c.INPUT_HASH), {c.EMBEDDING: vectors})


def _num_parts(rows: DataFrame) -> int:
    """Parts for work that is all in Python: small tables would be read, or joined by Spark, into one."""
    return 2 * rows.sparkSession.sparkContext.defaultParallelism


def _vector_field(name: str) -> StructField:
    return StructField(name, ArrayType(FloatType(), containsNull=False))


def _with_vectors(batch: pa.RecordBatch, kept: tuple[str, ...], vectors: dict[str, np.ndarray]) -> pa.RecordBatch:
    """The columns `kept`, the id first, and the model's vectors [N, D] on the grid; NaN raises the typed error."""
    lists = []
    for name, values_ND in vectors.items():
        with explain_bad_vectors(f"vectors of the model by {kept[0]}, column {name}", batch.column(kept[0])):
            flat = pa.array(snap_to_grid(values_ND).reshape(-1))
        lists.append(encode_lists(flat, np.full(len(batch), values_ND.shape[1])))
    return pa.RecordBatch.from_arrays([*(batch.column(name) for name in kept), *lists], names=[*kept, *vectors])


def _matrix(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """A list column as a matrix of its own: torch wants arrays it may write to, Arrow's are not."""
    return np.array(batch.column(name).flatten()).reshape(len(batch), -1)


@lru_cache(maxsize=1)  # one per worker process
def _open_encoder(model_name: str, back_end: str) -> TextEncoder:
    return back_end_named(back_end).prepare(open_model(model_name).text_encoder)


def _encode_texts(
    batch: pa.RecordBatch, model_name: str, back_end: str, batch_tokens: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """The distinct texts' vectors [U, H] and each row's text [N]."""
    text_of_row = batch.column(c.INPUT_HASH).dictionary_encode().indices.to_numpy()
    _, first_rows = np.unique(text_of_row, return_index=True)
    texts = back_end_named(back_end).encode(
        _open_encoder(model_name, back_end),
        _matrix(batch, c.TOKEN_IDS)[first_rows],
        batch.column(c.NUM_TOKENS).to_numpy()[first_rows],
        batch_tokens=batch_tokens,
    )
    return texts, text_of_row


@torch.inference_mode()
def _item_vectors(
    model: TwoTower, batch: pa.RecordBatch, texts_NH: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.float32]]:
    """[N, D] each, in the order of _ITEM_VECTORS."""
    rows = _filled(len(batch))
    texts = torch.from_numpy(texts_NH[rows])
    items = torch.from_numpy(batch.column(c.ITEM_IDX).to_numpy().astype(np.int64)[rows])
    vectors = (model.item_vectors(texts, items), model.text_vectors(texts), model.behaviour_vectors(items))
    return [values_ND[: len(batch)].numpy() for values_ND in vectors]


def _changed_users(
    batch: pa.RecordBatch, matrix: ItemMatrix, made_by: str, batch_users: int
) -> Iterator[pa.RecordBatch]:
    """Users whose hash is not the known one, with their hash: at most `batch_users`, all of one width."""
    hashes = pa.array(_hash_users(batch, matrix, made_by))
    is_changed = pc.fill_null(pc.not_equal(hashes, batch.column(_KNOWN)), True)
    with_hash = pa.RecordBatch.from_arrays([*batch.columns, hashes], names=[*batch.schema.names, c.INPUT_HASH])
    changed = with_hash.filter(is_changed)
    widths = _widths(changed.column(c.NUM_EVENTS).to_numpy())
    for width in np.unique(widths):
        of_width = changed.take(pa.array(np.flatnonzero(widths == width)))
        yield from (of_width.slice(start, batch_users) for start in range(0, len(of_width), batch_users))


def _hash_users(batch: pa.RecordBatch, matrix: ItemMatrix, made_by: str) -> list[str]:
    """SHA-256 of each user's model, code and real events: types, hours and the vectors of the items (50 us a user)."""
    items, types, hours = (_matrix(batch, name) for name in (c.EVENT_ITEMS, c.EVENT_TYPES, c.EVENT_HOURS))
    hashes = []
    for row, num in enumerate(batch.column(c.NUM_EVENTS).to_numpy()):
        told = hashlib.sha256(made_by.encode())
        for values in (types[row, :num], hours[row, :num], matrix.vectors_of(items[row, :num])):
            told.update(values.tobytes())
        hashes.append(told.hexdigest())
    return hashes


@torch.inference_mode()
def _user_vectors(model: TwoTower, batch: pa.RecordBatch, matrix: ItemMatrix) -> npt.NDArray[np.float32]:
    """Vectors [N, D] of users of one width."""
    rows = _filled(len(batch))
    num_events = batch.column(c.NUM_EVENTS).to_numpy()
    width = _widths(num_events)[0]
    items, types, hours = (_matrix(batch, name)[rows, :width] for name in (c.EVENT_ITEMS, c.EVENT_TYPES, c.EVENT_HOURS))
    vectors = model.user_vectors(
        torch.from_numpy(matrix.vectors_of(items)),
        torch.from_numpy(types),
        torch.from_numpy(hours),
        torch.from_numpy(num_events[rows].astype(np.int64)),
    )
    return vectors[: len(batch)].numpy()


def _filled(num_rows: int) -> npt.NDArray[np.intp]:
    """Row numbers, over again when they are fewer than _MIN_ROWS."""
    return np.resize(np.arange(num_rows), max(num_rows, _MIN_ROWS))


def _widths(num_events_N: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Events that are computed for each user: the next power of two, so that little is padding in short histories."""
    return np.maximum(_MIN_WIDTH, 2 ** np.ceil(np.log2(num_events_N)).astype(np.int64))
