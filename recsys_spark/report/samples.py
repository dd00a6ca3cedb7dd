"""A few users as they are: their last events and their lists as text. Shared by the report and `show`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config import ReportConfig, SplitConfig
from recsys_spark.report.facts import ListedItem, PastEvent, UserFact
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.history import before, of_types, within

DAY: Final = "day"
_BUCKET: Final = "bucket"
_IS_HIT: Final = "is_hit"


def recent_events(events: DataFrame, texts: DataFrame, *, cut_off: datetime, num_events: int) -> DataFrame:
    """user_id, rank (1 is the newest), day, event_type, item_id, text of the last events before the cut-off.

    `texts` is ITEM_TEXT (unique item_id); an item without text shows its id.
    """
    newest_first = Window.partitionBy(c.USER_ID).orderBy(F.col(c.TS).desc(), F.col(c.EVENT_ID).asc())
    return (
        before(events, cut_off)
        .withColumn(c.RANK, F.row_number().over(newest_first))
        .where(F.col(c.RANK) <= num_events)
        .withColumn(DAY, F.date_format(c.TS, "yyyy-MM-dd"))  # in Spark, whose zone is UTC
        .transform(with_text, texts)
        .select(c.USER_ID, c.RANK, DAY, c.EVENT_TYPE, c.ITEM_ID, c.TEXT)
    )


def with_text(rows: DataFrame, texts: DataFrame) -> DataFrame:
    """`rows` with the text of their item; `item 123` where the catalogue has none. `texts`: unique item_id."""
    known = texts.select(c.ITEM_ID, F.nullif(F.col(c.TEXT), F.lit("")).alias(c.TEXT))
    name = F.coalesce(c.TEXT, F.concat(F.lit("item "), F.col(c.ITEM_ID)))
    return rows.join(known, on=[c.ITEM_ID], how="left").withColumn(c.TEXT, name)


def choose_users(lists: DataFrame, events: DataFrame, *, num_users: int) -> list[tuple[str, int]]:
    """(user_id, number of events) of up to `num_users` users with a list, spread over the sizes of histories.

    `events` lie before the cut-off. Users are cut into `num_users` groups at the quantiles of their number of
    events; of each group comes first who has the smallest hash of the id, then who has the second, until there
    are enough. At most num_users squared rows reach the driver; no user is drawn by chance.
    """
    served = lists.select(c.USER_ID).distinct()
    counts = events.groupBy(c.USER_ID).agg(F.count(F.lit(1)).alias(c.NUM_EVENTS))
    sizes = counts.join(served, on=[c.USER_ID], how="left_semi").persist()
    try:
        shares = [i / num_users for i in range(1, num_users)]
        cuts = first_row(sizes.agg(F.percentile(c.NUM_EVENTS, shares).alias("cuts")))["cuts"] if shares else None
        bucket = sum((F.when(F.col(c.NUM_EVENTS) > cut, 1).otherwise(0) for cut in cuts or []), F.lit(0))
        by_hash = Window.partitionBy(_BUCKET).orderBy(F.xxhash64(c.USER_ID), F.col(c.USER_ID))
        drawn = (
            sizes.withColumn(_BUCKET, bucket)
            .withColumn(c.RANK, F.row_number().over(by_hash))
            .where(F.col(c.RANK) <= num_users)
            .orderBy(c.RANK, _BUCKET)
            .limit(num_users)
            .collect()
        )
    finally:
        sizes.unpersist()
    chosen = [(row[c.USER_ID], row[c.NUM_EVENTS]) for row in drawn]
    return sorted(chosen, key=lambda user: (user[1], user[0]))


def sample_users(
    lists: DataFrame, events: DataFrame, texts: DataFrame, *, split: SplitConfig, settings: ReportConfig
) -> tuple[UserFact, ...]:
    """`settings.num_users` users, shortest history first; `lists` are the run's RECOMMENDATIONS."""
    users = choose_users(lists, before(events, split.test_start), num_users=settings.num_users)
    names = [user_id for user_id, _ in users]
    theirs = events.where(F.col(c.USER_ID).isin(*names)).persist()
    try:
        past = recent_events(theirs, texts, cut_off=split.test_start, num_events=settings.history_shown)
        history = _by_user(past.orderBy(c.USER_ID, c.RANK).collect())
        window = within(theirs, split.test_start, split.test_end)
        chosen = of_types(window, split.target_event_types).select(c.USER_ID, c.ITEM_ID).distinct()
        num_chosen = {row[c.USER_ID]: row["count"] for row in chosen.groupBy(c.USER_ID).count().collect()}
        listed = _by_user(
            lists.where(F.col(c.USER_ID).isin(*names))
            .join(chosen.withColumn(_IS_HIT, F.lit(True)), on=[c.USER_ID, c.ITEM_ID], how="left")
            .transform(with_text, texts)
            .orderBy(c.USER_ID, c.SEEN_RULE, c.RANK)
            .collect()
        )
    finally:
        theirs.unpersist()
    return tuple(
        UserFact(
            user_id=name,
            num_events=num_events,
            num_chosen=num_chosen.get(name, 0),
            history=tuple(PastEvent(row[DAY], row[c.EVENT_TYPE], row[c.TEXT]) for row in history[name]),
            lists=_as_lists(listed[name]),
        )
        for name, num_events in users
    )


def _by_user(rows: Sequence[Row]) -> defaultdict[str, list[Row]]:
    grouped: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row[c.USER_ID]].append(row)
    return grouped


def _as_lists(rows: Sequence[Row]) -> dict[str, tuple[ListedItem, ...]]:
    """One list per seen rule: keep before drop."""
    rules = sorted({row[c.SEEN_RULE] for row in rows}, reverse=True)
    return {
        rule: tuple(
            ListedItem(row[c.RANK], row[c.TEXT], row[c.SCORE], row[c.REASON] or "", bool(row[_IS_HIT]))
            for row in rows
            if row[c.SEEN_RULE] == rule
        )
        for rule in rules
    }
