"""A real MLflow server whose URI has a password: nothing prints it, and a server that goes away is not waited for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from recsys_spark.errors import RecsysError
from recsys_spark.tracking import TrackingPlace, fetch_files, require_reachable, running_runs, tracked_run

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(300)]


@pytest.fixture
def server(tmp_path):
    """The process and its place."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", tmp_path / "artifacts"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        yield process, TrackingPlace(f"http://me:s3cr3t@127.0.0.1:{wait_for(port)}", None, "shop", "tower")
    finally:
        process.terminate()
        process.wait()


def wait_for(port):
    for _ in range(400):
        time.sleep(0.25)
        try:
            if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                return port
        except requests.ConnectionError:
            pass
    raise AssertionError("the server did not start")


def test_a_password_is_never_printed_and_a_server_that_goes_away_is_told_within_a_minute(server, tmp_path, capfd):
    process, place = server
    require_reachable(place)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"some")
    with tracked_run(place, warehouse="w", warehouse_id="w", run_id="main", stage="train") as run:
        run.log_metrics({"loss": 1.0})
        model = run.register(tmp_path / "model", tags={})
    assert (fetch_files(place, model.name, model.version, tmp_path / "fetched") / "weights").read_bytes() == b"some"
    assert list(running_runs(place)) == []
    printed = capfd.readouterr()
    assert "s3cr3t" not in printed.out + printed.err

    started = time.monotonic()
    with (
        pytest.raises(RecsysError) as raised,
        tracked_run(place, warehouse="w", warehouse_id="w", run_id="main", stage="train") as run,
    ):
        process.terminate()
        process.wait()
        run.log_metrics({"loss": 1.0})
        run.send()
    assert time.monotonic() - started < 60
    assert str(raised.value).startswith("MLflow at http://me:***@127.0.0.1")
    assert "s3cr3t" not in str(raised.value)
