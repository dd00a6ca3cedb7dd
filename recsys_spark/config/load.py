"""Reads the configuration: files over each other, single settings over the files, every problem at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from recsys_spark.config.sections import Config
from recsys_spark.config.values import Misfit
from recsys_spark.errors import Problem, RecsysError, did_you_mean, problem

REQUIRED = "required"
"""What conf/base.yaml says where a data set or a cluster has to give the value."""
_PLACES = ("path", "uri", "artifacts")
"""Keys whose values may name {warehouse} and {landing}."""
_REPLACED_WHOLE = ("columns", "options")
"""Maps that a later file replaces whole: mixing two data sets' columns would help nobody."""


def load_config(files: Sequence[str], settings: Sequence[str] = ()) -> Config:
    """Lay `files` over each other, then `settings` (`a.b=value`, the value as YAML); raise every problem at once."""
    tree: dict[str, Any] = {}
    for layer in [*map(_read_yaml, files), *map(_parse_setting, settings)]:
        tree = _overlay(tree, _flatten_spark(layer))
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
        config = Config.model_validate(_fill_places(tree))
    except ValidationError as error:
        details = [dict(detail) for detail in error.errors()]
        problems += _as_problems([each for each in details if not f"{_path(each)}.".startswith(tuple(required))])
    if problems:
        raise RecsysError(problems)
    return config


class _StrictLoader(yaml.SafeLoader):
    """YAML whose keys are text and stand once: PyYAML reads `no:` as false and drops one of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for place, key in enumerate(keys):
            key.tag = "tag:yaml.org,2002:str"
            if key.value in [earlier.value for earlier in keys[:place]]:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        found = f"{error.problem}{place}"
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a day as 2017-02-30
        found = " ".join(str(error).split())
    raise problem(where, wanted="YAML", found=found, do="Mend it there.")


def _read_yaml(file: str) -> dict[str, Any]:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = f"no file {file}" if isinstance(error, FileNotFoundError) else f"{file}: {error}"
        raise problem(
            "--conf-file", wanted="a YAML file in UTF-8", found=found, do=f"Look at its path (now in {Path.cwd()})."
        ) from None
    tree = _parse_yaml(text, f"file {file}")
    if not isinstance(tree, dict | None):
        raise problem(f"file {file}", wanted="keys and values", found=repr(tree), do="See conf/base.yaml.")
    return tree or {}


def _parse_setting(setting: str) -> dict[str, Any]:
    path, equals, text = setting.partition("=")
    if not equals or not all(path.split(".")):
        raise problem("--set", wanted="a.b=value", found=setting, do="Write for example --set score.top_k=50.")
    value = _parse_yaml(text, f"--set {path}")
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both_trees = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlay(merged[key], value) if both_trees and key not in _REPLACED_WHOLE else value
    return merged


def _flatten_spark(tree: dict[str, Any]) -> dict[str, Any]:
    """`--set spark.spark.ui.enabled=true` makes a tree of what is one name to Spark."""
    return {**tree, "spark": dict(_flat(tree["spark"]))} if isinstance(tree.get("spark"), dict) else tree


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _required_paths(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _required_paths(value, f"{prefix}{key}.")
        elif value == REQUIRED:
            yield f"{prefix}{key}"


def _fill_places(tree: dict[str, Any]) -> dict[str, Any]:
    """Replace {warehouse} and {landing} in the values that are places."""
    places = {name: str(tree.get(name, "")) for name in ("warehouse", "landing")}

    def fill(text: str) -> str:
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", place)
        return text

    def fill_below(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: fill_below(child, name) for name, child in value.items()}
        return fill(value) if key in _PLACES and isinstance(value, str) else value

    return dict(fill_below(tree))


def _path(detail: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in detail["loc"])


def _as_problems(details: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    missing = [_path(detail) for detail in details if detail["type"] == "missing"]
    if missing:
        do = "Begin the --conf-file list with conf/base.yaml, which holds every default."
        yield Problem("configuration", wanted=f"values of {', '.join(missing)}", found="none", do=do)
    for detail in details:
        mistake = detail.get("ctx", {}).get("error")
        if isinstance(mistake, Misfit):
            for each in mistake.problems:
                path = ".".join(filter(None, [_path(detail), each.where]))
                yield Problem(f"configuration, {path}", each.wanted, each.found, each.do)
        elif detail["type"] != "missing":
            yield _as_problem(detail)


def _as_problem(detail: Mapping[str, Any]) -> Problem:
    path, key = _path(detail), str(detail["loc"][-1])
    if detail["type"] == "extra_forbidden":
        hint = _hint(key, _section_class(detail["loc"][:-1]))
        return Problem(where=f"configuration, {path}", wanted="a known key", found=f"'{key}'", do=hint)
    wanted = re.sub(r"^\w+ should (be |have )?|, (unable to parse|got) .*", "", detail["msg"])
    if detail["type"] == "model_type":
        wanted = f"a section with the keys {', '.join(_section_class(detail['loc']).model_fields)}"
    return Problem(
        where=f"configuration, {path}",
        wanted=wanted,
        found=json.dumps(detail["input"], default=str),
        do=f"Change it where it is given: in a configuration file, or with --set {path}=….",
    )


def _hint(key: str, section: type[BaseModel]) -> str:
    """The section that has just this key, else the nearest key of this section."""
    for name in Config.model_fields:
        other = Config.model_fields[name].annotation
        if isinstance(other, type) and issubclass(other, BaseModel) and key in other.model_fields:
            return f"Did you mean '{name}.{key}'?"
    return did_you_mean(key, section.model_fields)


def _section_class(loc: Sequence[Any]) -> type[BaseModel]:
    """The section at a path; names that users give lead through a map of sections."""
    section: Any = Config
    for part in loc:
        is_map = get_origin(section) is dict
        found = get_args(section)[1] if is_map else section.model_fields[str(part)].annotation
        section = next(kind for kind in get_args(found) if kind is not NoneType) if _may_be_none(found) else found
    assert isinstance(section, type) and issubclass(section, BaseModel)
    return section


def _may_be_none(annotation: Any) -> bool:
    return NoneType in get_args(annotation)
