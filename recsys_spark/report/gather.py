"""Tables -> `Facts`. Every aggregate is Spark's; what is collected is bounded by the configuration, not by the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config import Config
from recsys_spark.config.secrets import hide
from recsys_spark.report.facts import (
    BlendPoint,
    CatalogueFact,
    Facts,
    Figure,
    Histogram,
    Refusal,
    SequencesFact,
    SourceFact,
    StageFact,
    Timeline,
    TrainingFact,
    Week,
)
from recsys_spark.report.samples import sample_users
from recsys_spark.tables import catalog as t
from recsys_spark.tables.contract import Table
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.history import before, of_types

Read = Callable[[Table], DataFrame]
Curve = Callable[[str, str], list[tuple[int, float]]]

_MOST_BINS: Final = 32
_MOST_POINTS: Final = 400
_MOST_REASONS: Final = 12
_WEEKS_BEFORE: Final = 156
_WEEKS_AFTER: Final = 26


def gather_facts(read: Read, *, config: Config, curve: Curve) -> Facts:
    """Everything the page says of run `config.run.id`; `read` gives a table, `curve` a tracked metric of a run."""
    split, run_id = config.split, config.run.id

    def of_run(table: Table) -> DataFrame:
        return read(table).where(F.col(c.RUN_ID) == run_id)

    lists = of_run(t.RECOMMENDATIONS)
    chosen = of_types(read(t.EVENTS), split.target_event_types)
    return Facts(
        run_id=run_id,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        test_start=_day(split.test_start),
        test_end=_day(split.test_end),
        ks=tuple(sorted(set(config.evaluate.ks))),
        event_types=tuple(split.target_event_types),
        num_users=read(t.EVENTS).select(c.USER_ID).distinct().count(),
        num_served=lists.select(c.USER_ID).distinct().count(),
        sources=(
            _source("events", hide(config.events.source.path), read(t.EVENTS), read(t.EVENTS_REJECTED)),
            _source("items", hide(config.items.source.path), read(t.ITEMS), read(t.ITEMS_REJECTED)),
        ),
        timeline=_timeline(read(t.EVENTS), config),
        sequences=_sequences(read(t.SEQUENCES), config.sequences.max_events),
        catalogue=_catalogue(
            read(t.ITEM_TEXT), before(chosen, split.test_start), lists, max_tokens=config.item_text.max_tokens
        ),
        training=_training(of_run(t.MODELS), f"validation_ndcg_{config.train.validation_k}", curve),
        blends=_blends(of_run(t.BLENDS)),
        figures=_figures(of_run(t.METRICS)),
        stages=_stages(of_run(t.RUNS)),
        users=sample_users(lists, read(t.EVENTS), read(t.ITEM_TEXT), split=split, settings=config.report),
    )


def _day(moment: datetime) -> str:
    return moment.date().isoformat()


def _source(name: str, place: str, accepted: DataFrame, rejected: DataFrame) -> SourceFact:
    """Rows of a source in both of its tables, and the reasons of the refused ones, most frequent first.

    A row that was refused for several reasons counts for each of them.
    """
    example = F.concat(
        F.substring_index(c.SOURCE, "/", -1), F.lit(", row "), F.format_number(c.OFFSET, 0), F.lit(": "),
        F.substring(c.RAW, 1, 160),
    )  # fmt: skip
    reasons = (
        rejected.select(F.explode(c.REASONS).alias("reason"), c.SOURCE, c.OFFSET, example.alias("example"))
        .groupBy("reason")
        .agg(F.count(F.lit(1)).alias("rows"), F.min_by("example", F.struct(c.SOURCE, c.OFFSET)).alias("example"))
        .orderBy(F.col("rows").desc(), F.col("reason").asc())
        .limit(_MOST_REASONS)
        .collect()
    )
    refusals = tuple(Refusal(row["reason"], row["rows"], row["example"] or "") for row in reasons)
    return SourceFact(name, place, accepted.count(), rejected.count(), refusals)


def _timeline(events: DataFrame, config: Config) -> Timeline:
    """Events per week, counted from the start of the test window; weeks far away are added up, not drawn."""
    split, settings = config.split, config.sequences
    micros = F.unix_micros(c.TS) - F.unix_micros(F.lit(split.test_start))
    week = F.floor(micros / F.lit(7 * 86_400_000_000))
    near = F.greatest(F.least(week, F.lit(_WEEKS_AFTER)), F.lit(-_WEEKS_BEFORE - 1))
    counts = {row["week"]: row["count"] for row in events.groupBy(near.alias("week")).count().collect()}
    earlier, later = counts.pop(-_WEEKS_BEFORE - 1, 0), counts.pop(_WEEKS_AFTER, 0)
    shown = range(min(counts), max(counts) + 1) if counts else range(0)
    return Timeline(
        weeks=tuple(Week(i, _day(split.test_start + timedelta(weeks=i)), counts.get(i, 0)) for i in shown),
        earlier=earlier,
        later=later,
        test_start=_day(split.test_start),
        test_days=split.test_days,
        validation_days=split.validation_days,
        train_cut_offs=settings.train_windows,
        window_days=settings.window_days,
    )


def _histogram(rows: DataFrame, value: Column, *, low: int, high: int) -> Histogram:
    """Counts of a whole number between `low` and `high`, in at most 32 bins of one width."""
    width = -(-(high - low + 1) // _MOST_BINS)
    num_bins = -(-(high - low + 1) // width)
    number = F.floor((value - F.lit(low)) / F.lit(width))
    bins = rows.groupBy(F.greatest(F.lit(0), F.least(number, F.lit(num_bins - 1))).alias("bin")).count()
    counts = {row["bin"]: row["count"] for row in bins.collect()}
    return Histogram(low, width, tuple(counts.get(i, 0) for i in range(num_bins)))


def _sequences(sequences: DataFrame, max_events: int) -> SequencesFact:
    test = sequences.where(F.col(c.SPLIT) == "test")
    is_full = F.when(F.col(c.NUM_EVENTS) >= max_events, 1)
    summary = first_row(test.agg(F.count(is_full).alias("full"), F.percentile(c.NUM_EVENTS, 0.5).alias("median")))
    rows = {row[c.SPLIT]: row["count"] for row in sequences.groupBy(c.SPLIT).count().collect()}
    return SequencesFact(
        max_events=max_events,
        lengths=_histogram(test, F.col(c.NUM_EVENTS), low=1, high=max_events),
        full=summary["full"],
        median=summary["median"] or 0.0,
        rows=rows,
    )


def _catalogue(texts: DataFrame, known: DataFrame, lists: DataFrame, *, max_tokens: int) -> CatalogueFact:
    """`known` are the chosen events before the cut-off, `lists` the run's RECOMMENDATIONS."""
    has_text = F.col(c.TEXT) != ""
    summary = first_row(
        texts.agg(
            F.count(F.lit(1)).alias("items"),
            F.count(F.when(has_text, 1)).alias("with_text"),
            F.count(F.when(F.col(c.NUM_TOKENS) >= max_tokens, 1)).alias("full"),
        )
    )
    items = texts.select(c.ITEM_ID)
    return CatalogueFact(
        items=summary["items"],
        with_text=summary["with_text"],
        chosen=items.join(known.select(c.ITEM_ID).distinct(), on=[c.ITEM_ID], how="left_semi").count(),
        listed=items.join(lists.select(c.ITEM_ID).distinct(), on=[c.ITEM_ID], how="left_semi").count(),
        tokens=_histogram(texts.where(has_text), F.col(c.NUM_TOKENS), low=1, high=max_tokens),
        full=summary["full"],
        max_tokens=max_tokens,
    )


