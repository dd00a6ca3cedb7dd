"""What strangers deliver: encodings, repeats, words for nothing, returns; each row has its place and its reason."""

import json

import pytest
from pyspark.sql import functions as F

from jobs import ingest_events, ingest_items
from recsys_spark.errors import RecsysError
from recsys_spark.runner import run_stage
from recsys_spark.tables.catalog import EVENTS, EVENTS_REJECTED, ITEMS, ITEMS_REJECTED
from recsys_spark.tables.store import Store
from tests.small_warehouse import config_of

pytestmark = pytest.mark.spark

NOON = "2020-03-01 12:00:00"
HEAD = "user,item,time"


class Shop:
    """A folder with deliveries and a warehouse, and the two ingests on it."""

    def __init__(self, spark, folder):
        self.spark, self.folder = spark, folder
        self.store = Store(spark, str(folder / "warehouse"))

    def write(self, name, *lines, encoding="utf-8"):
        (self.folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))

    def ingest(self, job, name, *settings, kind="csv"):
        section = job.STAGE.name.removeprefix("ingest_")
        source = (f"{section}.source.format={kind}", f"{section}.source.path={self.folder / name}")
        return run_stage(job.STAGE, self.spark, config_of(self.store.root, *source, *settings)).record

    def events(self, name, *settings, kind="csv"):
        return self.ingest(ingest_events, name, *settings, kind=kind)

    def items(self, name, *settings, kind="csv"):
        return self.ingest(ingest_items, name, *settings, kind=kind)

    def rows(self, table, *names):
        return sorted(map(tuple, self.store.read(table).select(*names).collect()), key=str)


@pytest.fixture
def shop(spark, tmp_path):
    return Shop(spark, tmp_path)


def told(act, *arguments, **named):
    with pytest.raises(RecsysError) as raised:
        act(*arguments, **named)
    return str(raised.value)


# --- letters ---------------------------------------------------------------------------------------------------------

NAMES = ("Müller", "Möller", "Mäller", "Ünal", "Zoë", "José", "Ann", "Bob")


def test_ids_that_could_not_be_decoded_are_refused_and_the_option_is_named(shop):
    shop.write("a.csv", HEAD, *[f"{name},a,{NOON}" for name in NAMES], encoding="iso-8859-1")
    message = told(shop.events, "a.csv")
    assert "6 rows: user_id cannot be decoded (source.options: {encoding: …} names the encoding" in message
    shop.events("a.csv", "events.max_rejected_share=1")
    assert shop.rows(EVENTS, "user_id") == [("Ann",), ("Bob",)]
    shop.events("a.csv", "events.source.options.encoding=iso-8859-1")
    assert [user for (user,) in shop.rows(EVENTS, "user_id")] == sorted(NAMES)


def test_texts_that_could_not_be_decoded_are_accepted_counted_and_told(shop):
    shop.write("a.csv", "item,name", "a,Gr\u00f6\u00dfe", "b,Tea", encoding="iso-8859-1")
    record = shop.items("a.csv")
    assert shop.rows(ITEMS, "item_id") == [("a",), ("b",)]
    assert "1 rows have letters that could not be decoded: items.source.options may name the encoding" in record.notes


def test_attributes_that_could_not_be_decoded_are_told_too(shop):
    shop.write("a.csv", "item,name,size", "a,Gr\u00f6\u00dfe,1", "b,Tea,2", encoding="iso-8859-1")
    record = shop.items("a.csv", "items.columns={item: item_id, name: attributes.name, size: attributes.size}",
                        "item_text.template={attributes.name}")  # fmt: skip
    assert "1 rows have letters that could not be decoded: items.source.options may name the encoding" in record.notes


def test_ids_that_were_rounded_are_refused_and_the_way_out_is_named(shop):
    """Three users whose numbers pandas wrote beside a missing one: they differ in digits that are gone."""
    shop.write("a.csv", HEAD, *[f"1.2345678901234568e+16,a{n},{NOON}" for n in range(3)], f"1e3,a,{NOON}")
    assert '3 rows: user_id is a rounded number (write ids as texts: in pandas astype("Int64")' in told(
        shop.events, "a.csv"
    )
    shop.events("a.csv", "events.max_rejected_share=1")
    assert shop.rows(EVENTS, "user_id") == [("1e3",)]


