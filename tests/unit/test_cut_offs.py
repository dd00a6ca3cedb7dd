"""The global time split: windows side by side, none of which reaches into the next one's future."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.transforms.sequences import CutOff, plan_cut_offs

DAY = timedelta(days=1)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
windows = st.integers(1, 12)
days = st.integers(1, 60)


def plan(test_start, validation_days, train_windows, window_days):
    return plan_cut_offs(
        validation_start=test_start - validation_days * DAY,
        test_start=test_start,
        train_windows=train_windows,
        window_days=window_days,
    )


def test_a_split_worked_out_by_hand():
    assert plan(datetime(2017, 12, 4, tzinfo=UTC), 28, 2, 14) == [
        CutOff("train", datetime(2017, 10, 9, tzinfo=UTC), datetime(2017, 10, 23, tzinfo=UTC)),
        CutOff("train", datetime(2017, 10, 23, tzinfo=UTC), datetime(2017, 11, 6, tzinfo=UTC)),
        CutOff("validation", datetime(2017, 11, 6, tzinfo=UTC), datetime(2017, 12, 4, tzinfo=UTC)),
        CutOff("test", datetime(2017, 12, 4, tzinfo=UTC), datetime(2017, 12, 4, tzinfo=UTC)),
    ]


@given(moments, days, windows, days)
def test_training_windows_never_reach_into_validation_nor_validation_into_test(start, validation_days, number, width):
    *training, validation, test = plan(start, validation_days, number, width)
    assert all(cut.target_end <= validation.as_of for cut in training)
    assert (validation.target_end, test.as_of) == (start, start)


@given(moments, days, windows, days)
def test_training_windows_are_of_one_length_and_follow_each_other_up_to_validation(
    start, validation_days, number, width
):
    *training, validation, _ = plan(start, validation_days, number, width)
    assert [cut.split for cut in training] == ["train"] * number
    assert {cut.target_end - cut.as_of for cut in training} == {width * DAY}
    assert all(earlier.target_end == later.as_of for earlier, later in pairwise([*training, validation]))


@given(moments, days, windows, days, st.data())
def test_a_moment_is_in_the_window_of_one_cut_off_only(start, validation_days, number, width, data):
    cut_offs = plan(start, validation_days, number, width)
    first = cut_offs[0].as_of
    moment = data.draw(st.sampled_from([cut.as_of for cut in cut_offs]) | st.datetimes(*_naive(first, start)).map(_utc))
    holding = [cut for cut in cut_offs if cut.as_of <= moment < cut.target_end]
    assert len(holding) == (moment < start), "and what comes at or after the start of the test is in none"


@given(moments, st.integers(-23, 23))
def test_the_zone_in_which_the_start_is_given_moves_no_cut_off(start, hours):
    elsewhere = start.astimezone(timezone(timedelta(hours=hours)))
    assert plan(elsewhere, 28, 3, 28) == plan(start, 28, 3, 28)


def _naive(*when):
    return [moment.replace(tzinfo=None) for moment in when]


def _utc(moment):
    return moment.replace(tzinfo=UTC)
