"""Text -> token ids on the executors: one tokenizer per Python worker."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, IntegerType, StructField, StructType

from recsys_spark import columns as c
from recsys_spark.kernels.text_encoder import Tokenizer


def tokenize(items: DataFrame, *, encoder: str, max_tokens: int) -> DataFrame:
    """`items` with token_ids (padded with 0 to `max_tokens`), num_tokens and the tokenizer's fingerprint."""
    schema = StructType(
        [
            *items.schema.fields,
            StructField(c.TOKEN_IDS, ArrayType(IntegerType())),
            StructField(c.NUM_TOKENS, IntegerType()),
        ]
    )

    def tokenize_batches(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        tokenizer = Tokenizer(encoder, max_tokens)
        for batch in batches:
            token_ids, num_tokens = tokenizer(batch.column(c.TEXT).to_pylist())
            offsets = pa.array(range(0, token_ids.size + 1, max_tokens), type=pa.int32())
            lists = pa.ListArray.from_arrays(offsets, pa.array(token_ids.reshape(-1)))
            yield pa.RecordBatch.from_arrays(
                [*batch.columns, lists, pa.array(num_tokens)], names=[*batch.schema.names, c.TOKEN_IDS, c.NUM_TOKENS]
            )

    fingerprint = Tokenizer(encoder, max_tokens).fingerprint
    return items.mapInArrow(tokenize_batches, schema).withColumn(c.TOKENIZER, F.lit(fingerprint))
