"""What a job verifies about its results: actions on tables that end in silence, a note, or an error."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config import SplitConfig
from recsys_spark.errors import problem
from recsys_spark.kernels.batches import CHECKSUM_MODULUS
from recsys_spark.tables.store import first_row


def require_balance(*, read: int, accepted: int, rejected: int, kept_out: int, section: str) -> None:
    """Nothing lost: every row read was accepted, rejected, or kept out by a row filter."""
    if read != accepted + rejected + kept_out:
        raise problem(
            f"ingest of {section}",
            wanted=f"accepted + rejected + kept out = {read:,} rows read",
            found=f"{accepted:,} accepted + {rejected:,} rejected + {kept_out:,} kept out",
            do="The source changed while it was read, or the platform has a fault: run the job again.",
        )


def require_few_faulty(faulty: DataFrame, *, count: int, read: int, max_share: float, section: str) -> None:
    """Raise when the `count` faulty rows are more than `max_share`, with the commonest reasons and examples."""
    if count <= max_share * read:
        return
    reason = F.explode(c.REASONS).alias("reason")
    reasons = faulty.select(reason, c.RAW).groupBy(F.regexp_replace("reason", "'.*'", "'…'").alias("reason"))
    commonest = reasons.agg(F.count("*").alias("rows"), F.first(c.RAW).alias("example")).orderBy(F.desc("rows")).take(3)
    found = "; ".join(f"{row['rows']:,} rows: {row['reason']}, for example {row['example']}" for row in commonest)
    are_repeated = any(row["reason"] == f"{c.EVENT_ID} is repeated" for row in commonest)
    remedy = (
        " Where equal rows are events of their own, set events.repeats: keep; where they are copies, set"
        " events.repeats: count."
        if are_repeated
        else ""
    )
    raise problem(
        f"ingest of {section}",
        wanted=f"at most {max_share:.1%} of {read:,} rows refused ({section}.max_rejected_share)",
        found=f"{count:,} refused: {found}",
        do=f"They are in {section.upper()}_REJECTED with their reasons; mend the source or the mapping.{remedy}",
    )


def require_one_number_each(index: DataFrame) -> DataFrame:
    """The rows of ITEM_INDEX; an item with two numbers or a number with two items is an error that names the repair."""
    of_each = F.count(F.lit(1)), F.count_distinct(c.ITEM_ID), F.count_distinct(c.ITEM_IDX)
    num_rows, num_items, num_numbers = first_row(index.agg(*of_each))
    if not num_rows == num_items == num_numbers:
        raise problem(
            "table ITEM_INDEX",
            wanted="one row for each item and for each number",
            found=f"{num_rows:,} rows for {num_items:,} items and {num_numbers:,} numbers",
            do="Two jobs of an earlier release wrote it at once: run jobs/repair_item_index.py, which keeps every "
            "item's first number.",
        )
    return index


def count_unknown_items(events: DataFrame, index: DataFrame) -> int:
    """Events whose item is not in `index` (key: item_id); if all are unknown, the error shows ids of both sides."""
    known = index.select(c.ITEM_ID, F.lit(True).alias("is_known"))
    of_each = F.count(F.lit(1)), F.count_if(F.col("is_known").isNull())
    total, count = first_row(events.join(known, on=[c.ITEM_ID], how="left").agg(*of_each))
    if total == 0:
        raise problem(
            "table EVENTS",
            wanted="events",
            found="none",
            do="Look at what ingest_events says it read, refused and kept out (events.where).",
        )
    if count == total:
        of_events = [row[0] for row in events.select(c.ITEM_ID).limit(3).collect()]
        of_items = [row[0] for row in index.select(c.ITEM_ID).limit(3).collect()]
        raise problem(
            "item ids",
            wanted="events of items of the catalogue",
            found=f"not one known item in {total:,} events (events say {of_events}, the catalogue says {of_items})",
            do="Map both sides to the same id in events.columns and items.columns.",
        )
    return count


def require_splits(sequences: DataFrame, events: DataFrame, split: SplitConfig) -> dict[str, int]:
    """Rows per split; a split without rows is an error that says what the data cover."""
    counts = {row[c.SPLIT]: row["count"] for row in sequences.groupBy(c.SPLIT).count().collect()}
    empty = [name for name in ("train", "validation", "test") if not counts.get(name)]
    if empty:
        first, last = first_row(events.select(F.min(c.TS).cast("string"), F.max(c.TS).cast("string")))
        types = [row[0] for row in events.select(c.EVENT_TYPE).distinct().limit(20).collect()]
        raise problem(
            "configuration, split",
            wanted=f"users with events before each cut-off and {split.target_event_types} events in each window",
            found=f"no row for {', '.join(empty)}: events run from {first} to {last}, their types are {sorted(types)}; "
            f"validation starts {split.validation_start:%Y-%m-%d}, test {split.test_start:%Y-%m-%d}",
            do="Set split.test_start, split.validation_days or split.target_event_types to fit the data.",
        )
    return counts


def count_users_without_list(truth: DataFrame, users: DataFrame) -> int:
    """Users who chose something in the window and have no list, because they have no history before it."""
    return truth.join(users, on=[c.USER_ID], how="left_anti").select(c.USER_ID).distinct().count()


def sum_row_ids(sequences: DataFrame) -> int:
    """Sum of row_id modulo CHECKSUM_MODULUS: what the ranks' own sum has to equal after an epoch."""
    return int(first_row(sequences.agg(F.sum(F.pmod(F.col(c.ROW_ID), F.lit(CHECKSUM_MODULUS)))))[0])
