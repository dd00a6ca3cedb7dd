"""Reads the rules' tables and refuses what cannot be meant, before anything is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config import Config, RulesConfig, RuleTableConfig
from recsys_spark.errors import problem
from recsys_spark.lineage import fingerprint
from recsys_spark.runner import Context
from recsys_spark.tables.catalog import ITEM_GROUPS, ITEMS
from recsys_spark.tables.contract import Table
from recsys_spark.tables.files import list_files
from recsys_spark.tables.formats import MALFORMED, SWALLOWED, own_columns, quoted
from recsys_spark.tables.source import find_column, read_source, require_columns
from recsys_spark.tables.sql import require_plain_sql, require_value
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.rules import ITEM, USER, Rules, describe_items, describe_users
from recsys_spark.transforms.values import is_undecoded, trim_text

_IDS: Final = (c.USER_ID, c.ITEM_ID)
_TEXT_FORMATS: Final = ("csv", "tsv", "jsonl")

SECTIONS: Final = tuple(f"rules.{name}" for name in ("item_tables", "user_tables", "conditions", "caps", "blocked"))
"""What decides which items may be listed for whom: all but pins, which only the final lists know."""


def rule_files(spark: SparkSession, config: Config) -> list[str]:
    """State of the files of SECTIONS: changed ones are a changed input."""
    tables = {where: table for where, table in _tables(config.rules).items() if where != "rules.pinned"}
    return [line for table in tables.values() for line in list_files(spark, table.source.path)]


def rule_and_pin_files(spark: SparkSession, config: Config) -> list[str]:
    """State of all files that rules read."""
    return [line for table in _tables(config.rules).values() for line in list_files(spark, table.source.path)]


def load_rules(spark: SparkSession, config: RulesConfig, *, list_size: int) -> Rules:
    """The rules with their tables, each read and looked through once. Ids are read as `ingest` reads them.

    Raises the typed error for a table without the mapped columns, with rows that cannot be read, with null or repeated
    keys, or with columns that ITEMS or another table has; for positions that no list of `list_size` has; for SQL that
    is not plain, or not true or false.
    """
    tables = {where: _read(spark, table, where) for where, table in _tables(config).items()}
    rules = Rules(
        conditions=dict(config.conditions),
        caps=dict(config.caps),
        item_tables=_below(tables, "rules.item_tables.", c.ITEM_ID),
        user_tables=_below(tables, "rules.user_tables.", c.USER_ID),
        blocked=tables["rules.blocked"].select(*_IDS).distinct() if config.blocked else None,
        pinned=_pins(tables["rules.pinned"], list_size) if config.pinned else None,
    )
    _require_own_columns(tables)
    _require_sql(spark, rules)
    return rules


def hash_rules(config: Config) -> str:
    """A hash of SECTIONS as the configuration has them."""
    return fingerprint([config.section(path) for path in SECTIONS])


def require_same_rules(context: Context, *tables: Table) -> None:
    """Raise the typed error when the run's rows of a table were made under other rules than the configuration's, or
    there are none. ITEM_GROUPS is looked at by caps alone."""
    config = context.config
    for table in tables if config.rules.caps else [table for table in tables if table is not ITEM_GROUPS]:
        rows = context.read_slice(table, run_id=config.run.id)
        if not rows.where(F.col(c.RULES_HASH) != hash_rules(config)).isEmpty():
            raise problem(
                f"table {table.name}",
                wanted="rows made under the rules of the configuration",
                found="rows made under other rules",
                do=f"Run {table.written_by} again with the same configuration.",
            )


def require_few_segments(segments: DataFrame, *, max_segments: int) -> None:
    """Raise the typed error when conditions tell more kinds of users apart than `rules.max_segments`."""
    num_kinds = segments.select(c.USER_FACTS).distinct().count()
    if num_kinds > max_segments:
        raise problem(
            "configuration, rules.conditions",
            wanted=f"conditions that tell at most {max_segments:,} kinds of users apart (rules.max_segments)",
            found=f"{num_kinds:,}",
            do="Round the user columns they name, as price limits to a few steps, or raise the number: each kind costs"
            " a bit for every item, and the conditions are worked out for each.",
        )


def describe_rules(rules: Rules, items: DataFrame, segments: DataFrame) -> str:
    """What each condition bars, from rows of SEGMENTS, and how much of the block list and the pins is of the catalogue:
    `stock bars 55,020 items, region bars 40,100 to 45,000; blocked: 1,990 of 2,000 rows name an item of ITEMS`.
    """
    bars = segments.select(F.explode(c.BARRED_BY).alias("name", "items")).groupBy("name")
    counts = bars.agg(F.min("items").alias("least"), F.max("items").alias("most")).orderBy(F.desc("most"), "name")
    told = [
        f"{name} bars {least:,} items" if least == most else f"{name} bars {least:,} to {most:,} items"
        for name, least, most in counts.collect()
    ]
    for name, rows in (("blocked", rules.blocked), ("pinned", rules.pinned)):
        if rows is not None:
            num_known = rows.join(items, on=[c.ITEM_ID], how="left_semi").count()
            told.append(f"{name}: {num_known:,} of {rows.count():,} rows name an item of ITEMS")
    return ", ".join(told) or "no conditions, no block list: any item may be listed"


def _tables(config: RulesConfig) -> dict[str, RuleTableConfig]:
    found: dict[str, RuleTableConfig | None] = {
        **{f"rules.item_tables.{name}": table for name, table in config.item_tables.items()},
        **{f"rules.user_tables.{name}": table for name, table in config.user_tables.items()},
        "rules.blocked": config.blocked,
        "rules.pinned": config.pinned,
    }
    return {where: table for where, table in found.items() if table is not None}


def _read(spark: SparkSession, table: RuleTableConfig, where: str) -> DataFrame:
    """The mapped columns, ids as texts; a block list and pins may be empty today."""
    rows = read_source(spark, table.source, where, can_be_empty=where in ("rules.blocked", "rules.pinned"))
    require_columns(rows, table.columns, where)
    if table.source.format in _TEXT_FORMATS:
        _require_whole_rows(rows, table, where)
    found = {target: find_column(rows, name) for name, target in table.columns.items()}
    named = {target: column[0] for target, column in found.items() if column is not None}
    read = rows.select(*[(trim_text(value) if name in _IDS else value).alias(name) for name, value in named.items()])
    _require_ids(read, where)
    return read


def _require_ids(rows: DataFrame, where: str) -> None:
    """Raise for rows without an id, and for texts of which some bytes were none: such a rule would match nothing."""
    ids = [name for name in rows.columns if name in _IDS]
    texts = [name for name, kind in rows.dtypes if kind == "string"]
    num_without, num_undecoded = first_row(
        rows.agg(
            F.count_if(reduce(or_, [F.col(name).isNull() for name in ids])),
            F.count_if(reduce(or_, [is_undecoded(F.col(name)) for name in texts])),
        )
    )
    if num_without:
        raise problem(
            f"configuration, {where}",
            wanted=f"{' and '.join(ids)} in each row",
            found=f"{num_without:,} rows without",
            do="Mend the table: a rule that is only read in part would bar what it should not.",
        )
    if num_undecoded:
        raise problem(
            f"configuration, {where}",
            wanted=f"{', '.join(texts)} that can be decoded",
            found=f"{num_undecoded:,} rows with bytes that are no text",
            do="Name the encoding in source.options, as {encoding: iso-8859-1}.",
        )


def _require_whole_rows(rows: DataFrame, table: RuleTableConfig, where: str) -> None:
    # Spark finds broken rows only where it reads whole ones: the hash has no other use.
    whole = F.max(F.xxhash64(*(F.col(quoted(name)) for name in own_columns(rows))))
    is_broken = F.col(MALFORMED).isNotNull() | (F.col(SWALLOWED) > 0)
    num_broken = first_row(rows.agg(F.count_if(is_broken).alias(MALFORMED), whole))[MALFORMED]
    if num_broken:
        raise problem(
            f"configuration, {where}.source.path",
            wanted=f"rows of {table.source.format} that can be read",
            found=f"{num_broken:,} that cannot",
            do="Mend the file: a rule that is only read in part would bar what it should not.",
        )


def _below(tables: Mapping[str, DataFrame], prefix: str, key: str) -> tuple[DataFrame, ...]:
    """The tables whose names begin with `prefix`: one row per key each."""
    chosen = {where: rows for where, rows in tables.items() if where.startswith(prefix)}
    for where, rows in chosen.items():
        faults = first_row(rows.agg(F.count(F.lit(1)).alias("rows"), F.countDistinct(key).alias("keys")))
        if faults["rows"] != faults["keys"]:
            raise problem(
                f"configuration, {where}",
                wanted=f"one row for each {key}",
                found=f"{faults['rows']:,} rows, {faults['keys']:,} different keys",
                do="Decide which of several rows counts, and leave the others out.",
            )
    return tuple(chosen.values())


def _pins(rows: DataFrame, list_size: int) -> DataFrame:
    told = F.expr(f"try_cast({c.POSITION} AS double)")
    position = F.when(told.between(1, list_size) & (told == F.floor(told)), told.cast("int"))
    pins = rows.select(c.ITEM_ID, position.alias(c.POSITION)).distinct()
    num_lost = pins.where(F.col(c.POSITION).isNull()).count()
    if num_lost:
        raise problem(
            "configuration, rules.pinned",
            wanted=f"positions from 1 to {list_size} (rank.list_size)",
            found=f"{num_lost:,} rows with others",
            do="Change the positions, or make the lists longer.",
        )
    return pins


def _require_own_columns(tables: Mapping[str, DataFrame]) -> None:
    taken = dict.fromkeys(ITEMS.column_names, "ITEMS")
    for where, rows in tables.items():
        side = "user." if where.startswith("rules.user_tables.") else ""
        for name in rows.columns if where.startswith(("rules.item_tables.", "rules.user_tables.")) else ():
            if name not in _IDS and side + name in taken:
                raise problem(
                    f"configuration, {where}.columns",
                    wanted="names of its own",
                    found=f"{name}, which {taken[side + name]} has",
                    do=f"Give it another name on the right side, as {name}_2.",
                )
            taken.setdefault(side + name, where)


def _require_sql(spark: SparkSession, rules: Rules) -> None:
    """Try each expression on no rows, with the columns it will see."""
    item_names = [*ITEMS.column_names, *(name for table in rules.item_tables for name in table.columns)]
    user_names = [c.USER_ID, *(name for table in rules.user_tables for name in table.columns)]
    of_items = [f"{ITEM}.{name}" for name in dict.fromkeys(item_names)]
    of_users = [f"{USER}.{name}" for name in dict.fromkeys(user_names)]
    items = describe_items(ITEMS.of_rows(spark, []), rules).select(ITEM)
    nobody = spark.createDataFrame([], f"{c.USER_ID} string, {c.AS_OF} timestamp")
    pairs = describe_users(nobody, rules).select(c.AS_OF, USER).crossJoin(items)
    for name, sql in rules.conditions.items():
        where = f"rules.conditions.{name}"
        _require_expression(pairs, sql, where, [c.AS_OF, *of_users, *of_items], kind="boolean")
    for sql in rules.caps:
        _require_expression(items, sql, f"rules.caps, {sql}", of_items, kind="")


def _require_expression(rows: DataFrame, sql: str, where: str, columns: Sequence[str], *, kind: str) -> None:
    require_plain_sql(rows.sparkSession, sql, where, columns=columns)
    require_value(rows, sql, where, columns=columns, kind=kind)
