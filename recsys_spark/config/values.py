"""What single values of the configuration may be, and what is said about those that do not fit."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from recsys_spark.errors import Problem, did_you_mean
from recsys_spark.seen_rules import days_dropped


class Misfit(ValueError):
    """Raised by a validator: its problems are told in full, `where` counted from the value that was looked at."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


def misfit(*, wanted: str, found: str, do: str, where: str = "") -> Misfit:
    return Misfit(Problem(where, wanted, found, do))


def _as_text(value: Any) -> Any:
    """YAML reads 2017-12-04 as a date and 20171204 as a number; where text is wanted they are what they look like."""
    is_other_text = isinstance(value, date | int) and not isinstance(value, bool | datetime)
    text = str(value) if is_other_text else value
    if not isinstance(text, str) or not text:
        do = "Quote it: to YAML it is no text." if value not in (None, "") else "Give one."
        raise misfit(wanted="a text", found=repr(value), do=do)
    return text


def _as_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise misfit(wanted="a number", found=str(value).lower(), do="Write digits.")
    return value


def _as_scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise misfit(wanted="a text, a number, true or false", found=repr(value), do="Give one value.")
    return value


def _as_utc(value: Any) -> Any:
    """YAML gives a date or a time without zone; both mean UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if not isinstance(moment, datetime):
        raise misfit(wanted="a day or a moment", found=repr(value), do="Write for example 2017-12-04.")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _name_of_slice(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        wanted = "letters, digits, '.', '_' and '-', the first of them a letter or a digit"
        raise misfit(wanted=wanted, found=f"'{name}'", do="Write for example 2017-12-04 or night_run.")
    return name


def _known_zone(zone: str) -> str:
    zones = zoneinfo.available_timezones()
    if zone not in zones and not re.fullmatch(r"(UTC|GMT)?[+-]\d{2}:\d{2}", zone):
        city = zone.rpartition("/")[2].strip().lower().replace(" ", "_")
        same_city = sorted(name for name in zones if city and city in name.lower())
        hint = f"Did you mean '{same_city[0]}'?" if same_city else did_you_mean(zone, ("Europe/Berlin", "UTC"))
        raise misfit(wanted="a region as Europe/Berlin, or an offset as +02:00", found=f"'{zone}'", do=hint)
    return zone


def _safe_pattern(pattern: str) -> str:
    """Refuses patterns that Spark would read without complaint, and as another moment than was meant."""
    letters = set("".join(pattern.split("'")[::2]))
    faults = {
        "a year; years are yyyy": not letters & set("yYu"),
        "months (MM) before days; mm are minutes, and there are no hours": "m" in letters and not letters & set("HhkK"),
        "AM or PM (a) beside hh, half a day; the hours of a whole day are HH": letters & set("hK")
        and "a" not in letters,
    }
    wanted = [fault for fault, is_there in faults.items() if is_there]
    if wanted and pattern not in ("epoch_seconds", "epoch_millis"):
        do = "Write for example yyyy-MM-dd HH:mm:ss, or epoch_seconds, epoch_millis."
        raise misfit(wanted=f"a pattern with {', and with '.join(wanted)}", found=f"'{pattern}'", do=do)
    return pattern


def _known_seen_rule(rule: str) -> str:
    try:
        days_dropped(rule)
    except ValueError:
        do = "Write for example drop for 30 days: what was bought longer ago may be listed again."
        raise misfit(wanted="keep, drop, or drop for N days", found=f"'{rule}'", do=do) from None
    return rule


def require_mapping(columns: Mapping[str, str], *, known: Sequence[str], needed: Sequence[str], free: str = "") -> None:
    """Every target is a platform column (or begins with `free`), once; the needed ones are there."""
    targets = list(columns.values())
    problems = [
        Problem("columns", "platform columns on the right", f"{source}: {target}", did_you_mean(target, known))
        for source, target in columns.items()
        if target not in known and not (free and target.startswith(free))
    ]
    problems += [
        Problem("columns", f"a source column for {name}", "none", f"Add a line YOUR_COLUMN: {name}.")
        for name in needed
        if name not in targets
    ]
    problems += [
        Problem("columns", "one source column for each platform column", f"{name} twice", "Leave one of them out.")
        for name in sorted({target for target in targets if targets.count(target) > 1})
    ]
    if problems:
        raise Misfit(*problems)


Text = Annotated[str, BeforeValidator(_as_text)]
SliceName = Annotated[Text, AfterValidator(_name_of_slice)]
Scalar = Annotated[str | int | float | bool, BeforeValidator(_as_scalar)]
Instant = Annotated[datetime, BeforeValidator(_as_utc)]
Zone = Annotated[str, AfterValidator(_known_zone)]
TimestampPattern = Annotated[str, AfterValidator(_safe_pattern)]
Whole = Annotated[int, BeforeValidator(_as_number)]
Count = Annotated[Whole, Field(ge=1)]
Share = Annotated[float, BeforeValidator(_as_number), Field(ge=0, le=1)]
Positive = Annotated[float, BeforeValidator(_as_number), Field(gt=0)]
SeenRule = Annotated[Text, AfterValidator(_known_seen_rule)]
BackEndName = Literal[
    "auto", "float32", "float32_onednn", "bfloat16", "bfloat16_weights", "int8", "cuda_float32", "cuda_float16"
]
"""`auto` and the names in kernels/back_ends.py, which the foundation cannot import; a test compares them."""