def test_a_decimal_comma_is_told_with_the_option_that_reads_it(shop):
    shop.write("a.csv", "item;paid", "a;3,50", "b;4", "c;free")
    columns = ("items.columns={item: item_id, paid: price}", "item_text.template={price}", "items.source.options.sep=;")
    message = told(shop.items, "a.csv", *columns)
    assert "1 rows: price cannot be read (it is no number; decimal: \",\" would read it): '…'" in message
    assert "1 rows: price cannot be read (it is no number): '…'" in message
    shop.items("a.csv", *columns, "items.decimal=,", "items.max_rejected_share=1")
    assert shop.rows(ITEMS, "item_id", "price") == [("a", 3.5), ("b", 4.0)]


def test_lines_inside_of_fields_are_counted_and_told(shop):
    shop.write("a.csv", "item,name", '1,"Tea\nof the house\nin tins"', "2,Mug", '3,"Pot\n"')
    record = shop.items("a.csv", "items.source.options.multiLine=true")
    assert "3 lines of the file lie inside of fields (multiLine): if they are rows, a quote is open" in record.notes


# --- the same event --------------------------------------------------------------------------------------------------


def test_an_event_is_what_the_mapping_reads_of_it_whatever_else_a_delivery_has(spark, shop):
    def line(number, *more):
        return ",".join([f"u{number % 7}", f"i{number}", f"2020-03-01 12:{number // 60:02d}:{number % 60:02d}", *more])

    amounts = ("events.columns={user: user_id, item: item_id, time: ts, paid: value}",)
    shop.write("1.csv", f"{HEAD},paid", *[line(number, "1.50") for number in range(200)])
    shop.write("2.csv", "note,paid," + HEAD, *[f"n{number},1.5," + line(number) for number in range(100, 300)])
    (spark.read.option("header", "true").csv(str(shop.folder / "2.csv"))
        .select(F.col("time").cast("timestamp"), F.col("paid").cast("double"), "item", "user")
        .write.parquet(str(shop.folder / "3")))  # fmt: skip
    shop.events("1.csv", "events.batch=1", *amounts)
    second = shop.events("2.csv", "events.batch=2", *amounts)
    third = shop.events("3", "events.batch=3", *amounts, kind="parquet")
    assert shop.store.read(EVENTS).select("item_id").distinct().count() == shop.store.read(EVENTS).count() == 300
    assert "100 events that an earlier delivery brought: refused" in second.notes
    assert "200 events that an earlier delivery brought: refused" in third.notes


def test_repeated_events_are_refused_counted_or_kept_as_the_setting_says(shop):
    rows = [f"u1,a,{NOON}"] * 3 + [f"u2,a,{NOON}"] * 2 + [f"u3,a,{NOON}"]
    shop.write("a.csv", HEAD, *rows)
    message = told(shop.events, "a.csv")
    assert "3 rows: event_id is repeated" in message
    assert "set events.repeats: keep; where they are copies, set events.repeats: count" in message

    counted = shop.events("a.csv", "events.repeats=count", "events.max_rejected_share=0")
    assert [user for (user,) in shop.rows(EVENTS, "user_id")] == ["u1", "u2", "u3"]
    assert shop.store.read(EVENTS_REJECTED).count() == 3
    assert "3 repeated events: refused and counted (events.repeats)" in counted.notes

    shop.events("a.csv", "events.repeats=keep", "events.max_rejected_share=0")
    kept = shop.rows(EVENTS, "event_id", "user_id")
    assert sorted(user for _, user in kept) == ["u1", "u1", "u1", "u2", "u2", "u3"]
    assert len({event for event, _ in kept}) == 6


def test_ids_of_kept_repeats_are_none_of_the_sources_own(shop):
    columns = "events.columns={user: user_id, item: item_id, time: ts, id: event_id}"
    shop.write("a.csv", f"{HEAD},id", *[f"u1,a,{NOON},{own}" for own in ("1001", "1001", "1001#2", "1001#2")])
    shop.events("a.csv", columns, "events.repeats=keep", "events.max_rejected_share=0")
    ids = [own for (own,) in shop.rows(EVENTS, "event_id")]
    assert len(ids) == len(set(ids)) == 4 and {"1001", "1001#2"} < set(ids)


