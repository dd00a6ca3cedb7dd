"""What jobs verify: silence where all is well, and an error that shows both sides where it is not."""

from datetime import UTC, datetime

import numpy as np
import pytest

from recsys_spark.checks import (
    count_unknown_items,
    count_users_without_list,
    require_balance,
    require_few_faulty,
    require_splits,
    sum_row_ids,
)
from recsys_spark.config import SplitConfig
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.train_loop import CHECKSUM_MODULUS

pytestmark = pytest.mark.spark

SPLIT = SplitConfig(
    test_start=datetime(2020, 6, 1, tzinfo=UTC), test_days=28, validation_days=28, target_event_types=["purchase"]
)


def test_every_row_read_is_accepted_rejected_or_kept_out(spark):
    require_balance(read=1007, accepted=1000, rejected=4, kept_out=3, section="events")
    for accepted in (999, 1001):
        with pytest.raises(RecsysError, match=r"events: wanted accepted \+ rejected \+ kept out = 1,007 rows read"):
            require_balance(read=1007, accepted=accepted, rejected=4, kept_out=3, section="events")


def rejected(spark):
    rows = [([f"ts cannot be read: '{n}'"], f"row {n}") for n in range(4)]
    rows += [(["user_id is missing", "item_id is missing"], "blank")] * 3 + [(["user_id is missing"], "no user")] * 2
    rows += [(["the row is malformed"], "x,y,z")] * 2
    return spark.createDataFrame(rows, "reasons array<string>, raw string")


def test_as_many_refused_rows_as_are_allowed_stop_nothing(spark):
    require_few_faulty(rejected(spark), count=11, read=110, max_share=0.1, section="items")


def test_too_many_refused_rows_stop_the_run_with_the_commonest_reasons_and_examples(spark):
    with pytest.raises(RecsysError) as raised:
        require_few_faulty(rejected(spark), count=11, read=109, max_share=0.1, section="items")
    text = str(raised.value)
    assert "wanted at most 10.0% of 109 rows refused (items.max_rejected_share); found 11 refused: " in text
    first, second, third = text.partition("refused: ")[2].partition(". They are")[0].split("; ")
    assert first in ("5 rows: user_id is missing, for example blank", "5 rows: user_id is missing, for example no user")
    assert second.startswith("4 rows: ts cannot be read: '…', for example row "), "values do not part a reason"
    assert third == "3 rows: item_id is missing, for example blank"
    assert text.endswith("They are in ITEMS_REJECTED with their reasons; mend the source or the mapping.")


def ids(spark, items):
    return spark.createDataFrame([(item,) for item in items], "item_id string")


def test_events_of_items_in_no_catalogue_are_counted(spark):
    assert count_unknown_items(ids(spark, ["a", "z", "b", "z", "y"]), ids(spark, ["a", "b", "c"])) == 3
    assert count_unknown_items(ids(spark, ["a", "b"]), ids(spark, ["a", "b", "c"])) == 0


def test_ids_that_never_meet_are_an_error_that_shows_both_sides(spark):
    with pytest.raises(RecsysError, match=r"not one known item in 2 events .*\['007', '007'\].* says \['7'\]"):
        count_unknown_items(ids(spark, ["007", "007"]), ids(spark, ["7"]))


def test_no_event_at_all_is_told_apart_from_ids_that_never_meet(spark):
    with pytest.raises(RecsysError, match=r"table EVENTS: wanted events; found none\. Look at what ingest_events says"):
        count_unknown_items(ids(spark, ["a"]).where("item_id = 'none'"), ids(spark, ["a"]))


def test_rows_are_counted_per_split(spark):
    sequences = spark.createDataFrame([(s,) for s in ["train"] * 3 + ["test"] * 2 + ["validation"]], "split string")
    assert require_splits(sequences, sequences, SPLIT) == {"train": 3, "validation": 1, "test": 2}


def test_a_split_without_rows_is_an_error_that_says_what_the_events_cover(spark):
    sequences = spark.createDataFrame([("test",)], "split string")
    moments = [datetime(2020, 5, 20, 9, tzinfo=UTC), datetime(2020, 5, 31, 23, 59, 59, tzinfo=UTC)]
    events = spark.createDataFrame([(moment, "view") for moment in moments], "ts timestamp, event_type string")
    with pytest.raises(RecsysError) as raised:
        require_splits(sequences, events, SPLIT)
    assert str(raised.value) == (
        "configuration, split: wanted users with events before each cut-off and ['purchase'] events in each window; "
        "found no row for train, validation: events run from 2020-05-20 09:00:00 to 2020-05-31 23:59:59, their types "
        "are ['view']; validation starts 2020-05-04, test 2020-06-01. "
        "Set split.test_start, split.validation_days or split.target_event_types to fit the data."
    )


def test_users_who_chose_something_and_have_no_list_are_counted_once(spark):
    truth = spark.createDataFrame(
        [("all", "u", "a"), ("all", "new", "a"), ("new", "new", "a"), ("all", "newer", "b")],
        "slice string, user_id string, item_id string",
    )
    users = spark.createDataFrame([("u",), ("unasked",)], "user_id string")
    assert count_users_without_list(truth, users) == 2


def test_spark_and_numpy_add_up_row_ids_to_the_same_checksum(spark):
    row_ids = [0, 1, -1, CHECKSUM_MODULUS, -CHECKSUM_MODULUS - 5, 2**63 - 1, -(2**63), 123456789012345678]
    rows = spark.createDataFrame([(row_id,) for row_id in row_ids], "row_id bigint")
    by_hand = sum(row_id % CHECKSUM_MODULUS for row_id in row_ids)
    assert sum_row_ids(rows) == by_hand
    assert int((np.array(row_ids, dtype=np.int64) % CHECKSUM_MODULUS).sum()) == by_hand, "the trainer's own formula"
