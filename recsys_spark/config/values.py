"""What single values of the configuration may be, and what is said about those that do not fit.

Every text is kept as it was typed: what looks like a number or a date to YAML is none before a type says so.
"""

from __future__ import annotations

import re
import unicodedata
import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from recsys_spark.config.misfit import Misfit, misfit
from recsys_spark.config.secrets import conceal_setting, hide, insert, mask
from recsys_spark.errors import Problem, did_you_mean
from recsys_spark.seen_rules import days_dropped

INT32_MAX: Final = 2**31 - 1
"""Spark's integers have 32 bits."""
MAX_DAYS: Final = 36_500
"""A hundred years: no window of days leads out of the calendar."""
_BREAKS: Final = "\t\n\r"
_LINE_SEPARATORS: Final = ("Cc", "Zl", "Zp")


# --- texts -----------------------------------------------------------------------------------------------------------


def kind_of(value: Any) -> str:
    """What a value is, without showing it."""
    kinds = {type(None): "nothing", str: "a text", list: "a list", dict: "keys and values", bool: "true or false"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        do = "Give one; quote it where it is YAML's word for nothing." if value is None else "Give one value; quote it."
        raise misfit(wanted="a text", found=kind_of(value), do=do)
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        do = "Write it in UTF-8; a terminal's locale may be to blame (LC_ALL=C.UTF-8)."
        raise misfit(wanted="a text", found=f"bytes that are none: {hide(value)!a}", do=do)
    return value


def _with_letters(text: str) -> str:
    if not text.strip():
        raise misfit(wanted="a text", found="an empty one", do="Give one.")
    return text


def _without_control_characters(text: str) -> str:
    if any(unicodedata.category(letter) == "Cc" and letter not in _BREAKS for letter in text):
        raise misfit(wanted="a text without control characters", found=ascii(hide(text)), do="Take them out.")
    return text


def _on_one_line(text: str) -> str:
    if text != text.strip() or any(unicodedata.category(letter) in _LINE_SEPARATORS for letter in text):
        wanted = "a name without control characters, on one line, without blanks around it"
        raise misfit(wanted=wanted, found=ascii(hide(text)), do="Take them out.")
    return text


def _name_of_slice(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        wanted = "letters, digits, '.', '_' and '-', the first of them a letter or a digit"
        raise misfit(wanted=wanted, found=f"'{name}'", do="Write for example 2017-12-04 or night_run.")
    return name


def _name_of_model(name: str) -> str:
    """MLflow refuses / and :, and a quote ends the name in what it searches for."""
    if any(unicodedata.category(letter)[0] not in "LMN" and letter not in "._- " for letter in name):
        wanted = "letters, digits, '.', '_', '-' and blanks between them"
        raise misfit(wanted=wanted, found=f"'{name}'", do="Write for example two_tower.")
    return name


def _known_zone(zone: str) -> str:
    zones = zoneinfo.available_timezones()
    if zone not in zones and not re.fullmatch(r"(UTC|GMT)?[+-](0\d|1[0-7]):[0-5]\d|[+-]18:00", zone):
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
        days = days_dropped(rule)
    except ValueError:
        do = "Write for example drop for 30 days: what was bought longer ago may be listed again."
        raise misfit(wanted="keep, drop, or drop for N days", found=f"'{rule}'", do=do) from None
    if MAX_DAYS < days < float("inf"):
        raise misfit(wanted=f"at most {MAX_DAYS} days", found=f"'{rule}'", do="Write drop: for good.")
    return rule


# --- places and settings, which may hold secrets ---------------------------------------------------------------------


def _with_secrets(value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> str:
    """The text with its references replaced. What is checked, and told when it does not fit, is the text as typed."""
    typed = _as_text(value)
    check(typed)
    return insert(typed)


def _place(value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> str:
    """As above, and first {warehouse} and {landing} are the settings of that name."""
    text = _as_text(value)
    for name, place in (info.context or {}).items():
        text = text.replace(f"{{{name}}}", place)
    return _with_secrets(text, check, info)


def _conceal(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: conceal_setting(name, text) for name, text in settings.items()}


# --- moments, lists and maps -----------------------------------------------------------------------------------------


def _as_utc(value: Any) -> Any:
    """A date or a time without zone; both mean UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        found = repr(value) if isinstance(value, str) else kind_of(value)
        raise misfit(wanted="a day or a moment", found=found, do="Write for example 2017-12-04.")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _each_once(values: list[Any]) -> list[Any]:
    repeated = [value for place, value in enumerate(values) if value in values[:place]]
    if repeated:
        raise misfit(wanted="each value once", found=f"{repeated[0]} twice", do="Leave one of them out.")
    return values


def _null_takes_back(named: Any) -> Any:
    """All of them, or one that an earlier file gives. Names are put in order: that in which they are written changes
    nothing."""
    if not isinstance(named, dict):
        return {} if named is None else named
    return {name: named[name] for name in sorted(named) if named[name] is not None}


def require_mapping(columns: Mapping[str, str], *, known: Sequence[str], needed: Sequence[str], free: str = "") -> None:
    """Every target is a platform column (or begins with `free`), once; the needed ones are there."""
    targets = list(columns.values())
    problems = [
        Problem("columns", "platform columns on the right", f"{source}: {target}", did_you_mean(target, known))
        for source, target in columns.items()
        if target not in known and not (free and target.startswith(free))
    ]
    problems += [
        Problem("columns", f"a name behind '{free}', without {{ and }}", f"{source}: {target}", "Give it another one.")
        for source, target in columns.items()
        if free and target.startswith(free) and not re.fullmatch(r"\s*+[^{}\s][^{}]*", target.removeprefix(free))
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


# --- types -----------------------------------------------------------------------------------------------------------

Each = TypeVar("Each")
_Hidden = PlainSerializer(mask, return_type=str, when_used="json")

AnyText = Annotated[str, BeforeValidator(_as_text), _Hidden]
SourceColumn = Annotated[AnyText, Field(min_length=1, max_length=1000)]
"""Any letters that a format allows, blanks alone too."""
Text = Annotated[
    AnyText, Field(max_length=100_000), AfterValidator(_without_control_characters), AfterValidator(_with_letters)
]
"""As SQL: it may have several lines."""
Line = Annotated[AnyText, Field(max_length=1000), AfterValidator(_with_letters), AfterValidator(_on_one_line)]
Name = Annotated[Line, Field(max_length=200)]
SliceName = Annotated[Name, AfterValidator(_name_of_slice)]
ModelName = Annotated[Name, AfterValidator(_name_of_model)]
Zone = Annotated[Name, AfterValidator(_known_zone)]
TimestampPattern = Annotated[Name, AfterValidator(_safe_pattern)]
SeenRule = Annotated[Name, AfterValidator(_known_seen_rule)]
BackEndName = Literal[
    "auto", "float32", "float32_onednn", "bfloat16", "bfloat16_weights", "int8", "cuda_float32", "cuda_float16"
]
"""`auto` and the names in kernels/back_ends.py, which the foundation cannot import; a test compares them."""

Root = Annotated[Text, WrapValidator(_with_secrets), _Hidden]
"""A folder or URI; `${NAME}` and `${file:/path}` insert secrets."""
Place = Annotated[Text, WrapValidator(_place), _Hidden]
"""As Root, and {warehouse} and {landing} stand for those."""
Setting = Annotated[str, WrapValidator(_with_secrets), _Hidden]
"""What Spark is to interpret: any text, an empty one too; `${NAME}` and `${file:/path}` insert secrets."""
Settings = Annotated[dict[Name, Setting], AfterValidator(_conceal)]

Instant = Annotated[datetime, BeforeValidator(_as_utc)]
Count = Annotated[int, Field(ge=1, le=INT32_MAX)]
Days = Annotated[int, Field(ge=1, le=MAX_DAYS)]
DecayDays = Annotated[float, Field(gt=0, le=MAX_DAYS, allow_inf_nan=False)]
ListSize = Annotated[int, Field(ge=1, le=10_000)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]

Distinct = Annotated[list[Each], Field(max_length=1000), AfterValidator(_each_once)]
SomeDistinct = Annotated[Distinct[Each], Field(min_length=1)]
NullTakesBack = BeforeValidator(_null_takes_back)
Named = Annotated[dict[Name, Each], NullTakesBack]
Conditions = Named[Text]
"""Name -> SQL. A later file adds to an earlier one's."""
