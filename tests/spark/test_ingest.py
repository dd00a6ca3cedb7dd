"""Every source row becomes a row of the contract or is refused with every reason; which, no layout changes."""

import gzip
import hashlib
import json

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from recsys_spark.config import SourceConfig
from recsys_spark.tables.source import count_rows, read_source
from recsys_spark.transforms.ingest import accepted, forget_accepted_raw, name_kept_out, parse_events, rejected
from recsys_spark.transforms.values import Notation

pytestmark = pytest.mark.spark

COLUMNS = {"user": "user_id", "item": "item_id", "time": "ts", "paid": "value", "kind": "event_type"}
DAY_AND_TIME = "yyyy-MM-dd HH:mm:ss"
NOON = "2020-03-01 12:00:00"
BROKEN = "the row is malformed: too few or too many fields, or no JSON"
NO_USER, NO_ITEM, NO_TYPE, NO_TS = (f"{name} is missing" for name in ("user_id", "item_id", "event_type", "ts"))
REPEATED = "event_id is repeated"


def no_ts(text):
    return f"ts cannot be read (the pattern is {DAY_AND_TIME}): '{text}'"


def no_value(text):
    return f"value cannot be read (it is no number): '{text}'"


def parse(spark, path, *, kind="csv", columns=COLUMNS, event_type=None, options=None, repeats="refuse", where=None):
    """A source's rows as events, and how many rows it has when they are not parsed."""
    source = SourceConfig(format=kind, path=str(path), options=options or {})
    raw = name_kept_out(read_source(spark, source, "events"), where or {})
    notation = Notation.of(pattern=DAY_AND_TIME, zone="UTC")
    parsed = parse_events(raw, columns=columns, event_type=event_type, notation=notation, repeats=repeats)
    return parsed, count_rows(spark, source, "events")


def in_order(parsed, *names):
    rows = sorted(parsed.collect(), key=lambda row: (row.source, row.offset))
    return [tuple(row[name] for name in names) for row in rows]


# --- nothing lost, every reason told ---------------------------------------------------------------------------------


def test_every_reason_of_every_row_is_told(spark, tmp_path):
    lines = {
        f"u,i,{NOON},1.5,view": [],
        f'"u ""1"", x",i,{NOON},,view': [],
        f" \u00a0u2\t,  i2,{NOON} , 2 ,view ": [],
        f",i,{NOON},1,view": [NO_USER],
        f'u,"  ",{NOON},1,view': [NO_ITEM],
        f"u,i,{NOON},1,": [NO_TYPE],
        "u,i,,1,view": [NO_TS],
        "u,i,01.03.2020,1,view": [no_ts("01.03.2020")],
        f"u,i,{NOON},12d,view": [no_value("12d")],
        " ,,soon,free,": [NO_USER, NO_ITEM, NO_TYPE, no_ts("soon"), no_value("free")],
        f"u,i,{NOON},1,view,more": [BROKEN],
        f",i,{NOON},NaN,view,more,": [BROKEN, NO_USER, no_value("NaN")],
        "u,i": [BROKEN, NO_TYPE, NO_TS],
    }
    (tmp_path / "events.csv").write_text("user,item,time,paid,kind\n\n" + "\n \n".join(lines) + "\n\n")
    parsed, num_read = parse(spark, tmp_path / "events.csv")
    assert in_order(parsed, "reasons") == [(reasons,) for reasons in lines.values()]
    assert num_read == len(lines)
    kept = accepted(parsed.transform(forget_accepted_raw))
    assert in_order(kept, "user_id", "item_id", "event_type", "value", "raw") == [
        ("u", "i", "view", 1.5, None), ('u "1", x', "i", "view", None, None), ("u2", "i2", "view", 2.0, None),
    ]  # fmt: skip
    refused = in_order(rejected(parsed), "raw", "reasons")
    assert [reasons for _, reasons in refused] == [reasons for reasons in lines.values() if reasons]
    assert refused[0][0] == json.dumps({"item": "i", "time": NOON, "paid": "1", "kind": "view"}, separators=(",", ":"))
    assert [raw for raw, reasons in refused if BROKEN in reasons] == list(lines)[-3:], "the line itself"


def test_the_places_of_refused_rows_tell_them_apart_and_when_is_now(spark, tmp_path):
    (tmp_path / "events.csv").write_text(f"user,item,time,paid,kind\nu,i,{NOON},1,view\n,i,{NOON},1,view\n" + ",\n" * 2)
    parsed, _ = parse(spark, tmp_path / "events.csv")
    refused = (
        rejected(parsed).withColumn("age", F.expr("current_timestamp() - rejected_at < interval 1 hour")).collect()
    )
    assert rejected(parsed).columns == ["source", "offset", "raw", "reasons", "rejected_at"]
    assert [row.age for row in refused] == [True] * 3
    assert len({(row.source, row.offset) for row in refused}) == 3
    assert {row.source.rsplit("/", 1)[1] for row in refused} == {"events.csv"}


