"""Fields of items -> their texts and tokens, in one pass on the executors: one tokenizer per Python worker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, IntegerType, StringType, StructField, StructType

from recsys_spark import columns as c
from recsys_spark.kernels.item_text import MAX_CHARS, Template
from recsys_spark.kernels.text_encoder import Tokenizer
from recsys_spark.transforms.items import FIELDS

IS_CUT: Final = "is_cut"
"""Whether a field of the item was longer than what is read of one."""

_MADE: Final = (
    StructField(c.TEXT, StringType()),
    StructField(c.TEXT_HASH, StringType()),
    StructField(c.TOKEN_IDS, ArrayType(IntegerType())),
    StructField(c.NUM_TOKENS, IntegerType()),
    StructField(IS_CUT, BooleanType()),
)


def tokenize(items: DataFrame, *, template: str, encoder: str, max_tokens: int) -> DataFrame:
    """ITEM_TEXT rows and `is_cut`, from item_id, item_idx and the values of the template's fields."""
    kept = [field for field in items.schema.fields if field.name != FIELDS]
    parsed = Template.parse(template)

    def tokenize_batches(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        tokenizer = Tokenizer(encoder, max_tokens)
        for batch in batches:
            fields = batch.column(FIELDS).to_pylist()
            texts = [parsed.render(values) for values in fields]
            token_ids, num_tokens = tokenizer(texts)
            offsets = pa.array(range(0, token_ids.size + 1, max_tokens), type=pa.int32())
            made = [
                pa.array(texts, type=pa.string()),
                pa.array([hashlib.sha256(text.encode()).hexdigest() for text in texts], type=pa.string()),
                pa.ListArray.from_arrays(offsets, pa.array(token_ids.reshape(-1))),
                pa.array(num_tokens),
                pa.array([any(len(value) > MAX_CHARS for value in values) for values in fields], type=pa.bool_()),
            ]
            yield pa.RecordBatch.from_arrays(
                [*(batch.column(field.name) for field in kept), *made], names=[field.name for field in (*kept, *_MADE)]
            )

    fingerprint = Tokenizer(encoder, max_tokens).fingerprint
    tokenized = items.mapInArrow(tokenize_batches, StructType([*kept, *_MADE]))
    return tokenized.withColumn(c.TOKENIZER, F.lit(fingerprint))
