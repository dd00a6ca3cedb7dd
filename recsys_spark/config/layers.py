"""YAML in which a text stays a text, and trees of it laid over each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recsys_spark.config.values import kind_of
from recsys_spark.errors import problem

_REPLACED_WHOLE = ("columns", "options")
"""Maps that a later file replaces whole: mixing two data sets' columns would help nobody."""
_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


class _StrictLoader(yaml.SafeLoader):
    """YAML in which only nothing is no text: else `no` is false, 0712 is 458, 12:30 is 750, and `=` is no value at all.

    Keys are texts too and stand once: of two equal ones PyYAML drops one.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012, PyYAML's own declaration
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (_NULL, _MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        **yaml.SafeLoader.yaml_constructors,
        _MERGE: yaml.SafeLoader.construct_yaml_str,  # `<<` where it is no key
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for place, key in enumerate(keys):
            key.tag = "tag:yaml.org,2002:str"
            if key.value in [earlier.value for earlier in keys[:place]]:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str, where: str) -> Any:
    """Maps, lists, texts and None. The error names `where` and the line, and quotes nothing that may be a password."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        # A password that begins with *, & or ! is one of these to YAML.
        found = re.sub(r"\b(alias|anchor|tag|handle) '.*'", r"\1", str(error.problem)) + place
    except yaml.YAMLError as error:
        found = " ".join(str(error).split())
    except (ValueError, RecursionError) as error:  # !!int x, which would be shown; [[[[… a thousand times
        found = type(error).__name__
    do = "Mend it there; a text with signs that mean something to YAML is quoted."
    raise problem(where, wanted="YAML", found=found, do=do)


def read_yaml(file: str) -> dict[str, Any]:
    """The tree of a YAML file in UTF-8."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = f"no file {file}" if isinstance(error, FileNotFoundError) else f"{file}: {error}"
        raise problem(
            "--conf-file", wanted="a YAML file in UTF-8", found=found, do=f"Look at its path (now in {Path.cwd()})."
        ) from None
    tree = parse_yaml(text, f"file {file}")
    if not isinstance(tree, dict | None):
        raise problem(f"file {file}", wanted="keys and values", found=kind_of(tree), do="See conf/base.yaml.")
    return tree or {}


def parse_text(typed: str) -> str | None:
    """A text of the command line as typed, unless YAML takes it for nothing, or for one quoted text and no more."""
    try:
        node = yaml.compose(typed, Loader=_StrictLoader)
    except (yaml.YAMLError, RecursionError):
        return typed
    if not isinstance(node, yaml.ScalarNode):
        return typed or None
    if node.style in ("'", '"') and (node.start_mark.index, node.end_mark.index) == (0, len(typed)):
        return str(node.value)
    return None if node.tag == _NULL and node.value == typed else typed


def put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """The tree with another value at one place; what stands beside it stays, in maps of columns and options too."""
    key, *deeper = keys
    if not deeper:
        return overlay(tree, {key: value})
    below = tree.get(key)
    return {**tree, key: put(below if isinstance(below, dict) else {}, deeper, value)}


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both trees in one; where they meet, what stands above wins."""
    merged = dict(below)
    for key, value in above.items():
        both_trees = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if both_trees and key not in _REPLACED_WHOLE else value
    return merged
