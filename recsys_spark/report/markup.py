"""Elements of HTML and SVG. A plain string is data and gets escaped; only `tag` makes markup, so nothing leaks."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Final

_VOID: Final = frozenset({"meta", "input", "br"})
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")

Attribute = str | int | float | None


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Data as markup: the five characters of HTML escaped, what no page may hold left out."""
    return text if isinstance(text, Markup) else Markup(html.escape(_CONTROL.sub("", text)))


def tag(name: str, /, *children: str, **attributes: Attribute) -> Markup:
    """`tag("td", "a < b", class_="n")` -> `<td class="n">a &lt; b</td>`; attributes that are None are left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """Several pieces in a row, plain ones escaped."""
    return Markup("".join(escape(part) for part in parts))


def _attribute(value: str | int | float) -> str:
    """Coordinates keep one decimal: a tenth of a pixel is finer than any screen."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