TEXTS = {
    "csv": ("events.csv", "{user},{item},{time},{id}\n"),
    "csv.gz": ("events.csv.gz", "{user},{item},{time},{id}\n"),
    "tsv": ("events.tsv", "{user}\t{item}\t{time}\t{id}\n"),
    "jsonl": ("events.jsonl", '{{"user": "{user}", "item": "{item}", "time": "{time}", "id": "{id}"}}\n'),
}


@pytest.mark.parametrize("kind", [*TEXTS, "parquet", "delta"])
def test_each_format_gives_the_same_accepted_and_refused_rows(spark, tmp_path, kind):
    names = ("user", "item", "time", "id")
    rows = [("u1", "a", NOON, "1"), ("u2", "", NOON, "2"), ("u3", "c", NOON, "1"), ("u4", "d", "", "")]
    if kind in TEXTS:
        path, line = tmp_path / TEXTS[kind][0], TEXTS[kind][1]
        header = "" if kind == "jsonl" else line.format(**{name: name for name in names})
        text = header + "".join(line.format(**dict(zip(names, row, strict=True))) for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if kind == "csv.gz" else text.encode())
    else:
        path = tmp_path / "events"
        spark.createDataFrame(rows, list(names)).coalesce(1).write.format(kind).save(str(path))
    columns = {"user": "user_id", "item": "item_id", "time": "ts", "id": "event_id"}
    parsed, num_read = parse(spark, path, kind=kind.removesuffix(".gz"), columns=columns, event_type="purchase")
    assert in_order(parsed, "user_id", "item_id", "event_type", "reasons") == [
        ("u1", "a", "purchase", []), ("u2", None, "purchase", [NO_ITEM]), ("u3", "c", "purchase", [REPEATED]),
        ("u4", "d", "purchase", [NO_TS]),
    ]  # fmt: skip
    assert num_read == 4


def test_json_lines_that_are_broken_or_lack_keys_are_refused_and_long_ids_keep_every_digit(spark, tmp_path):
    lines = {
        f'{{"user": 12345678901234567890, "item": 7, "time": "{NOON}", "kind": "view", "paid": 1.50}}': [],
        f'{{"time": "{NOON}", "paid": "much"}}': [NO_USER, NO_ITEM, NO_TYPE, no_value("much")],
        '{"user": "u", "item": "i", "ti': [BROKEN, NO_USER, NO_ITEM, NO_TYPE, NO_TS],
        "null": [BROKEN, NO_USER, NO_ITEM, NO_TYPE, NO_TS],
    }
    (tmp_path / "events.jsonl").write_text("\n\n".join(lines))
    parsed, num_read = parse(spark, tmp_path / "events.jsonl", kind="jsonl")
    assert in_order(parsed, "reasons") == [(reasons,) for reasons in lines.values()]
    assert in_order(accepted(parsed), "user_id", "item_id", "value") == [("12345678901234567890", "7", 1.5)]
    assert num_read == len(lines)


@pytest.mark.parametrize(
    ("is_multi_line", "wanted"),
    [
        (True, [("u1", "two\nlines", []), ("u2", "one", [])]),
        (False, [("u1", "two", []), ('lines"', None, [BROKEN, NO_ITEM, NO_TS]), ("u2", "one", [])]),
    ],
)
def test_a_newline_within_quotes_needs_multi_line_without_it_the_rest_of_the_row_is_refused(
    spark, tmp_path, is_multi_line, wanted
):
    columns = {"user": "user_id", "item": "item_id", "time": "ts", "note": "context"}
    (tmp_path / "events.csv").write_text(f'user,item,time,note\nu1,i,{NOON},"two\nlines"\nu2,i,{NOON},one\n')
    options = {"multiLine": str(is_multi_line).lower()}
    parsed, num_read = parse(spark, tmp_path / "events.csv", columns=columns, event_type="view", options=options)
    assert in_order(parsed, "user_id", "context", "reasons") == wanted
    assert num_read == len(wanted)


FIELD = st.one_of(
    st.sampled_from(
        ["u", "i", NOON, "1.5", "", " ", '"', '"a', 'b"', '""', '"c,d"', "\\", '\\"', "'", "#", "NaN", "é€😀"]
    ),
    st.text(alphabet='ab,"\\ \t;\u00a0\u00e9', max_size=4),
)