def _training(models: DataFrame, metric: str, curve: Curve) -> TrainingFact | None:
    row = models.first()
    if row is None:
        return None
    run = row[c.TRACKING_RUN]
    return TrainingFact(
        model=f"{row[c.MODEL_NAME]} version {row[c.MODEL_VERSION]}",
        tracking_run=run,
        metric=metric,
        loss=thin_out(curve(run, "train_loss"), most=_MOST_POINTS),
        validation=thin_out(curve(run, metric), most=_MOST_POINTS),
    )


def thin_out(points: Sequence[tuple[int, float]], *, most: int) -> tuple[tuple[int, float], ...]:
    """At most `most` points: each the last step and the mean value of as many neighbours."""
    size = max(1, -(-len(points) // most))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return tuple((group[-1][0], sum(value for _, value in group) / len(group)) for group in groups)


def _blends(blends: DataFrame) -> tuple[BlendPoint, ...]:
    rows = blends.orderBy(c.TOWER_WEIGHT).collect()  # one row per weight of the configuration
    return tuple(BlendPoint(row[c.TOWER_WEIGHT], row[c.SCORE], row[c.NUM_USERS]) for row in rows)


def _figures(metrics: DataFrame) -> tuple[Figure, ...]:
    names = (c.SLICE, c.METHOD, c.METRIC, c.K, c.VALUE, c.LOWER, c.UPPER, c.NUM_USERS)
    rows = metrics.where(F.col(c.SPLIT) == "test").select(*names).orderBy(*names[:4]).collect()
    return tuple(Figure(*row) for row in rows)


def _stages(runs: DataFrame) -> tuple[StageFact, ...]:
    """The latest record of each stage, in the order in which they finished."""
    latest = runs.groupBy(c.STAGE).agg(F.max_by(F.struct(*t.RUNS.column_names), c.FINISHED_AT).alias("last"))
    rows = (
        latest.select("last.*")
        .withColumn("finished", F.date_format(c.FINISHED_AT, "yyyy-MM-dd HH:mm:ss"))
        .orderBy(c.FINISHED_AT, c.STAGE)
        .collect()
    )
    return tuple(
        StageFact(
            name=row[c.STAGE],
            finished=row["finished"],
            seconds=row[c.SECONDS],
            peak_mib=row[c.PEAK_MIB],
            versions=row[c.OUTPUTS] or {},
            rows=row[c.ROWS_OUT] or {},
            notes=tuple(row[c.NOTES] or ()),
        )
        for row in rows
    )
