"""Measures one way to score inside Spark: python -m benchmarks.score_spark WAY WORLD --top-k 100.

Or fetches a model's vectors: python -m benchmarks.score_spark export FOLDER --warehouse WAREHOUSE.

From two Delta tables to a written Delta table, on two cores, in a session that is up. The first run starts the Python
workers and is printed beside the fastest later one, with the machine's load (on an idle machine it stays near 2); when
it takes more than a minute, the start is a small part of it and there is no other. There are more runs than outside
Spark, since the JVM goes on compiling what it runs. The tables, which `prepare` writes first, are users (user_id,
embedding, seen) and items (item_id, item_idx, embedding). All but ALS write two arrays for each user.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks import ours, spark_peers
from benchmarks.measure import ROOT, best_seconds
from benchmarks.oracle import Lists, recall, require_exact
from benchmarks.vectors import World
from recsys_spark import columns as c
from recsys_spark.doctor import JARS_SETTING, delta_jars
from recsys_spark.errors import problem
from recsys_spark.memory import PeakMemory
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, USER_EMBEDDINGS
from recsys_spark.tables.session import build_session
from recsys_spark.tables.store import Store

CHECKED_USERS = 100
LONG_S: Final = 60.0
MAX_RUNS: Final = 6
ENOUGH_S: Final = 30.0
"""After this time no other warm run is begun."""

TABLE_FILES: Final = 8

WAYS: Final[dict[str, Callable[[SparkSession, str, str, str, int], None]]] = {
    "ours": ours.score_tables,
    "als": spark_peers.als,
    "torch": spark_peers.torch_in_pandas_udf,
    "faiss": spark_peers.faiss_in_map_in_arrow,
    "floor": spark_peers.without_search,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=("prepare", "export", *WAYS))
    parser.add_argument("world", type=Path)
    parser.add_argument("--warehouse", type=Path, help="of `make run`, to export from")
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--runs", type=int, default=MAX_RUNS)
    options = parser.parse_args()
    spark = make_session(options.world)
    try:
        if options.way == "prepare":
            write_tables(spark, World.load(options.world), options.world)
            print("{}")
        elif options.way == "export":
            export_vectors(spark, options.warehouse, options.world)
            print("{}")
        else:
            print(json.dumps(measure(spark, options.way, options.world, options.top_k, options.runs)))
    finally:
        spark.stop()


def make_session(folder: Path) -> SparkSession:
    """Two cores, the local settings of the platform, scratch files beside the world."""
    settings = yaml.safe_load((ROOT / "conf" / "local.yaml").read_text())["spark"]
    own: dict[str, Any] = {
        "spark.master": "local[2]",
        "spark.driver.memory": "3g",
        "spark.sql.execution.arrow.pyspark.enabled": True,  # off by default; whoever has vectors puts it on
        "spark.local.dir": str(folder / "spark"),
        "spark.sql.warehouse.dir": str(folder / "spark"),
    }
    jars = [str(jar) for jar in delta_jars(os.environ.get(JARS_SETTING, ""))]
    return build_session("bench of scoring", {**settings, **own}, delta_jars=jars)


def write_tables(spark: SparkSession, world: World, folder: Path) -> None:
    """The world as two Delta tables, written by way of Parquet: no row passes through Python's objects."""
    item_idx = np.arange(len(world.items_ND), dtype=np.int32)
    users = {
        "user_id": pa.array([f"u{row:08d}" for row in range(len(world.users_UD))]),
        "embedding": _as_lists(world.users_UD),
        "seen": _as_lists(world.seen_UE),
    }
    items = {
        "item_id": pa.array([item_id(place) for place in world.places_N]),
        "item_idx": pa.array(item_idx),
        "embedding": _as_lists(world.items_ND),
    }
    for name, columns in (("users", users), ("items", items)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        rows = spark.read.parquet(str(folder / f"{name}.parquet")).repartition(TABLE_FILES)
        rows.write.format("delta").mode("overwrite").save(str(folder / name))


def export_vectors(spark: SparkSession, warehouse: Path, folder: Path) -> None:
    """Vectors [rows, D] of the only model version, ordered by key: items.npy, and users.npy of the users of split test.

    Raises RecsysError when tables are missing or hold several versions.
    """
    store = Store(spark, str(warehouse))
    items, users = store.read(ITEM_EMBEDDINGS), store.read(USER_EMBEDDINGS).where(F.col(c.SPLIT) == "test")
    both = items.select(c.MODEL_VERSION).union(users.select(c.MODEL_VERSION)).distinct().orderBy(c.MODEL_VERSION)
    if len(versions := [row[0] for row in both.collect()]) != 1:
        raise problem(
            f"warehouse {warehouse}",
            wanted="vectors of one model version",
            found=f"versions {', '.join(versions) or 'none'}",
            do="Name a warehouse in which `make run` trained one model.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows, key in (("items", items, c.ITEM_IDX), ("users", users, c.USER_ID)):
        table: Any = rows.orderBy(key).select(c.EMBEDDING).toPandas()
        np.save(folder / f"{name}.npy", np.stack(table[c.EMBEDDING]).astype(np.float32))


def item_id(place: int) -> str:
    """Ids sort as places do."""
    return f"i{place:08d}"


def _as_lists(rows: np.ndarray) -> pa.ListArray:
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.ravel()))


def measure(spark: SparkSession, way: str, folder: Path, top_k: int, runs: int) -> dict[str, Any]:
    users, items, out = (str(folder / name) for name in ("users", "items", f"lists_{way}"))

    def work() -> None:
        WAYS[way](spark, users, items, out, top_k)

    spark.range(1).write.format("delta").mode("overwrite").save(str(folder / "warm_up"))  # Delta's classes are loaded
    with PeakMemory(every_seconds=0.5) as memory:
        first_seconds, _ = best_seconds(work, max_runs=1)
        seconds = first_seconds
        if first_seconds <= LONG_S:
            seconds, _ = best_seconds(work, max_runs=runs, enough_s=ENOUGH_S)
    note = f"first run {first_seconds:.1f} s; load {os.getloadavg()[0]:.1f}"
    found: dict[str, Any] = {"seconds": seconds, "peak_mib": memory.peak_mib, "note": note}
    if way in ("als", "floor"):
        return found  # ALS lists seen items too: its recall would say nothing
    world = World.load(folder)
    table: Any = spark.read.format("delta").load(out).toPandas()
    rows = table["user_id"].str.slice(1).astype(int).to_numpy()
    lists = Lists(rows, np.stack(table["items"]), np.stack(table["scores"])).sample(CHECKED_USERS)
    if way == "ours":
        require_exact(world, lists)
    return {**found, "recall": recall(world, lists)}


if __name__ == "__main__":
    main()
