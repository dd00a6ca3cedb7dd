"""A training's run ends with its driver's block; what a dead driver left open is closed by the next training."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from recsys_spark.tracking import TrackingPlace, open_run, running_runs, tracked_run

ROOT = Path(__file__).resolve().parents[2]

DRIVER = """
import sys
from recsys_spark.tracking import TrackingPlace, tracked_run
uri, warehouse = sys.argv[1:]
place = TrackingPlace(uri, None, "shop", "tower")
with tracked_run(place, warehouse=warehouse, warehouse_id=warehouse, run_id="main", stage="train") as run:
    print(run.id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> TrackingPlace:
    made = TrackingPlace(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", None, "shop", "tower")
    open_run(made, "first of all").finish()
    return made


@pytest.fixture
def status_of(place):
    client = MlflowClient(tracking_uri=place.uri)
    yield lambda run_id: client.get_run(run_id).info.status
    for run, _ in running_runs(place):
        run.finish()


def train(place, warehouse="elsewhere", run_id="main"):
    """A training that goes well; returns its run's id."""
    with tracked_run(place, warehouse="/shop/warehouse", warehouse_id=warehouse, run_id=run_id, stage="train") as run:
        return run.id


def left_open(place, **tags):
    """A run that somebody has opened: this driver's tags, but for those named."""
    with tracked_run(place, warehouse="/shop/warehouse", warehouse_id="shop", run_id="main", stage="train") as run:
        own = dict(next(found for other, found in running_runs(place) if other.id == run.id))
    return open_run(place, "main", tags={**own, **{f"driver.{name}": value for name, value in tags.items()}}).id


@contextmanager
def another_driver(place, warehouse):
    """A process that trains until it is told to end; the block gets it and its run's id."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, place.uri, warehouse]
    with subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        try:
            yield driver, driver.stdout.readline().strip()
        finally:
            driver.kill()


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_ends_as_its_block_does(place, status_of, error, status):
    assert status_of(train(place)) == "FINISHED"
    with pytest.raises(error), tracked_run(place, warehouse="w", warehouse_id="w", run_id="r", stage="train") as run:
        assert status_of(run.id) == "RUNNING"
        raise error
    assert status_of(run.id) == status


def test_a_run_says_whose_it_is_without_the_warehouses_password(place, status_of):
    with tracked_run(
        place, warehouse="s3a://me:s3cr3t@bucket/w", warehouse_id="w", run_id="night", stage="train"
    ) as run:
        tags = MlflowClient(tracking_uri=place.uri).get_run(run.id).data.tags
    assert (tags["stage"], tags["warehouse"], tags["run.id"]) == ("train", "s3a://me:***@bucket/w", "night")
    assert (tags["driver.pid"], tags["driver.host"]) == (str(os.getpid()), os.uname().nodename)


def test_the_run_of_a_driver_that_was_killed_is_closed_by_the_next_training_on_its_host(place, status_of, tmp_path):
    with another_driver(place, str(tmp_path / "one")) as (driver, run_id):
        train(place, warehouse=str(tmp_path / "two"))
        assert status_of(run_id) == "RUNNING", "its driver is at work"
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert status_of(run_id) == "RUNNING"
        train(place, warehouse=str(tmp_path / "two"))
        assert status_of(run_id) == "KILLED"


def test_a_driver_at_work_is_left_alone_even_by_a_training_of_its_slice(place, status_of, tmp_path):
    with another_driver(place, str(tmp_path)) as (driver, run_id):
        train(place, warehouse=str(tmp_path))
        assert status_of(run_id) == "RUNNING"
        driver.stdin.close()
        driver.wait()
        assert status_of(run_id) == "FINISHED"


def test_a_process_of_the_same_number_that_started_later_is_another_one(place, status_of):
    run_id = left_open(place, started="1000.00")
    train(place)
    assert status_of(run_id) == "KILLED"


@pytest.mark.parametrize("other", [{"host": "far away"}, {"processes": "of another container"}])
def test_of_processes_that_cannot_be_seen_the_runs_of_the_same_slice_are_closed_and_no_others(place, status_of, other):
    """Two containers may have one host name, one path of the warehouse and one run.id: it is another warehouse."""
    run_id = left_open(place, **other, pid="1")
    for slice_of in (("shop", "other"), ("another", "main")):
        train(place, *slice_of)
        assert status_of(run_id) == "RUNNING"
    train(place, "shop", "main")
    assert status_of(run_id) == "KILLED"


def test_runs_that_do_not_say_whose_they_are_stay(place, status_of):
    run_id = open_run(place, "by hand", tags={"stage": "train"}).id
    train(place)
    assert status_of(run_id) == "RUNNING"