def test_kept_repeats_have_ids_that_a_later_delivery_gives_again(shop):
    keep = ("events.repeats=keep", "events.max_rejected_share=0")
    shop.write("1.csv", HEAD, *[f"u1,a,{NOON}"] * 3, f"u2,b,{NOON}")
    shop.write("2.csv", HEAD, f"u2,b,{NOON}", *[f"u1,a,{NOON}"] * 4)
    shop.events("1.csv", "events.batch=1", *keep)
    record = shop.events("2.csv", "events.batch=2", *keep)
    assert "4 events that an earlier delivery brought: refused" in record.notes
    assert [user for (user,) in shop.rows(EVENTS, "user_id")] == ["u1"] * 4 + ["u2"]


# --- words for nothing, numbers --------------------------------------------------------------------------------------


def test_words_that_mean_missing_are_no_users(shop):
    words = ["NaN", "N/A", "None", r"\N", "null", "-", "nan", "NULL", "<NA>", "#N/A"]
    shop.write("a.csv", HEAD, *[f"{word},a,{NOON}" for word in words], f"NA,a,{NOON}", f"u1,a,{NOON}")
    shop.events("a.csv", "events.max_rejected_share=1")
    assert shop.rows(EVENTS, "user_id") == [("NA",), ("u1",)]
    assert shop.rows(EVENTS_REJECTED, "reasons") == [(["user_id is missing"],)] * len(words)
    shop.events("a.csv", "events.max_rejected_share=1", "events.missing=[u1]")
    assert ("NaN",) in shop.rows(EVENTS, "user_id") and ("u1",) not in shop.rows(EVENTS, "user_id")


def test_words_that_mean_missing_are_no_texts_and_no_prices(shop):
    shop.write("a.csv", "item,name,price", "a,-,N/A", "b,None of it,3.5", "c,Tea,-")
    shop.items("a.csv", "items.columns={item: item_id, name: title, price: price}")
    assert shop.rows(ITEMS, "item_id", "title", "price") == [
        ("a", None, None), ("b", "None of it", 3.5), ("c", "Tea", None),
    ]  # fmt: skip


def test_ids_that_pandas_wrote_as_floats_are_kept_and_told_once(shop):
    shop.write("a.csv", HEAD, f"17850.0,a,{NOON}", f"17851.0,b,{NOON}", f"u1,1.5.0,{NOON}")
    record = shop.events("a.csv")
    assert [user for (user,) in shop.rows(EVENTS, "user_id")] == ["17850.0", "17851.0", "u1"]
    (note,) = [note for note in record.notes if ".0" in note]
    assert note.startswith("2 rows have ids that end in .0") and "astype('Int64')" in note


def test_a_decimal_comma_is_an_option(shop):
    amounts = ("events.columns={user: user_id, item: item_id, time: ts, paid: value}", "events.max_rejected_share=1")
    rows = [f"u1;a;{NOON};3,50", f"u2;a;{NOON};-0,5", f"u3;a;{NOON};1.5", f"u4;a;{NOON};1.234,5"]
    shop.write("a.csv", f"{HEAD},paid".replace(",", ";"), *rows)
    shop.events("a.csv", *amounts, "events.source.options.sep=;", "events.decimal=,")
    assert shop.rows(EVENTS, "user_id", "value") == [("u1", 3.5), ("u2", -0.5)]
    (reason, _) = [reasons[0] for (reasons,) in shop.rows(EVENTS_REJECTED, "reasons")]
    assert reason == "value cannot be read (it is no number with decimal ','): '1.234,5'"


def test_a_field_of_a_struct_is_read_as_a_column_is(shop):
    event = {"user": {"id": "007"}, "item": {"sku": {"no": "00012"}}, "time": NOON}
    shop.write("a.jsonl", json.dumps(event))
    shop.events("a.jsonl", "events.columns={user.id: user_id, item.sku.no: item_id, time: ts}", kind="jsonl")
    assert shop.rows(EVENTS, "user_id", "item_id") == [("007", "00012")]


# --- row filters -----------------------------------------------------------------------------------------------------


