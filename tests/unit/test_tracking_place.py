"""An MLflow that does not answer is told within seconds, before any work, and without its password."""

import os
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from jobs import embed_items, embed_users, evaluate, report, train
from recsys_spark.errors import RecsysError
from recsys_spark.runner import main
from recsys_spark.tracking import TrackingPlace, open_run, place, read_curve, require_reachable

CONF = Path(__file__).resolve().parents[2] / "conf" / "base.yaml"
SETTINGS = (
    "events.source={format: csv, path: e.csv}", "events.columns={user: user_id, item: item_id, time: ts}",
    "events.event_type=purchase", "split.test_start=2020-06-01",
    "items.source={format: csv, path: i.csv}", "items.columns={item: item_id, name: title}",
)  # fmt: skip


def place_at(uri):
    return TrackingPlace(uri, None, "shop", "tower")


def words_of(uri, seconds):
    """The message, which comes within so many seconds."""
    started = time.monotonic()
    with pytest.raises(RecsysError) as raised:
        require_reachable(place_at(uri))
    assert time.monotonic() - started < seconds
    assert raised.value.__suppress_context__, "no text of a library follows in a traceback"
    return str(raised.value)


@contextmanager
def listening():
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    with listening() as port:
        pass
    return port


def test_a_server_that_is_not_there_is_told_at_once_and_without_the_password(closed_port):
    words = words_of(f"http://me:s3cr3t@127.0.0.1:{closed_port}/mlflow", seconds=5)
    assert words == (
        f"MLflow at http://me:***@127.0.0.1:{closed_port}/mlflow: wanted an answer within 8 s; found"
        " ConnectionRefusedError: [Errno 111] Connection refused."
        " Start or mend it, or name another place in tracking.uri."
    )


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(place, "_ASK_SECONDS", 1)
    before = dict(os.environ)
    with listening() as port:
        words = words_of(f"http://me:s3cr3t@127.0.0.1:{port}", seconds=5)
    assert "found TimeoutError: timed out." in words and "s3cr3t" not in words
    assert dict(os.environ) == before, "MLflow's limits are as they were"


def test_a_server_that_is_something_else_is_told():
    with listening() as port:
        pass
    page = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope"
    with socket.create_server(("127.0.0.1", port)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(65_536)
            connection.sendall(page)
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        assert "error code 404 != 200" in words_of(f"http://me:s3cr3t@127.0.0.1:{port}", seconds=5)


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("postgresql://me:s3cr3t@127.0.0.1:1/mlflow", "ModuleNotFoundError: No module named 'psycopg"),
        ("http://me:s3c/r3t@127.0.0.1:1", "a URI that cannot be read: write / ? # and @ of a password as %2F"),
        ("gopher://me:s3cr3t@127.0.0.1:1", "unsupported URI"),
    ],
)
def test_what_cannot_work_is_told_without_the_password(uri, found):
    words = words_of(uri, seconds=5)
    assert found in words
    assert not any(part in words for part in ("s3cr3t", "s3c", "r3t"))


def test_a_file_that_is_no_database_is_told_and_one_that_is_not_there_yet_will_do(tmp_path):
    (tmp_path / "text").write_text("no database, " * 100)
    assert "file is not a database" in words_of(f"sqlite:///{tmp_path}/text", seconds=5)
    require_reachable(place_at(f"sqlite:///{tmp_path}/not there yet/mlflow.db"))


@pytest.mark.parametrize("job", [train, embed_items, embed_users, evaluate, report], ids=lambda job: job.STAGE.name)
def test_jobs_that_need_mlflow_ask_for_it_before_a_session_starts(job, closed_port, tmp_path, capsys):
    settings = (*SETTINGS, f"warehouse={tmp_path}/w", f"tracking.uri=http://me:s3cr3t@127.0.0.1:{closed_port}")
    arguments = ["--conf-file", str(CONF), *(part for setting in settings for part in ("--set", setting))]
    assert "tracking" in job.STAGE.sections
    started = time.monotonic()
    assert main(job.STAGE, arguments) == 1
    assert time.monotonic() - started < 5, "which a session alone takes"
    printed = capsys.readouterr()
    assert f"{job.STAGE.name} stopped:\nMLflow at http://me:***@127.0.0.1:{closed_port}" in printed.err
    assert "s3cr3t" not in printed.err + printed.out


def test_a_store_that_goes_away_ends_no_training_but_the_end_of_a_run_tells(tmp_path):
    """The database's folder is moved away, and no connection is left open: no new one can be made."""
    here = place_at(f"sqlite:///{tmp_path}/store/mlflow.db")
    run = open_run(here, "left alone")
    run.log_params({"a": 1})
    (tmp_path / "store").rename(tmp_path / "away")
    MlflowClient(here.uri)._tracking_client.store.engine.dispose()
    for step in range(450):
        run.log_metrics({"loss": float(step)}, step=step)
    with pytest.raises(RecsysError, match=r"wanted to .*; found .*unable to open database file"):
        run.finish()
    (tmp_path / "away").rename(tmp_path / "store")
    run.finish()
    assert read_curve(here, run.id, "loss") == [(step, float(step)) for step in range(450)]
