"""Every stage in one session, and the summary of the run: in the warehouse for programs, on the screen for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config.secrets import hide
from recsys_spark.evaluation.verdict import judge
from recsys_spark.records import Records
from recsys_spark.runner import Outcome, Stage, Submission, as_job, run_stage
from recsys_spark.tables.catalog import METRICS, MODELS, TABLES
from recsys_spark.tables.store import Store, first_row

_SHOWN = (("ndcg", 10, "all"), ("precision", 10, "all"), ("recall", 20, "all"), ("ndcg", 10, "new"))


def main(flow: Sequence[Stage], arguments: Sequence[str] | None = None) -> int:
    """Entry point of jobs/pipeline.py."""

    def body(submission: Submission, spark: SparkSession) -> None:
        config = submission.config
        store = Store(spark, config.warehouse)
        records = Records(store, config.run.id)
        outcomes = [run_stage(stage, spark, config, force=submission.force, records=records) for stage in flow]
        metrics = _metrics(store.read(METRICS), config.run.id)
        summary = summarise(config.run.id, outcomes, metrics, _versions(store))
        place = store.write_text("summary.json", json.dumps(summary, indent=2))
        model = first_row(store.read(MODELS).where(F.col(c.RUN_ID) == config.run.id))
        closing = _closing(summary, metrics, store, place, hide(config.tracking.uri), model)
        print(hide(closing), file=sys.stdout, flush=True)

    return as_job("pipeline", body, arguments, stages=flow)


def summarise(
    run_id: str, outcomes: Sequence[Outcome], metrics: Sequence[Row], versions: dict[str, int]
) -> dict[str, Any]:
    """What warehouse/summary.json says. A skipped stage shows the rows of its last run, the seconds of this one."""
    figures: dict[str, dict[str, float]] = {}
    for row in metrics:
        figures.setdefault(row[c.METHOD], {})[f"{row[c.METRIC]}@{row[c.K]} {row[c.SLICE]}"] = row[c.VALUE]
    return {
        "run_id": run_id,
        "stages": [
            {
                "name": outcome.stage,
                "skipped": outcome.skipped,
                "seconds": round(outcome.seconds, 1),
                "peak_mib": None if outcome.skipped else outcome.record[c.PEAK_MIB],
                "rows_in": outcome.record[c.ROWS_IN],
                "rows_out": outcome.record[c.ROWS_OUT],
                "notes": outcome.record[c.NOTES],
            }
            for outcome in outcomes
        ],
        "metrics": figures,
        "table_versions": versions,
    }


def _metrics(metrics: DataFrame, run_id: str) -> list[Row]:
    return metrics.where(F.col(c.RUN_ID) == run_id).orderBy(c.METHOD, c.SLICE, c.METRIC, c.K).collect()


def _versions(store: Store) -> dict[str, int]:
    versions = {table.name: store.version(table) for table in TABLES}
    return {name: version for name, version in versions.items() if version is not None}


def _closing(
    summary: dict[str, Any], metrics: Sequence[Row], store: Store, place: str, tracking_uri: str, model: Row
) -> str:
    """The last thing a run prints: verdict, the table against the baselines, seconds, and where everything is."""
    heads = [f"{metric}@{k}" + (" new" if part == "new" else "") for metric, k, part in _SHOWN]
    lines = ["", judge([row.asDict() for row in metrics]), "", f"{'':16}" + "".join(f"{head:>15}" for head in heads)]
    for method, figures in sorted(summary["metrics"].items(), key=lambda item: -item[1].get("ndcg@10 all", 0.0)):
        cells = [figures.get(f"{metric}@{k} {part}") for metric, k, part in _SHOWN]
        lines.append(f"{method:16}" + "".join(f"{'-' if cell is None else f'{cell:.4f}':>15}" for cell in cells))
    peak = max((stage["peak_mib"] or 0 for stage in summary["stages"]), default=0)
    seconds = [f"{s['name']} {'skipped' if s['skipped'] else format(s['seconds'], '.0f')}" for s in summary["stages"]]
    return "\n".join(
        [
            *lines,
            "",
            f"seconds   {', '.join(seconds)}; {sum(s['seconds'] for s in summary['stages']):.0f} in all",
            f"memory    {f'{peak:,} MiB at most' if peak else 'nothing was done again'}",
            f"tables    {store.root}/ (RECOMMENDATIONS: {store.root}/recommendations)",
            f"report    {store.root}/report.html",
            f"summary   {place}",
            f"MLflow    {tracking_uri}: {model[c.MODEL_NAME]} version {model[c.MODEL_VERSION]}",
        ]
    )
