"""The two ingests: every row lands in one of two tables, a delivery ingested twice is there once."""

import gzip

import pytest
from pyspark.sql import functions as F

from jobs import ingest_events, ingest_items
from recsys_spark.errors import RecsysError
from recsys_spark.runner import run_stage
from recsys_spark.tables.catalog import EVENTS, EVENTS_REJECTED, ITEM_INDEX, ITEMS, ITEMS_REJECTED, RUNS
from recsys_spark.tables.store import Store
from tests.small_warehouse import config_of

pytestmark = pytest.mark.spark

NOON = "2020-03-01 12:00:00"
BAD_TS = "ts cannot be read (the pattern is yyyy-MM-dd HH:mm:ss): 'soon'"


class Shop:
    """A folder with deliveries and a warehouse, and the two jobs on it."""

    def __init__(self, spark, folder):
        self.spark, self.folder = spark, folder
        self.store = Store(spark, str(folder / "warehouse"))

    def deliver(self, name, *lines):
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        text = "".join(f"{line}\n" for line in lines).encode()
        file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)

    def ingest(self, job, path, *settings):
        section = job.STAGE.name.removeprefix("ingest_")
        source = f"{section}.source={{format: csv, path: '{self.folder / path}'}}"
        return run_stage(job.STAGE, self.spark, config_of(self.store.root, source, *settings))

    def events(self, path, *settings):
        return self.ingest(ingest_events, path, "events.max_rejected_share=0.5", *settings)

    def items(self, path, *settings):
        return self.ingest(ingest_items, path, "items.max_rejected_share=0.5", *settings)


def events_of(store, version=None):
    rows = store.read(EVENTS, version).withColumn("ts", F.col("ts").cast("string"))
    return sorted((row.batch, row.user_id, row.item_id, row.ts, row.event_type) for row in rows.collect())


def refused_of(store, version=None):
    return sorted((row.batch, row.raw, row.reasons) for row in store.read(EVENTS_REJECTED, version).collect())


def told(act, *arguments):
    with pytest.raises(RecsysError) as raised:
        act(*arguments)
    return [str(each) for each in raised.value.problems]


@pytest.fixture(scope="module")
def shop(spark, tmp_path_factory):
    """Monday's delivery, the same once more, then corrected; Tuesday's. Three commits of either table."""
    shop = Shop(spark, tmp_path_factory.mktemp("shop"))
    shop.deliver("monday.csv", "user,item,time", f"u1,a,{NOON}", "u2,b,soon", f"u1,a,{NOON}", f"u3,c,{NOON}")
    shop.first = shop.events("monday.csv", "events.batch=mon'day")
    shop.unchanged = shop.events("monday.csv", "events.batch=mon'day")
    shop.deliver("monday.csv", "user,item,time", f"u1,a,{NOON}", f"u2,b,{NOON}")
    shop.events("monday.csv", "events.batch=mon'day")
    shop.deliver("tuesday.csv.gz", "user,item,time", f"u4,d,{NOON}", f",d,{NOON}")
    shop.events("*.csv.gz", "events.batch=tuesday")
    return shop


# --- events ----------------------------------------------------------------------------------------------------------

FIRST = [("mon'day", "u1", "a", NOON, "purchase"), ("mon'day", "u3", "c", NOON, "purchase")]
REFUSED = [
    ("mon'day", f'{{"user":"u1","item":"a","time":"{NOON}"}}', ["event_id is repeated"]),
    ("mon'day", '{"user":"u2","item":"b","time":"soon"}', [BAD_TS]),
]
CORRECTED = [("mon'day", "u1", "a", NOON, "purchase"), ("mon'day", "u2", "b", NOON, "purchase")]
TUESDAY = ("tuesday", "u4", "d", NOON, "purchase")
NO_USER = ("tuesday", f'{{"item":"d","time":"{NOON}"}}', ["user_id is missing"])


def test_every_row_of_a_delivery_is_accepted_or_refused_and_the_run_keeps_the_numbers(shop):
    assert (events_of(shop.store, 0), refused_of(shop.store, 0)) == (FIRST, REFUSED)
    assert shop.first.record.rows_in == {"events": 4}
    assert shop.first.record.rows_out == {"EVENTS": 2, "EVENTS_REJECTED": 2}
    assert shop.first.record.outputs == {"EVENTS": 0, "EVENTS_REJECTED": 0}


def test_an_unchanged_delivery_is_skipped_and_a_corrected_one_replaces_itself(shop):
    assert (shop.first.skipped, shop.unchanged.skipped) == (False, True)
    assert (events_of(shop.store, 1), refused_of(shop.store, 1)) == (CORRECTED, [])


def test_another_delivery_is_added(shop):
    assert (events_of(shop.store, 2), refused_of(shop.store, 2)) == ([*CORRECTED, TUESDAY], [NO_USER])


def test_an_event_that_an_earlier_delivery_brought_is_not_there_twice(shop):
    shop.deliver("wednesday.csv", "user,item,time", f"u4,d,{NOON}", f"u6,f,{NOON}")
    shop.events("wednesday.csv", "events.batch=wednesday", "events.max_rejected_share=0")  # it is not broken
    (refused,) = [row for row in shop.store.read(EVENTS_REJECTED).collect() if row.batch == "wednesday"]
    assert '"u4"' in refused.raw and refused.reasons[0].startswith("event_id is known: batch '")
    events = [(row.event_id, row.user_id) for row in shop.store.read(EVENTS).collect()]
    assert sorted(user for _, user in events) == ["u1", "u2", "u4", "u6"], "event_id is the key of EVENTS"
    assert len({event for event, _ in events}) == 4


