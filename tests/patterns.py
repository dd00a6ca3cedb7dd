"""Every regular expression of the package, and texts that are the worst for it."""

from __future__ import annotations

import ast
import itertools
import pkgutil
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import jobs
import recsys_spark

_PYTHON = ("compile", "sub", "subn", "split", "match", "fullmatch", "search", "findall", "finditer")
_FROM_THE_START = {"match", "fullmatch"}
_SPARK = ("split", "rlike", "regexp", "regexp_like", "regexp_replace", "regexp_extract", "regexp_extract_all",
          "regexp_count", "regexp_instr", "regexp_substr")  # fmt: skip


@dataclass(frozen=True)
class Pattern:
    """One regular expression as Python writes it, where it stands, and whether Java reads it."""

    place: str
    text: str
    is_java: bool
    flags: int = 0
    is_anchored: bool = False
    """Whether it is only asked of the beginning of a text, or of all of it."""


def all_patterns() -> list[Pattern]:
    """Those of `recsys_spark` and `jobs`; a part that only a running function knows is the letter x."""
    found = []
    for package in (recsys_spark, jobs):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            found += _patterns_of(module.name)
    return found


def slowest_texts(pattern: Pattern, *, length: int, num_tried: int = 5) -> list[str]:
    """The texts of `length` characters that are to be feared: those that were slowest at 1,000 characters."""
    tried = []
    for prefix, pump, suffix in _shapes(pattern.text):
        text = prefix + pump * (1000 // len(pump)) + suffix
        started = time.perf_counter()
        go_through(pattern, text)
        tried.append((time.perf_counter() - started, prefix, pump, suffix))
    return [prefix + pump * (length // len(pump)) + suffix for _, prefix, pump, suffix in sorted(tried)[-num_tried:]]


def go_through(pattern: Pattern, text: str) -> str:
    """The text without every place that matches. Python's engine goes back in a text as Java's does."""
    if pattern.is_anchored:
        return text if re.fullmatch(pattern.text, text, flags=pattern.flags) is None else ""
    return re.sub(pattern.text, "", text, flags=pattern.flags)


def _shapes(pattern: str) -> Iterator[tuple[str, str, str]]:
    """Something, a repetition of what the pattern is about, and something that spoils the match."""
    letters = sorted({*"a0 \n/-x\\", *re.sub(r"\\.", "", pattern)})
    words = sorted(set(re.findall(r"\W?\w[\w ]+", re.sub(r"\\[a-zA-Z]", "", pattern))))
    pumps = [*letters, *words, *("".join(pair) for pair in itertools.product(letters, repeat=2))]
    for pump in pumps:
        for suffix in ["", "\x00", *(letters if len(pump) == 1 else [])]:
            yield "", pump, suffix
    for prefix, pump in itertools.product(words, letters):
        yield prefix, pump, "\x00"


def _patterns_of(name: str) -> Iterator[Pattern]:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        if (given := _pattern_argument(call)) is not None:
            argument, is_java = given
            place = f"{name}:{call.lineno}"
            text = _text_of(argument, vars(import_module(name)), place)
            is_anchored = not is_java and _uses_of(call, tree) <= _FROM_THE_START
            yield Pattern(place, _as_python(text) if is_java else text, is_java, _flags_of(call), is_anchored)


def _pattern_argument(call: ast.Call) -> tuple[ast.expr, bool] | None:
    """The argument of a call that is a pattern, and whether it is Java's."""
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if not isinstance(call.func, ast.Attribute):
        return (named["pattern"], False) if "pattern" in named else None  # pydantic's Field
    owner, method = call.func.value, call.func.attr
    if isinstance(owner, ast.Name) and owner.id == "re" and method in _PYTHON:
        return call.args[0], False
    if isinstance(owner, ast.Name) and owner.id == "F" and method in _SPARK:
        return call.args[1], True
    return (call.args[0], True) if method == "rlike" else None


def _text_of(argument: ast.expr, names: dict[str, object], place: str) -> str:
    if isinstance(argument, ast.JoinedStr):
        return "".join(_text_of(part, names, place) for part in argument.values)
    if isinstance(argument, ast.FormattedValue):
        return str(names.get(argument.value.id, "x")) if isinstance(argument.value, ast.Name) else "x"
    try:
        value = eval(compile(ast.Expression(argument), place, "eval"), dict(names))
    except NameError:
        raise AssertionError(f"{place}: a pattern stands in its call or in a constant of its module") from None
    return str(value)


def _uses_of(call: ast.Call, tree: ast.Module) -> set[str]:
    """The methods by which a pattern is used: that of its call, or those of the name that it is compiled for."""
    method = call.func.attr if isinstance(call.func, ast.Attribute) else "search"
    if method != "compile":
        return {method}
    name = next((n.target for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and n.value is call), None)
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    named = {node.attr for node in used if name is not None and ast.unparse(node.value) == ast.unparse(name)}
    return named or {"search"}


def _flags_of(call: ast.Call) -> int:
    named = [node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute) and node.attr.isupper()]
    return sum(int(re.RegexFlag[name]) for name in named if name in re.RegexFlag.__members__)


def _as_python(pattern: str) -> str:
    quoted = re.sub(r"\\Q(.*?)\\E", lambda match: re.escape(match[1]), pattern)
    return quoted.replace(r"\p{Nd}", r"\d").replace(r"\p{L}", r"[^\W\d_]")