def test_row_filters_keep_rows_out_and_every_row_is_in_the_balance(shop):
    head = "InvoiceNo,user,item,time,Quantity,odd `name`"
    rows = [f"1,u1,a,{NOON},2,x", f"C2,u1,b,{NOON},-1,x", f"3,u2,c,{NOON},-4,x", f"4,u3,d,{NOON},,x",
            f"5,,e,{NOON},1,x", f"6,u4,f,{NOON},1,y", "7,u5"]  # fmt: skip
    shop.write("a.csv", head, *rows)
    where = (
        "events.where.returns=try_cast(Quantity AS int) > 0", "events.where.cancelled=InvoiceNo NOT LIKE 'C%'",
        "events.where.odd=`odd ``name``` = 'x'", "events.max_rejected_share=1",
    )  # fmt: skip
    record = shop.events("a.csv", *where)
    assert shop.rows(EVENTS, "user_id", "item_id") == [("u1", "a")]
    assert record.rows_in == {"events": 7}
    assert record.notes[:3] == [
        "1 rows kept out by events.where.cancelled",
        "1 rows kept out by events.where.odd",
        "2 rows kept out by events.where.returns",
    ]
    reasons = [reasons for (reasons,) in shop.rows(EVENTS_REJECTED, "reasons")]
    assert ["user_id is missing"] in reasons and len(reasons) == 2, "a malformed row is refused, whatever filters say"


def test_rows_that_a_filter_keeps_out_repeat_nothing(shop):
    shop.write("a.csv", f"{HEAD},kind", f"u1,a,{NOON},return", f"u1,a,{NOON},sale", f"u1,a,{NOON},return")
    shop.events("a.csv", "events.where.sales=kind = 'sale'", "events.max_rejected_share=0")
    assert shop.rows(EVENTS, "user_id") == [("u1",)]


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("Quantty > 0", "Did you mean 'Quantity'?"),
        ("(SELECT count(*) FROM csv.`/etc/passwd`) > 0", "events.where.own"),
        ("_recsys_number > 3", "_recsys_number"),
        ("Quantity", "events.where.own"),
        ("rand() > 0.5", "rand"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_told_before_a_row_is_read(shop, sql, word):
    shop.write("a.csv", f"{HEAD},Quantity", f"u1,a,{NOON},1")
    assert word in told(shop.events, "a.csv", f"events.where.own={sql}")
    assert not (shop.folder / "warehouse").exists()


def test_items_have_row_filters_too(shop):
    shop.write("a.csv", "item,name", "a,Tea", "b,TEST product")
    record = shop.items("a.csv", "items.where.no_tests=name NOT LIKE 'TEST%'")
    assert shop.rows(ITEMS, "item_id") == [("a",)] and shop.rows(ITEMS_REJECTED, "raw") == []
    assert "1 rows kept out by items.where.no_tests" in record.notes


# --- rows inside of fields -------------------------------------------------------------------------------------------


def test_a_row_whose_field_holds_rows_is_refused_with_their_number(shop):
    lines = [f"{number:05d},Thing {number},{number}.00" for number in range(60)]
    lines[9], lines[39] = '00009,"27 inch Monitor,3.00', '00039,Curtain 90" x 90,5.00'
    shop.write("a.csv", "item,name,price", *lines)
    record = shop.items("a.csv", "items.source.options.multiLine=true", "items.max_rejected_share=0.1")
    ((raw, reasons),) = shop.rows(ITEMS_REJECTED, "raw", "reasons")
    assert reasons == ["a field holds 30 lines that look like rows: a quote may be opened and not closed"]
    assert "00010,Thing 10,10.00" in raw and "00038,Thing 38" in raw, "nothing is lost"
    assert "30 lines inside of refused rows look like rows: a quote may be opened and not closed" in record.notes
    assert shop.store.read(ITEMS).count() == 29


def test_rows_inside_of_a_field_are_not_kept_out_in_silence(shop):
    shop.write("a.csv", "item,name,kind", "7,Tea,a", '8,"5 inch,a', '9,90" wide,b', "10,Cake,b")
    settings = ("items.source.options.multiLine=true", "items.max_rejected_share=1", "items.where.own=kind = 'a'")
    shop.items("a.csv", *settings)
    assert shop.rows(ITEMS, "item_id") == [("7",)]
    ((raw, reasons),) = shop.rows(ITEMS_REJECTED, "raw", "reasons")
    assert "9,90" in raw and reasons == [
        "a field holds 1 lines that look like rows: a quote may be opened and not closed"
    ]
