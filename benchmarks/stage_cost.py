"""What a stage costs when it has next to nothing to do: seconds and Spark jobs of a delivery of two rows.

    python -m benchmarks.stage_cost [--jobs]

A small shop (2,000 events, 60 items) gets a second delivery of two events and a new item, and each of its stages runs
once more: first with that, then with nothing new, in one session as the pipeline does. So does a stage that does
nothing at all. The seconds are the fastest of three such deliveries; those of the first stage hold the session's look
at RUNS. With `--jobs` every Spark job of the last delivery is printed, with the call that started it. Delta's jars come
from RECSYS_DELTA_JARS, or else from Maven.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs import build_item_text, build_sequences, ingest_events, ingest_items
from recsys_spark.config import Config, load_config
from recsys_spark.records import Records
from recsys_spark.runner import Stage, list_jars, nothing_outside, run_stage
from recsys_spark.tables.session import build_session
from recsys_spark.tables.store import Store

CONF = Path(__file__).resolve().parents[1] / "conf"
EMPTY = Stage(name="(empty)", run=nothing_outside, reads=(), writes=(), sections=("events.batch",))
STAGES = (ingest_events.STAGE, ingest_items.STAGE, build_item_text.STAGE, build_sequences.STAGE, EMPTY)
DELIVERIES = 3


@dataclass(frozen=True)
class Cost:
    """What one run of one stage took: `jobs` are its Spark jobs, each with its call site and milliseconds."""

    stage: str
    seconds: float
    jobs: tuple[tuple[str, int], ...]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.stage_cost", description=__doc__)
    parser.add_argument("--jobs", action="store_true", help="print every Spark job of the last delivery")
    shows_jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder, _session(folder) as spark:
        shop = Path(folder)
        _costs_of(spark, _deliver(shop, number=0, num_events=2000))
        deliveries = [
            _costs_of(spark, _deliver(shop, number=number, num_events=2)) for number in range(1, DELIVERIES + 1)
        ]
        again = _costs_of(spark, _deliver(shop, number=DELIVERIES, num_events=2))
    print(f"{'stage':18}{'seconds':>8}{'Spark jobs':>12}{'when skipped':>14}{'Spark jobs':>12}")
    for runs, skipped in zip(zip(*deliveries, strict=True), again, strict=True):
        best = min(runs, key=lambda cost: cost.seconds)
        figures = f"{best.seconds:8.2f}{len(best.jobs):12}{skipped.seconds:14.2f}{len(skipped.jobs):12}"
        print(f"{best.stage:18}{figures}")
        for place, milliseconds in runs[-1].jobs if shows_jobs else ():
            print(f"    {milliseconds:6} ms  {place}")


@contextmanager
def _session(folder: str) -> Iterator[SparkSession]:
    settings = {"spark.master": "local[2]", "spark.sql.warehouse.dir": folder, "spark.local.dir": folder}
    local = load_config([str(CONF / "base.yaml"), str(CONF / "local.yaml")], _shop(Path(folder), number=0))
    jars = list_jars(os.environ.get("RECSYS_DELTA_JARS", ""))
    spark = build_session("stage_cost", {**local.spark, **settings}, delta_jars=jars)
    yield spark
    spark.stop()


def _costs_of(spark: SparkSession, config: Config) -> list[Cost]:
    """What each stage costs, in their order."""
    records = Records(Store(spark, config.warehouse), config.run.id)
    costs = []
    for stage in STAGES:
        before = len(_jobs(spark))
        outcome = run_stage(stage, spark, config, records=records)
        costs.append(Cost(stage.name, outcome.seconds, tuple(_jobs(spark)[before:])))
    return costs


def _jobs(spark: SparkSession) -> list[tuple[str, int]]:
    """Every Spark job of the session in the order of their start: call site and milliseconds."""
    jobs: Any = spark.sparkContext._jsc.sc().statusStore().jobsList(None)
    found = [jobs.apply(place) for place in range(jobs.size())]
    return [
        (job.name(), job.completionTime().get().getTime() - job.submissionTime().get().getTime())
        for job in sorted(found, key=lambda job: int(job.jobId()))
    ]


def _deliver(shop: Path, *, number: int, num_events: int) -> Config:
    """A delivery's files, written once, and the configuration that reads them."""
    events = shop / f"events_{number}.csv"
    if not events.exists():
        lines = [
            f"u{row % 50},p{row % 59},2020-{1 + row % 6:02}-{1 + number + row % 25:02} 10:{row % 60:02}:00,{row}"
            for row in range(num_events)
        ]
        events.write_text("\n".join(["user,item,time,paid", *lines]) + "\n")
        names = [f"p{row},product {row} of {number}" for row in range(60 + number)]
        (shop / f"items_{number}.csv").write_text("\n".join(["item,name", *names]) + "\n")
    return load_config([str(CONF / "base.yaml"), str(CONF / "local.yaml")], _shop(shop, number=number))


def _shop(shop: Path, *, number: int) -> list[str]:
    return [
        f"warehouse={shop}/warehouse",
        f"events.source={{format: csv, path: {shop}/events_{number}.csv}}",
        "events.columns={user: user_id, item: item_id, time: ts, paid: value}",
        "events.event_type=purchase",
        f"events.batch=delivery{number}",
        f"items.source={{format: csv, path: {shop}/items_{number}.csv}}",
        "items.columns={item: item_id, name: title}",
        "split.test_start=2020-06-01",
        "sequences.train_windows=2",
    ]


if __name__ == "__main__":
    main()
