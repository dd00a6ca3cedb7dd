"""What single values of a source mean: moments, numbers, and the fields of an item."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from recsys_spark.tables.formats import BLOCK, FILE, INNER_LINES, MALFORMED, NUMBER, SWALLOWED
from recsys_spark.transforms.ingest import accepted, name_kept_out, parse_events, parse_items, rejected
from recsys_spark.transforms.values import Notation

pytestmark = pytest.mark.spark

DAY_AND_TIME = "yyyy-MM-dd HH:mm:ss"
NOON = "2020-03-01 12:00:00"
FEW = settings(max_examples=3, deadline=None, phases=[Phase.generate])  # shrinking would take minutes of Spark
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_source(rows):
    """Rows as `read_source` gives them, all of one file."""
    whole = {
        MALFORMED: F.lit(None).cast("string"),
        SWALLOWED: F.lit(0),
        INNER_LINES: F.lit(0),
        FILE: F.lit("file"),
        BLOCK: F.lit(0),
    }
    return name_kept_out(rows.withColumns({**whole, NUMBER: F.monotonically_increasing_id()}), {})


def notation(pattern, zone):
    return Notation.of(pattern=pattern, zone=zone)


def events_at(rows, pattern=DAY_AND_TIME, zone="UTC"):
    """One event per value of the column `time`, in their order: (moment in UTC, reasons)."""
    parsed = parse_events(
        as_source(rows.withColumns({"user": F.expr("uuid()"), "item": F.lit("i")})),
        columns={"user": "user_id", "item": "item_id", "time": "ts"},
        event_type="view",
        notation=notation(pattern, zone),
    )
    found = parsed.select("offset", F.col("ts").cast("string"), "reasons").collect()
    return [(row.ts, row.reasons) for row in sorted(found)]


def texts(spark, values):
    return spark.createDataFrame([(value,) for value in values], "time string")


# --- moments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "zone", "moments"),
    [
        (DAY_AND_TIME, "UTC", {NOON: NOON, f" {NOON}\t": NOON, "2020-02-29 23:59:59": "2020-02-29 23:59:59"}),
        (DAY_AND_TIME, "UTC", dict.fromkeys(["2020-02-30 12:00:00", "2020-3-1 12:00:00", "01.03.2020", f"{NOON}.5"])),
        (DAY_AND_TIME, "UTC", dict.fromkeys(["0001-01-01 00:00:00", "0000-01-01 00:00:00", "9999-12-31 00:00:00"])),
        (DAY_AND_TIME, "Europe/Berlin", {NOON: "2020-03-01 11:00:00", "2020-07-01 00:30:00": "2020-06-30 22:30:00"}),
        ("dd.MM.yyyy HH:mm", "+05:30", {"01.03.2020 12:00": "2020-03-01 06:30:00", NOON: None}),
        ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "Europe/Berlin",
         {"2020-03-01T12:00:00.250Z": f"{NOON}.25", "2020-03-01T12:00:00.000+05:30": "2020-03-01 06:30:00"}),
        ("yyyy-MM-dd HH:mm VV", "Europe/Berlin", {"2020-07-01 12:00 America/New_York": "2020-07-01 16:00:00"}),
        ("yyyy-MM-dd'Z'", "Europe/Berlin", {"2020-07-01Z": "2020-06-30 22:00:00"}),  # text in quotes is no zone
        ("yyyy-MM-dd HH:mm:ss[ XXX]", "Europe/London",  # a zone where there is one
         {"2020-07-01 12:00:00": "2020-07-01 11:00:00", "2020-07-01 12:00:00 +05:30": "2020-07-01 06:30:00",
          "x": None}),
        ("yyyy-MM-dd HH:mm:ss[.SSS][VV]", "Europe/London",
         {"2020-07-01 12:00:00": "2020-07-01 11:00:00", "2020-07-01 12:00:00.250": "2020-07-01 11:00:00.25",
          "2020-07-01 12:00:00Europe/Berlin": "2020-07-01 10:00:00"}),
        ("yyyy-MM-dd HH:mm[ 'GMT'XXX]", "Europe/Berlin",
         {"2020-07-01 12:00": "2020-07-01 10:00:00", "2020-07-01 12:00 GMT+01:00": "2020-07-01 11:00:00"}),
        ("yyyy-MM-dd['Z']", "Europe/Berlin",
         dict.fromkeys(["2020-07-01Z", "2020-07-01"], "2020-06-30 22:00:00")),
        ("M/d/yyyy h:mm a", "UTC", {"3/1/2020 12:00 PM": NOON, "12/31/2020 1:05 AM": "2020-12-31 01:05:00"}),
        ("epoch_seconds", "Europe/Berlin",
         {"1583064000": NOON, "1583064000.5": f"{NOON}.5", "-1": "1969-12-31 23:59:59", "1.583064E9": NOON}),
        ("epoch_seconds", "UTC", dict.fromkeys(["1583064000123", "9" * 20, "1e99", "-1e99", "NaN", NOON, "0x5e"])),
        ("epoch_millis", "Europe/Berlin", {"1583064000000": NOON, "1583064000123": f"{NOON}.123", "noon": None}),
    ],
)  # fmt: skip
def test_a_text_is_the_moment_its_pattern_and_zone_say_or_refused(spark, pattern, zone, moments):
    assert events_at(texts(spark, moments), pattern, zone) == [
        (moment, [] if moment else [f"ts cannot be read (the pattern is {pattern}): '{text.strip()}'"])
        for text, moment in moments.items()
    ]


@FEW
@given(st.lists(st.integers(-60_000_000_000_000, 250_000_000_000_000), min_size=50, max_size=50))
def test_milliseconds_are_exact(spark, millis):
    """A double holds every one of them, but not every one divided by 1000."""
    found = events_at(texts(spark, map(str, millis)), "epoch_millis")
    wanted = [EPOCH + timedelta(milliseconds=each) for each in millis]
    assert [
        datetime.fromisoformat(f"{text[:19]}+00:00").replace(microsecond=_micros(text)) for text, _ in found
    ] == wanted


def _micros(text):
    """Spark writes a fraction of a second without the zeros at its end."""
    return int(text.partition(".")[2].ljust(6, "0"))


def test_a_moment_of_the_source_s_own_type_needs_no_pattern_and_only_one_without_zone_is_local(spark):
    rows = spark.range(1)
    for sql, moment in (
        (f"TIMESTAMP '{NOON}'", NOON),
        (f"TIMESTAMP_NTZ '{NOON}'", "2020-03-01 11:00:00"),
        ("DATE '2020-07-01'", "2020-06-30 22:00:00"),
        ("1583064000", None),
    ):
        ((found, reasons),) = events_at(rows.select(F.expr(sql).alias("time")), zone="Europe/Berlin")
        assert (found, len(reasons)) == (moment, 0 if moment else 1), sql


def test_a_moment_that_no_python_holds_is_refused_also_when_the_source_has_the_type(spark):
    rows = spark.sql("SELECT timestamp_seconds(s) AS time FROM VALUES (1583064000), (1583064000000), (NULL) AS t(s)")
    found = events_at(rows.coalesce(1))
    assert [moment for moment, _ in found] == [NOON, None, None]
    assert [reasons[:1] for _, reasons in found] == [
        [], [f"ts cannot be read (the pattern is {DAY_AND_TIME}): '+52135-04-21 00:00:00'"], ["ts is missing"],
    ]  # fmt: skip


def test_the_place_of_a_row_shows_no_password(spark):
    places = {
        "ftp://me:pw@host/in/a.csv": "ftp://me@host/in/a.csv",
        "abfss://container@account.dfs.core.windows.net/a.csv": "abfss://container@account.dfs.core.windows.net/a.csv",
        "hdfs://nn:8020/user/a@b.csv": "hdfs://nn:8020/user/a@b.csv",
        "file:///in/a:b@c.csv": "file:///in/a:b@c.csv",
    }
    rows = texts(spark, [NOON]).withColumns({"user": F.lit("u"), "item": F.lit("i")})
    for place, shown in places.items():
        parsed = parse_events(
            as_source(rows).withColumn(FILE, F.lit(place)),
            columns={"user": "user_id", "item": "item_id", "time": "ts"}, event_type="view",
            notation=notation(DAY_AND_TIME, "UTC"),
        )  # fmt: skip
        assert parsed.first().source == shown


# --- numbers ---------------------------------------------------------------------------------------------------------


def numbers(spark, values):
    rows = spark.createDataFrame([(str(n), value) for n, value in enumerate(values)], "item string, cost string")
    columns = {"item": "item_id", "cost": "price"}
    parsed = parse_items(
        as_source(rows),
        columns=columns,
        notation=notation(DAY_AND_TIME, "UTC"),
    )
    found = {row.item_id: (row.price, row.reasons) for row in parsed.collect()}
    return [found[str(n)] for n in range(len(values))]


def test_only_finite_numbers_in_digits_are_numbers(spark):
    good = {
        "1": 1.0,
        "-2.50": -2.5,
        "+3": 3.0,
        ".5": 0.5,
        "2.": 2.0,
        "1e3": 1000.0,
        "1E-2": 0.01,
        "\t7 ": 7.0,
        "": None,
    }
    bad = [
        "NaN",
        "Infinity",
        "-inf",
        "12d",
        "1f",
        "0x1p3",
        "1,5",
        "1 000",
        "€5",
        "1e",
        ".",
        "--1",
        "1_000",
        "٣",
        "9" * 400,
    ]
    why = {"1,5": 'it is no number; decimal: "," would read it'}
    assert numbers(spark, [*good, *bad]) == [
        *[(value, []) for value in good.values()],
        *[(None, [f"price cannot be read ({why.get(text, 'it is no number')}): '{text}'"]) for text in bad],
    ]


@FEW
@given(st.lists(st.floats(-1e99, 1e99).filter(lambda x: x == 0 or abs(x) > 1e-99), min_size=50, max_size=50))
def test_a_number_is_read_to_the_last_bit(spark, values):
    assert numbers(spark, [repr(value) for value in values]) == [(value, []) for value in values]


# --- items -----------------------------------------------------------------------------------------------------------


def test_an_item_has_its_fields_its_attributes_and_every_reason_against_it(spark):
    names = ["sku", "name", "cost", "colour", "size.eu", "from", "to", "unmapped"]
    rows = [
        ("a", " Tea ", "2.50", "green", "", "2020-03-01", None, "x"),
        (" a", "Tea again", "3", "red", "M", None, None, "x"),
        ("", None, "free", None, None, "soon", "2020-02-30", "x"),
        ("b", "", None, "\u00a0", None, None, "2020-07-01", None),
    ]
    columns = {"sku": "item_id", "name": "title", "cost": "price", "colour": "attributes.colour",
               "size.eu": "attributes.size", "from": "available_from", "to": "available_to"}  # fmt: skip
    source = as_source(spark.createDataFrame(rows, ", ".join(f"`{name}` string" for name in names)).coalesce(1))
    parsed = parse_items(
        source,
        columns=columns,
        notation=notation("yyyy-MM-dd", "Europe/Berlin"),
    )
    told = ["item_id", "title", "brand", "price", "attributes", "available_from", "available_to"]
    as_text = {name: F.col(name).cast("string") for name in told[-2:]}
    assert sorted(tuple(row) for row in accepted(parsed).withColumns(as_text).select(told).collect()) == [
        ("a", "Tea", None, 2.5, {"colour": "green"}, "2020-02-29 23:00:00", None),
        ("b", None, None, None, {}, None, "2020-06-30 22:00:00"),
    ]
    refused = sorted(rejected(parsed).collect(), key=lambda row: row.offset)
    assert [row.reasons for row in refused] == [
        ["item_id is repeated"],
        [
            "item_id is missing",
            "price cannot be read (it is no number): 'free'",
            "available_from cannot be read (the pattern is yyyy-MM-dd): 'soon'",
            "available_to cannot be read (the pattern is yyyy-MM-dd): '2020-02-30'",
        ],
    ]
    assert '"unmapped":"x"' in refused[0].raw, "the whole row, also what is not mapped"


def test_no_row_passes_through_python(spark):
    rows = as_source(spark.createDataFrame([("u", "i", NOON)], "user string, item string, time string"))
    columns = {"user": "user_id", "item": "item_id", "time": "ts"}
    parsed = parse_events(
        rows,
        columns=columns,
        event_type="view",
        notation=notation(DAY_AND_TIME, "UTC"),
    )
    assert "EvalPython" not in rejected(parsed)._jdf.queryExecution().toString()