def test_too_many_refused_rows_stop_the_run_after_they_are_written(shop):
    shop.deliver("worse.csv", "user,item,time", f"u5,e,{NOON}", ",,soon", "u6,f,soon")
    accepted, refused, runs = shop.store.version(EVENTS), refused_of(shop.store), shop.store.version(RUNS)
    settings = ("events.batch=worse", "events.max_rejected_share=0.6")
    (message,) = told(shop.events, "worse.csv", *settings)
    assert message.startswith(
        "ingest of events: wanted at most 60.0% of 3 rows refused (events.max_rejected_share); found 2 refused: "
        "2 rows: ts cannot be read (the pattern is yyyy-MM-dd HH:mm:ss): '…', for example {"
    )
    assert '; 1 rows: user_id is missing, for example {"time":"soon"}' in message
    assert message.endswith(". They are in EVENTS_REJECTED with their reasons; mend the source or the mapping.")
    worse = [
        ("worse", '{"time":"soon"}', ["user_id is missing", "item_id is missing", BAD_TS]),
        ("worse", '{"user":"u6","item":"f","time":"soon"}', [BAD_TS]),
    ]
    assert refused_of(shop.store) == sorted([*refused, *worse])
    assert (shop.store.version(EVENTS), shop.store.version(RUNS)) == (accepted, runs), "no events, no finished run"


def test_a_header_that_differs_between_files_names_the_file_and_nothing_is_written(spark, tmp_path):
    shop = Shop(spark, tmp_path)
    shop.deliver("in/a.csv", "user,item,time", f"u1,a,{NOON}", f"u2,b,{NOON}")
    shop.deliver("in/b.csv", "item,user,time", f"c,u3,{NOON}")
    (message,) = told(shop.events, "in")
    assert "CSV header does not conform to the schema" in message and "/in/b.csv" in message
    assert "run the job again" in message and "\n" not in message
    assert (shop.store.version(EVENTS), shop.store.version(EVENTS_REJECTED)) == (None, None)


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (
            ["events.columns={usr: user_id, item: item_id, tmie: ts}"],
            ["configuration, events.columns: wanted source column 'usr'; found columns user, item, time. "
             "Did you mean 'user'?",
             "configuration, events.columns: wanted source column 'tmie'; found columns user, item, time. "
             "Did you mean 'time'?"],
        ),
        (
            ["events.timestamp.format=YYYY-MM-dd"],
            ["configuration, events.timestamp.format: wanted a datetime pattern of Spark, epoch_seconds or "
             "epoch_millis; found YYYY-MM-dd. Years are y, not Y (the year of a week). Write for example"],
        ),
        (
            ["events.source.path=/no/such/place.csv"],
            ["configuration, events.source.path: wanted a csv file, folder or glob that can be read; found "
             "/no/such/place.csv. Spark says: [PATH_NOT_FOUND]"],
        ),
        (
            ["events.source.options={sep: ;}"],
            ["configuration, events.columns: wanted source column 'user'; found columns user,item,time.",
             "configuration, events.columns: wanted source column 'item'; found columns user,item,time.",
             "configuration, events.columns: wanted source column 'time'; found columns user,item,time."],
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_source_is_told_at_once_and_nothing_is_written(spark, tmp_path, settings, messages):
    shop = Shop(spark, tmp_path)
    shop.deliver("events.csv", "user,item,time", f"u1,a,{NOON}")
    found = told(shop.events, "events.csv", *settings)
    assert len(found) == len(messages)
    assert all(each.startswith(message) for each, message in zip(found, messages, strict=True)), found
    assert not (tmp_path / "warehouse").exists()


# --- items -----------------------------------------------------------------------------------------------------------


def test_a_catalogue_replaces_the_one_before_and_numbers_once_given_stay(spark, tmp_path):
    shop = Shop(spark, tmp_path)
    before = spark.createDataFrame([("b", "Bread", *[None] * 7), ("d", "Dates", *[None] * 7)], ITEMS.schema)
    shop.store.replace(ITEMS, before, {})
    shop.store.append(ITEM_INDEX, spark.createDataFrame([("b", 0), ("d", 1)], ITEM_INDEX.schema))
    shop.deliver("items.csv", "item,name", "a,Apples", "d,Fresh dates", ",nameless", "c,Cheese", "a,Other apples")
    record = shop.items("items.csv").record

    assert sorted((row.item_id, row.title) for row in shop.store.read(ITEMS).collect()) == [
        ("a", "Apples"), ("c", "Cheese"), ("d", "Fresh dates"),
    ]  # fmt: skip
    assert sorted((row.item_idx, row.item_id) for row in shop.store.read(ITEM_INDEX).collect()) == [
        (0, "b"), (1, "d"), (2, "a"), (3, "c"),
    ]  # fmt: skip
    assert sorted((row.raw, row.reasons) for row in shop.store.read(ITEMS_REJECTED).collect()) == [
        ('{"item":"a","name":"Other apples"}', ["item_id is repeated"]),
        ('{"name":"nameless"}', ["item_id is missing"]),
    ]
    assert record.rows_in == {"items": 5}
    assert record.rows_out == {"ITEMS": 3, "ITEMS_REJECTED": 2, "ITEM_INDEX": 2}
