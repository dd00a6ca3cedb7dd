"""A training whose rank 0 is killed: rank 0 logs to MLflow, and the run is ended all the same."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psutil
import pytest
from mlflow.tracking import MlflowClient

from jobs import train
from recsys_spark.errors import RecsysError
from recsys_spark.runner import run_stage
from recsys_spark.tracking import open_run, running_runs, tracking_place
from tests.training_world import write_warehouse

pytestmark = pytest.mark.distributed


def rank_0():
    """The process of rank 0 among those that this one has started: the innermost with its number."""
    found = None
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.environ().get("HOROVOD_RANK") == "0" and "python" in process.name():
                found = process
    return found


def kill_rank_0_at_work(place, killed):
    """Once it has logged to its run."""
    client = MlflowClient(tracking_uri=place.uri)
    for _ in range(600):
        time.sleep(0.2)
        runs = [run.id for run, _ in running_runs(place)]
        if runs and client.get_run(runs[0]).data.params and (process := rank_0()):
            process.kill()
            killed.append(runs[0])
            return


def test_the_run_of_a_training_whose_rank_0_was_killed_is_failed(spark, tmp_path):
    config = write_warehouse(spark, tmp_path, "train.epochs=500", "train.patience=500")
    place, killed = tracking_place(config.tracking), []
    open_run(place, "makes the store").finish()
    killer = threading.Thread(target=kill_rank_0_at_work, args=(place, killed))
    killer.start()
    with pytest.raises(RecsysError, match=r"rank 0 was killed by signal 9"):
        run_stage(train.STAGE, spark, config)
    killer.join()
    (run_id,) = killed
    run = MlflowClient(tracking_uri=place.uri).get_run(run_id)
    assert run.info.status == "FAILED"
    assert (run.data.tags["stage"], run.data.tags["warehouse"]) == ("train", str(tmp_path))
