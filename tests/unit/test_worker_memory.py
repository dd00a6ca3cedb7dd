"""The scorer's memory is worked out beforehand, and the error names a setting that fits."""

import re
from dataclasses import replace

import pytest

from recsys_spark.bridges.worker_memory import Need, require_building_fits
from recsys_spark.errors import RecsysError

NEED = Need(num_items=50_000, dim=128, top_k=100, num_rules=2, num_segments=1, num_caps=0)


def test_the_usual_block_fits_the_usual_worker():
    NEED.require_fit(4096, worker_mib=1024)


@pytest.mark.parametrize("worker_mib", [700, 800, 1000])
def test_the_block_that_the_error_names_fits_and_its_double_does_not(worker_mib):
    with pytest.raises(
        RecsysError, match=r"score\.user_block: .* found 1,000,000 users, which need [\d,]+ MiB"
    ) as raised:
        NEED.require_fit(1_000_000, worker_mib=worker_mib)
    named = int(re.search(r"--set score\.user_block=(\d+)", str(raised.value)).group(1))
    NEED.require_fit(named, worker_mib=worker_mib)
    with pytest.raises(RecsysError):
        NEED.require_fit(2 * named + 1, worker_mib=worker_mib)


@pytest.mark.parametrize(
    "need", [NEED, replace(NEED, num_items=50_000_000)], ids=["small catalogue", "large catalogue"]
)
def test_where_no_block_fits_the_error_names_a_worker_that_does(need):
    with pytest.raises(RecsysError) as raised:
        need.require_fit(4096, worker_mib=300)
    worker_mib = int(re.search(r"--set score\.worker_mib=(\d+)", str(raised.value)).group(1))
    need.require_fit(4096, worker_mib=worker_mib)
    with pytest.raises(RecsysError):
        need.require_fit(4096, worker_mib=worker_mib - 1)


def test_every_size_costs():
    changes = {"num_items": 10**8, "dim": 129, "top_k": 101, "num_rules": 3, "num_segments": 9, "num_caps": 1}
    larger = [replace(NEED, **{name: value}) for name, value in {**changes, "is_checked": True}.items()]
    assert all(need.bytes_for(4096) > NEED.bytes_for(4096) for need in larger)
    two, three = (replace(NEED, num_items=10**8, num_caps=num_caps) for num_caps in (2, 3))
    assert three.bytes_for(1) > two.bytes_for(1)
    assert NEED.bytes_for(4097) > NEED.bytes_for(4096)


@pytest.mark.parametrize("num_caps", [0, 2])
def test_places_that_no_item_can_take_cost_nothing(num_caps):
    small = replace(NEED, num_items=80, num_caps=num_caps)
    assert small.bytes_for(4096) == replace(small, top_k=80).bytes_for(4096) > replace(small, top_k=20).bytes_for(4096)


def test_lists_of_ids_cost_their_longest_id_when_listed_and_when_ordered():
    short, long = (replace(NEED, longest_id=length) for length in (60, 100))
    assert long.bytes_for(4096) - short.bytes_for(4096) == 2 * (100 - 60) * 4096 * NEED.top_k * NEED.num_rules
    short, long = (replace(need, num_items=10**8) for need in (short, long))
    assert long.bytes_for(4096) - short.bytes_for(4096) == 2 * (100 - 60) * 10**8


def test_the_worker_that_the_error_about_making_the_matrix_names_can_make_it():
    require_building_fits(1_000_000, worker_mib=1024)
    with pytest.raises(RecsysError, match=r"worker_mib: wanted at least .* 10,000,000 items; found 1,024") as raised:
        require_building_fits(10_000_000, worker_mib=1024)
    worker_mib = int(re.search(r"--set score\.worker_mib=(\d+)", str(raised.value)).group(1))
    require_building_fits(10_000_000, worker_mib=worker_mib)
    with pytest.raises(RecsysError):
        require_building_fits(10_000_000, worker_mib=worker_mib - 1)
