"""Where MLflow is, whether it answers, and what it says when it fails.

Whatever goes wrong there leaves as the typed error, with the place's password masked, and within a minute or two:
MLflow by itself asks a server that does not answer for four minutes, and puts the whole URI into its words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy
from mlflow.store.db import utils as mlflow_databases
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from requests.exceptions import InvalidURL

from recsys_spark.config import Config, TrackingConfig
from recsys_spark.config.secrets import hide
from recsys_spark.errors import RecsysError, problem

# MLflow reports its use to its makers and draws progress bars; a batch job wants neither.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # at a run's end it prints the URI with its password
# A server that restarts is waited for (three more tries in 12 s); one that swallows everything costs 92 s, not 19
# minutes. A variable of one's own stands.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("PGCONNECT_TIMEOUT", "20")
mlflow_databases.MAX_RETRY_COUNT = 5  # in 3 s; MLflow asks a database ten times in 102 s, and has no variable for it

_ASK_SECONDS: Final = 8
"""How long `require_reachable` waits for an answer; a local server gives one in 10 ms, a far one in less than a second.
"""
_CONNECT_TIMEOUT: Final = {"postgresql": "connect_timeout", "mysql": "connect_timeout", "mssql": "timeout"}
"""Names of that limit in the drivers of the databases that are servers."""
_LONGEST_CAUSE: Final = 300
"""Characters of somebody else's message that an error quotes."""


@dataclass(frozen=True)
class TrackingPlace:
    """Where runs are tracked: plain values that travel to the ranks."""

    uri: str
    artifacts: str | None
    experiment: str
    model_name: str


def tracking_place(settings: TrackingConfig) -> TrackingPlace:
    """The place that the configuration's section `tracking` names."""
    return TrackingPlace(settings.uri, settings.artifacts, settings.experiment, settings.model_name)


def require_tracking(config: Config) -> None:
    """Raise the typed error when the configuration's MLflow does not answer: for stages to ask before they start."""
    require_reachable(tracking_place(config.tracking))


def require_reachable(place: TrackingPlace) -> None:
    """Ask for the list of experiments (of a database, for its tables) once; raise the typed error without an answer."""
    with explained(place, f"an answer within {_ASK_SECONDS} s"):
        if (database := _database_of(place.uri)) is None:
            with _in_environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT=str(_ASK_SECONDS)):
                open_client(place).search_experiments(max_results=1)
            return
        limit = _CONNECT_TIMEOUT.get(database)
        _make_room(place)
        engine = sqlalchemy.create_engine(place.uri, connect_args={limit: _ASK_SECONDS} if limit else {})
        try:
            sqlalchemy.inspect(engine).get_table_names()
        finally:
            engine.dispose()


def open_client(place: TrackingPlace) -> MlflowClient:
    """MLflow's client of the place; the typed error when there can be none."""
    with explained(place, "an answer"):
        _make_room(place)
        return MlflowClient(tracking_uri=place.uri)


def _make_room(place: TrackingPlace) -> None:
    """The folder of a SQLite file."""
    if place.uri.startswith("sqlite:///"):
        Path(place.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)


def _database_of(uri: str) -> str | None:
    """`postgresql` of postgresql+psycopg://…; None for what is no database."""
    engine = uri.partition("://")[0].partition("+")[0]
    return engine if engine in DATABASE_ENGINES else None


@contextmanager
def explained(
    place: TrackingPlace, wanted: str, *, do: str = "Start or mend it, or name another place in tracking.uri."
) -> Iterator[None]:
    """Turn whatever MLflow and the libraries below it raise into the typed error."""
    try:
        yield
    except RecsysError:
        raise
    except Exception as error:
        # Nothing of what it was raised from: those texts hold the URI as it is.
        raise problem(f"MLflow at {hide(place.uri)}", wanted=wanted, found=_cause(error), do=do) from None


def _cause(error: Exception) -> str:
    """The innermost cause that the system or the network gave, else the error itself, in one line without secrets."""
    found: BaseException = error
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, InvalidURL):
            return "a URI that cannot be read: write / ? # and @ of a password as %2F %3F %23 and %40"
        if isinstance(inner, OSError):
            found = inner
        inner = inner.__cause__ or inner.__context__
    text = " ".join(hide(str(found)).split("\n", maxsplit=1)[0].split())
    return f"{type(found).__name__}: {text[:_LONGEST_CAUSE]}"


@contextmanager
def _in_environment(**values: str) -> Iterator[None]:
    """These variables have these values while the block runs: MLflow reads its limits from there at every request."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
