"""What a table promises, and what is said when it is broken; what needs rows is in tests/spark/test_store.py."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py4j.protocol import Py4JNetworkError

from recsys_spark.errors import RecsysError, problem
from recsys_spark.tables.contract import Column, Table
from recsys_spark.tables.failures import cause_of, explain_bad_input

SALES = Table(
    name="SALES",
    meaning="One sale of a shop.",
    columns=(
        Column("shop", "string", "who sold"),
        Column("id", "bigint", "number of the sale"),
        Column("price", "double", "what was paid"),
    ),
    key=("shop", "id"),
    written_by="jobs/sell.py",
    checks={"a price is paid": "price > 0"},
)
RULES = ("null key", "repeated key", *SALES.checks)


def told(faults):
    """The messages about the faults; none for sound rows."""
    try:
        SALES.require_sound(faults)
    except RecsysError as error:
        return [str(each) for each in error.problems]
    return []


def test_columns_stand_in_the_order_of_their_declaration():
    assert SALES.column_names == ["shop", "id", "price"]


def test_a_table_has_no_slices_no_partitions_and_no_checks_unless_they_are_declared():
    plain = Table("T", "Anything.", SALES.columns, key=("id",), written_by="jobs/t.py")
    assert (plain.slice_by, plain.partition_by, plain.checks) == ((), (), {})


def test_every_broken_rule_is_told_with_its_number_of_rows():
    assert told({"rows": 12345, "null key": 1, "repeated key": 1200, "a price is paid": 12345}) == [
        "table SALES: wanted no null key (shop, id); found 1 of 12,345 rows with one. "
        "Nothing was written. Look at what jobs/sell.py reads and makes.",
        "table SALES: wanted no repeated key (shop, id); found 1,200 of 12,345 rows with one. "
        "Nothing was written. Look at what jobs/sell.py reads and makes.",
        "table SALES: wanted every row to pass 'a price is paid'; found 12,345 of 12,345 rows that do not. "
        "Nothing was written. Look at what jobs/sell.py reads and makes.",
    ]


@given(st.tuples(*[st.integers(0, 3)] * len(RULES)))
def test_rows_are_sound_exactly_when_no_rule_is_broken(counts):
    faults = dict(zip(RULES, counts, strict=True))
    broken = [rule for rule, count in faults.items() if count]
    messages = told({"rows": 9, **faults})
    assert len(messages) == len(broken)
    assert all(rule in message for rule, message in zip(broken, messages, strict=True))


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("no such file", "no such file"),
        ("over\n  two lines", "over two lines"),
        ("it broke\n\tat org.apache.Spark.run(Spark.scala:1)\n\tat java.lang.Thread.run(Thread.java:2)", "it broke"),
        ("task 0 failed\n\nDriver stacktrace:\n  more", "task 0 failed"),
    ],
)
def test_a_cause_is_one_line_without_the_stack_trace(message, cause):
    assert cause_of(ValueError(message)) == cause


@pytest.mark.parametrize(
    "error", [ValueError("a fault of ours"), problem("here", wanted="a", found="b", do="Mend it.")]
)
def test_a_failure_that_is_not_about_a_file_stays_what_it_is(error):
    with pytest.raises(type(error)) as raised, explain_bad_input("table SALES"):
        raise error
    assert raised.value is error


def test_a_full_disk_on_the_driver_is_told_and_another_fault_of_the_system_stays_what_it_is():
    with pytest.raises(RecsysError) as raised, explain_bad_input("report"):
        raise OSError(errno.ENOSPC, "No space left on device", "/warehouse/report.html")
    assert str(raised.value).startswith(
        "report: wanted room on every disk that is written; found [Errno 28] No space left on device: "
    )
    with pytest.raises(FileNotFoundError), explain_bad_input("report"):
        raise FileNotFoundError(errno.ENOENT, "No such file", "/x")


def test_a_jvm_that_gives_no_answer_is_told_and_another_connection_is_not_blamed_on_it():
    with pytest.raises(RecsysError, match=r"wanted Spark's driver.*; found no answer"), explain_bad_input("stage rank"):
        raise Py4JNetworkError("Answer from Java side is empty")
    with pytest.raises(ConnectionRefusedError), explain_bad_input("stage rank"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
