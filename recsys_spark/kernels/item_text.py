"""What a catalogue says of an item, as a person would read it: no markup, no entities, no marks that nobody sees."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from selectolax.lexbor import LexborHTMLParser

MAX_CHARS: Final = 10_000
"""Characters of a field that are read; a model sees 512 tokens at most. The parser's time grows with the depth of the
elements too: 10,000 characters take 0.07 s at worst, 250,000 of nothing but `<div>` 5 s."""

_UNSEEN: Final = ["script", "style", "iframe", "noembed", "noframes"]
"""Elements whose text no browser shows. (The content of a template is no part of the document.)"""

_WITHIN_WORDS: Final = [
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins",
    "kbd", "mark", "nobr", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u",
    "var", "wbr",
]  # fmt: skip
"""Elements that leave no blank where they begin and end: `Soft<b>ly</b>` is one word."""

# Every pattern goes through a text once, whatever the text is: no quantifier is followed by what could ask it to give
# something back. tests/unit/test_patterns.py tries each.
_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2800]+")
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufdd0-\ufdef\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
    "\ue000-\uf8ff\U000f0000-\U0010ffff]+"
)
"""Soft hyphens, fillers, zero widths, marks of direction, tags; and what has no meaning outside of one font."""

_JOINED = "\u0600-\u1aff"
_EMOJI = "\u2190-\u2bff\u3030\u303d\ufe0f\U0001f000-\U0001faff"
_VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca"
_JOINER: Final = re.compile(
    f"((?<=[{_JOINED}])[\u200c\u200d](?=[\u200c\u200d]*+[{_JOINED}])|(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])"
    f"|(?<=[{_VIRAMA}])\u200d)|[\u200c\u200d]|(?<!\\S)[\ufe00-\ufe0f\U000e0100-\U000e01ef]++"
)
"""Joiners, as group 1 those that are part of a word or an emoji: Persian, Indic scripts and families need them. And
variants of no character."""

_DOUBLED: Final = re.compile("  +")
_EMPTY_BRACKETS: Final = re.compile(r"\([ ,;:|/.-]*+\)|\[[ ,;:|/.-]*+\]")
_LOOSE_DASHES: Final = re.compile(r"^(?: ?- )++| -(?= - | ?[,;:|/.](?: |$)| ?$)")
_LOOSE_COMMAS: Final = re.compile(r"(?<![^,;:|/.]) ?[,;:|/.](?= |$)|[,;:|/] (?=[,;:|/.])")
_BLANK_BEFORE_COMMA: Final = re.compile(r" (?=[,;:.](?: |$))")


@dataclass(frozen=True)
class Template:
    """`{title} ({brand})`: the names of its fields, and the literals before, between and after them."""

    names: tuple[str, ...]
    literals: tuple[str, ...]

    @classmethod
    def parse(cls, template: str) -> Template:
        pieces = re.split(r"\{([^{}]*)\}", template)
        return cls(names=tuple(pieces[1::2]), literals=tuple(pieces[::2]))

    def render(self, values: Sequence[str]) -> str:
        """The text of an item whose fields have these values; an empty one leaves no trace, nor does its punctuation.

        A field is read by itself: what one leaves open does not swallow the next.
        """
        parts = [self.literals[0]]
        for value, literal in zip(values, self.literals[1:], strict=True):
            parts += [read_markup(value[:MAX_CHARS]), literal]
        return tidy(drop_invisible("".join(parts)))


def read_markup(text: str) -> str:
    """The text that HTML says: entities decoded, tags gone, a blank where blocks begin and end.

    A `<` that no `>` follows is text: `Size <L` has no tag.
    """
    if "<" not in text and "&" not in text:
        return text
    tags_end = text.rfind(">") + 1
    markup = text[:tags_end] + text[tags_end:].replace("<", "&lt;")
    # As what stands in a <template>: cells and rows may come without their table.
    tree = LexborHTMLParser(markup, is_fragment=True, fragment_tag="template")
    if "<" in markup:
        tree.strip_tags(_UNSEEN)
        tree.unwrap_tags(_WITHIN_WORDS)
        tree.merge_text_nodes()
    return tree.text(separator=" ")


def drop_invisible(text: str) -> str:
    """The text in NFC without marks that nobody sees; blanks of all kinds and control characters are one blank."""
    text = _BLANK.sub(" ", text)
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _JOINER.sub(r"\1", _INVISIBLE.sub("", text)))


def tidy(text: str) -> str:
    """Without the doubled blanks and the punctuation that empty fields leave behind."""
    text = _DOUBLED.sub(" ", _EMPTY_BRACKETS.sub(" ", text))
    text = _DOUBLED.sub(" ", _LOOSE_DASHES.sub(" ", text))
    text = _BLANK_BEFORE_COMMA.sub("", _LOOSE_COMMAS.sub("", text))
    return _DOUBLED.sub(" ", text).lstrip(" ,;:|/.").rstrip(" ,;:|/")