@settings(max_examples=5, deadline=None, phases=[Phase.generate])  # shrinking would take minutes of Spark
@given(st.lists(st.lists(FIELD, min_size=1, max_size=7).map(",".join), min_size=20, max_size=60))
def test_no_line_of_any_text_is_lost(spark, tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("lines") / "events.csv"
    file.write_text("user,item,time,paid,kind\n" + "\n".join([f"u,i,{NOON},1,view", *lines]), encoding="utf-8")
    parsed, num_read = parse(spark, file)
    rows = in_order(parsed, "user_id", "item_id", "event_type", "ts", "reasons", "raw")
    assert len(rows) == num_read == 1 + sum(bool(line.strip(" \t")) for line in lines)
    assert all(all(row[:4]) if not row[4] else row[5] for row in rows), "whole, or refused with what it said"


# --- repeated events -------------------------------------------------------------------------------------------------


def test_the_first_sound_row_of_an_event_id_is_kept_however_files_are_shared_out(spark, tmp_path):
    rows = [(f"u{n:02}", "", NOON, f"e{n % 7}") for n in range(7)]  # without an item: not the first sound ones
    rows += [(f"u{n:02}", "i", NOON, f" e{n % 7}") for n in range(7, 40)]
    columns = {"user": "user_id", "item": "item_id", "time": "ts", "id": "event_id"}
    for name, part in (("b.csv", rows[20:]), ("a.csv", rows[:20])):
        (tmp_path / name).write_text("".join(",".join(row) + "\n" for row in [tuple(columns), *part]))
    for max_bytes in ("128MB", "100b"):
        spark.conf.set("spark.sql.files.maxPartitionBytes", max_bytes)
        try:
            parsed, _ = parse(spark, tmp_path / "*.csv", columns=columns, event_type="view")
            found = {
                user: (event, reasons) for user, event, reasons in in_order(parsed, "user_id", "event_id", "reasons")
            }
        finally:
            spark.conf.unset("spark.sql.files.maxPartitionBytes")
        wanted = [NO_ITEM], [], [REPEATED]
        assert found == {
            row[0]: (f"e{n % 7}", wanted[0 if n < 7 else 1 if n < 14 else 2]) for n, row in enumerate(rows)
        }


def test_the_rows_of_a_delta_table_have_one_order_however_its_files_are_shared_out(spark, tmp_path):
    """A small file and a large one: large enough that its rows are read from the middle of it when it is split."""
    columns = {"user": "user_id", "item": "item_id", "time": "ts", "id": "event_id"}
    small = [("small", "i", NOON, "e")]
    large = [
        ("large", "i", NOON, "e"),
        *[(f"u{n}", "i", NOON, hashlib.sha256(b"%d" % n).hexdigest()) for n in range(99)],
    ]
    for rows in (small, large):
        frame = spark.createDataFrame(rows, list(columns)).coalesce(1)
        frame.write.format("delta").mode("append").save(str(tmp_path / "events"))
    kept = []
    for max_bytes in ("128MB", "1000b"):
        spark.conf.set("spark.sql.files.maxPartitionBytes", max_bytes)
        try:
            parsed, _ = parse(spark, tmp_path / "events", kind="delta", columns=columns, event_type="view")
            kept.append([row.user_id for row in accepted(parsed).where("event_id = 'e'").collect()])
        finally:
            spark.conf.unset("spark.sql.files.maxPartitionBytes")
    assert kept[0] == kept[1] and len(kept[0]) == 1


def test_an_event_without_an_id_is_named_by_the_hash_of_what_was_read_of_it(spark, tmp_path):
    columns = {"user": "user_id", "item": "item_id", "time": "ts", "id": "event_id", "paid": "value"}
    rows = [f"u,i,{NOON},,red,1.50", f"u,i,{NOON},,blue,1.5", f"u,i,{NOON},,red,2", f"u,i,{NOON},7,red,2"]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time,id,colour,paid", *rows]))
    parsed, _ = parse(spark, tmp_path / "events.csv", columns=columns, event_type="view")

    def name(value):
        read = {"ts": 1583064000000000, "value": value, "user_id": "u", "item_id": "i", "event_type": "view"}
        return hashlib.sha256(json.dumps(read, separators=(",", ":")).encode()).hexdigest()[:40]

    assert in_order(parsed, "event_id", "reasons") == [
        (name(1.5), []), (name(1.5), [REPEATED]), (name(2.0), []), ("7", []),
    ]  # fmt: skip
