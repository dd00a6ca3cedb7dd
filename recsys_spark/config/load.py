"""Reads the configuration: files over each other, single settings over the files, every problem at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from recsys_spark.config.layers import overlay, parse_text, parse_yaml, put, read_yaml
from recsys_spark.config.misfit import Misfit
from recsys_spark.config.secrets import hide
from recsys_spark.config.sections import Config
from recsys_spark.config.values import kind_of
from recsys_spark.errors import Problem, RecsysError, did_you_mean, problem

REQUIRED = "required"
"""What conf/base.yaml says where a data set or a cluster has to give the value."""


def load_config(files: Sequence[str], settings: Sequence[str] = ()) -> Config:
    """Lay `files` over each other, then `settings` (`a.b=value`); raise every problem at once.

    A text stays as it is typed, in files and in settings; numbers and dates are read by the settings that want them.
    """
    tree: dict[str, Any] = {}
    for layer in map(read_yaml, files):
        tree = overlay(tree, layer)
    for setting in settings:
        tree = put(tree, *_parse_setting(setting))
    required = [f"{path}." for path in _required_paths(tree)]
    problems = [
        Problem(
            where=f"configuration, {path[:-1]}",
            wanted="a value",
            found="none",
            do=f"Give it in a configuration file, or with --set {path[:-1]}=….",
        )
        for path in required
    ]
    try:
        places = {name: str(tree.get(name, "")) for name in ("warehouse", "landing")}
        config = Config.model_validate(tree, context=places)
    except ValidationError as error:
        details = [dict(detail) for detail in error.errors(include_url=False)]
        problems += _as_problems([each for each in details if not f"{_path(each)}.".startswith(tuple(required))])
    if problems:
        raise RecsysError(problems)
    return config


def _parse_setting(setting: str) -> tuple[list[str], Any]:
    """The keys that lead to a setting, and its value: as typed where a text is wanted, else YAML."""
    path, equals, typed = setting.partition("=")
    if not equals or not all(path.split(".")):
        raise problem("--set", wanted="a.b=value", found=hide(setting), do="Write for example --set score.top_k=50.")
    keys, kind = _find_setting(path)
    is_text = kind is None or kind is str or get_origin(kind) is Literal
    return keys, parse_text(typed) if is_text else parse_yaml(typed, f"--set {path}")


def _required_paths(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _required_paths(value, f"{prefix}{key}.")
        elif value == REQUIRED:
            yield f"{prefix}{key}"


def _path(detail: Mapping[str, Any]) -> str:
    """The dotted path; what pydantic adds for a key that does not fit is left out."""
    return ".".join(str(part) for part in detail["loc"] if part != "[key]")


def _as_problems(details: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    missing = [_path(detail) for detail in details if detail["type"] == "missing"]
    if missing:
        do = "Give them, or begin the --conf-file list with conf/base.yaml, which holds every default."
        yield Problem("configuration", wanted=f"values of {', '.join(missing)}", found="none", do=do)
    for detail in details:
        mistake = detail.get("ctx", {}).get("error")
        if isinstance(mistake, Misfit):
            for each in mistake.problems:
                path = ".".join(filter(None, [_path(detail), each.where]))
                yield Problem(f"configuration, {path}", each.wanted, hide(each.found), each.do)
        elif detail["type"] != "missing":
            yield _as_problem(detail)


def _as_problem(detail: Mapping[str, Any]) -> Problem:
    path, key = _path(detail), str(detail["loc"][-1])
    if detail["type"] == "extra_forbidden":
        hint = _hint(key, _section_class(detail["loc"][:-1]))
        return Problem(where=f"configuration, {path}", wanted="a known key", found=f"'{key}'", do=hint)
    wanted = re.sub(r"^\w+ should (be |have )?| after validation.*|, (unable to parse|got) .*", "", detail["msg"])
    if isinstance(detail["input"], str):
        wanted = re.sub(r"\b(item|character)(s?)$", r"letter\2", wanted)
    if detail["type"] == "model_type":
        wanted = f"a section with the keys {', '.join(_section_class(detail['loc']).model_fields)}"
    return Problem(
        where=f"configuration, {path}",
        wanted=wanted,
        found=_show(detail["loc"], detail["input"]),
        do=f"Change it where it is given: in a configuration file, or with --set {path}=….",
    )


def _show(loc: Sequence[Any], value: Any) -> str:
    """What was found, unless it may hold a secret that its own name does not tell."""
    may_be_secret = loc[0] == "spark" or "options" in loc
    if may_be_secret or isinstance(value, dict | list):
        return kind_of(value)
    if isinstance(value, str):
        shown = hide(value)
        return json.dumps(shown if len(shown) <= 100 else f"{shown[:100]}…", ensure_ascii=False)
    return json.dumps(value, default=str)


def _hint(key: str, section: type[BaseModel]) -> str:
    """The section that has just this key, else the nearest key of this section."""
    for name in Config.model_fields:
        other = Config.model_fields[name].annotation
        if isinstance(other, type) and issubclass(other, BaseModel) and key in other.model_fields:
            return f"Did you mean '{name}.{key}'?"
    return did_you_mean(key, section.model_fields)


def _section_class(loc: Sequence[Any]) -> type[BaseModel]:
    """The section at a path that pydantic names."""
    kind: Any = Config
    for part in loc:
        kind = _below(kind, str(part))
    assert _is_section(kind)
    return cast(type[BaseModel], kind)


def _find_setting(path: str) -> tuple[list[str], Any]:
    """The keys of a dotted path, and the type of what they lead to (None: there is no such setting).

    Where values, and no sections, have names, the rest of the path is one name: `spark.spark.ui.enabled`.
    """
    keys: list[str] = []
    parts, kind = path.split("."), Config
    while parts:
        has_plain_values = get_origin(kind) is dict and not _is_section(_bare(get_args(kind)[1]))
        key = ".".join(parts) if has_plain_values else parts[0]
        parts = [] if has_plain_values else parts[1:]
        keys.append(key)
        kind = _below(kind, key)
    return keys, kind


def _below(kind: Any, key: str) -> Any:
    """The type of what has a key in a section or in a map, or None."""
    if get_origin(kind) is dict:
        return _bare(get_args(kind)[1])
    field = kind.model_fields.get(key) if _is_section(kind) else None
    return None if field is None else _bare(field.annotation)


def _bare(annotation: Any) -> Any:
    """`str` of `Name | None`, of `Annotated[str, …]` and of both."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return _bare(kinds[0]) if NoneType in get_args(annotation) else annotation


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
