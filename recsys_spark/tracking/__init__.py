"""MLflow behind a small interface.

`place` says where it is and asks whether it answers, `runs` what a run logs and the model it registers, `driver` whose
a training's run is and how it ends.
"""

from recsys_spark.tracking.driver import tracked_run
from recsys_spark.tracking.place import TrackingPlace, require_reachable, require_tracking, tracking_place
from recsys_spark.tracking.runs import (
    RegisteredModel,
    Run,
    fetch_files,
    log_figures,
    open_run,
    point_alias,
    read_curve,
    read_version_tag,
    running_runs,
    tag_version,
)

__all__ = [
    "RegisteredModel",
    "Run",
    "TrackingPlace",
    "fetch_files",
    "log_figures",
    "open_run",
    "point_alias",
    "read_curve",
    "read_version_tag",
    "require_reachable",
    "require_tracking",
    "running_runs",
    "tag_version",
    "tracked_run",
    "tracking_place",
]
