"""The peers inside Spark, each as its user would write it: (session, users table, items table, output path, K).

And what Spark takes for the same tables when nothing is searched.

Axes: U users, N items, D dimensions, K list length, F fetched items, P places of all lists of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.score_peers import drop_seen

LISTS = "items array<int>, scores array<float>"
BATCH_USERS = 1024


def als(spark: SparkSession, users: str, items: str, out: str, top_k: int) -> None:
    """`recommendForAllUsers` of a model with these factors. It cannot leave seen items out, and here need not."""
    user_id = F.substring("user_id", 2, 8).cast("int")
    user_factors = _read(spark, users).select(user_id.alias("id"), F.col("embedding").alias("features"))
    item_factors = _read(spark, items).select(F.col("item_idx").alias("id"), F.col("embedding").alias("features"))
    width = user_factors.select(F.size("features")).head(1)[0][0]
    jvm: Any = spark._jvm
    java_model = jvm.org.apache.spark.ml.recommendation.ALSModel("bench", width, user_factors._jdf, item_factors._jdf)
    model = ALSModel(java_model.setUserCol("user").setItemCol("item"))
    _write(model.recommendForAllUsers(top_k), out)


def torch_in_pandas_udf(spark: SparkSession, users: str, items: str, out: str, top_k: int) -> None:
    """Item vectors broadcast from the driver; each batch of users by `mm` and `topk`, seen items dropped after."""
    vectors = spark.sparkContext.broadcast(_item_vectors(spark, items))

    @F.pandas_udf(f"struct<{LISTS.replace(' ', ':').replace(',:', ',')}>")  # type: ignore[call-overload]
    def recommend(embedding: pd.Series, seen: pd.Series) -> pd.DataFrame:
        import torch

        torch.set_num_threads(1)
        items_ND = torch.from_numpy(vectors.value)
        users_UD, seen_UE = np.stack(embedding), np.stack(seen)

        def search(users_SD: np.ndarray, fetched: int) -> tuple[np.ndarray, np.ndarray]:
            scores_SF, items_SF = torch.topk(torch.mm(torch.from_numpy(users_SD), items_ND.T), fetched)
            return scores_SF.numpy(), items_SF.numpy()

        items_UK, scores_UK = _lists(users_UD, seen_UE, search, top_k)
        return pd.DataFrame({"items": list(items_UK), "scores": list(scores_UK)})

    lists = _read(spark, users).select("user_id", recommend("embedding", "seen").alias("lists"))
    _write(lists.select("user_id", "lists.*"), out)


def faiss_in_map_in_arrow(spark: SparkSession, users: str, items: str, out: str, top_k: int) -> None:
    """An IndexFlatIP in every task, over item vectors broadcast from the driver; seen items dropped after."""
    vectors = spark.sparkContext.broadcast(_item_vectors(spark, items))

    def recommend(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(vectors.value.shape[1])
        index.add(vectors.value)
        for batch in batches:
            users_UD, seen_UE = (
                batch.column(name).flatten().to_numpy().reshape(batch.num_rows, -1) for name in ("embedding", "seen")
            )
            items_UK, scores_UK = _lists(users_UD, seen_UE, index.search, top_k)
            columns = [batch.column("user_id"), pa.array(list(items_UK)), pa.array(list(scores_UK))]
            yield pa.RecordBatch.from_arrays(columns, ["user_id", "items", "scores"])

    _write(_read(spark, users).mapInArrow(recommend, f"user_id string, {LISTS}"), out)


def without_search(spark: SparkSession, users: str, items: str, out: str, top_k: int) -> None:
    """No peer but a floor: users are read as by the others, and random lists of the same size written, as ours are.

    The vectors of items are not read: items are only counted. Scores are multiples of 2^-24, as ours are: other random
    doubles would hardly compress.
    """
    num_items = _read(spark, items).count()

    def invent(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rng = np.random.default_rng(0)
        for batch in batches:
            offsets = pa.array(np.arange(0, batch.num_rows * top_k + 1, top_k, dtype=np.int32))
            items_P = rng.integers(0, num_items, batch.num_rows * top_k, dtype=np.int32)
            scores_P = rng.random(len(items_P), dtype=np.float32).astype(np.float64)
            lists = (pa.ListArray.from_arrays(offsets, pa.array(values)) for values in (items_P, scores_P))
            yield pa.RecordBatch.from_arrays([batch.column("user_id"), *lists], ["user_id", "items", "scores"])

    columns = "user_id string, items array<int>, scores array<double>"
    _write(_read(spark, users).mapInArrow(invent, columns), out)


Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""Scores and items [S, F] of the best F items for users [S, D]."""


def _lists(users_UD: np.ndarray, seen_UE: np.ndarray, search: Search, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Items (int32) and scores [U, K] without seen items: over-fetched, some users at a time."""
    parts = []
    for first in range(0, len(users_UD), BATCH_USERS):
        block = slice(first, first + BATCH_USERS)
        scores_SF, items_SF = search(users_UD[block], top_k + seen_UE.shape[1])
        parts.append(drop_seen(items_SF, scores_SF, seen_UE[block], top_k))
    items_UK = np.concatenate([part.items_RK for part in parts]).astype(np.int32)
    return items_UK, np.concatenate([part.scores_RK for part in parts])


def _item_vectors(spark: SparkSession, items: str) -> np.ndarray:
    """[N, D] on the driver, in the order of item_idx."""
    rows: Any = _read(spark, items).select("item_idx", "embedding").toPandas()
    return np.stack(rows.sort_values("item_idx")["embedding"]).astype(np.float32)


def _read(spark: SparkSession, path: str) -> DataFrame:
    return spark.read.format("delta").load(path)


def _write(rows: DataFrame, out: str) -> None:
    rows.write.format("delta").mode("overwrite").save(out)
