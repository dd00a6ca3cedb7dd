"""What a text of a source means: words, numbers, moments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F

_BLANKS: Final = " \t\r\n\u00a0\ufeff"
_NUMBER: Final = r"^[+-]?(\d{1,200}(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$"
_PARTS: Final = re.compile(r"'[^']*'|\[(?:[^\[\]']|'[^']*')*\]")
"""Parts of a pattern that are texts in quotes or, in brackets, need not be there."""
_ZONE_LETTERS: Final = frozenset("VzOXxZ")
_UNDECODED: Final = "\ufffd"
"""What Spark puts in the place of bytes that are no text in the source's encoding."""
FIRST_MOMENT: Final = "0001-01-02"
LAST_MOMENT: Final = "9999-12-30"
"""What Python's datetime can hold in any zone; seconds read as milliseconds land far behind it."""


@dataclass(frozen=True)
class Notation:
    """How a source writes its values: timestamps (a pattern of Spark, or epoch_seconds, epoch_millis) and the zone of
    those that name none, the words that mean no value (in small letters), and the decimal mark."""

    pattern: str
    zone: str
    missing: tuple[str, ...]
    decimal: str

    @classmethod
    def of(cls, *, pattern: str, zone: str, missing: Sequence[str] = (), decimal: str = ".") -> Notation:
        return cls(pattern, zone, tuple(word.lower() for word in missing), decimal)

    def why_no_number(self, told: Column) -> Column:
        """Why a text is no number, with the setting that reads it."""
        if self.decimal != ".":
            return F.lit(f"it is no number with decimal '{self.decimal}'")
        has_comma = told.rlike(r"^[+-]?\d+,\d+$")
        return F.when(has_comma, F.lit('it is no number; decimal: "," would read it')).otherwise("it is no number")


def trim_text(given: Column) -> Column:
    """The text without blanks around it; an empty one is null."""
    return F.nullif(F.btrim(given.cast("string"), F.lit(_BLANKS)), F.lit(""))


def without_missing(text: Column, notation: Notation) -> Column:
    """The text, null for a word that means no value; most texts are known by their length to be none of them."""
    if not notation.missing:
        return text
    longest = max(len(word.encode()) for word in notation.missing)
    return F.when((F.octet_length(text) > longest) | ~F.lower(text).isin(*notation.missing), text)


def is_undecoded(text: Column) -> Column:
    """Whether some of its bytes were no text; false for null."""
    return F.coalesce(text.contains(_UNDECODED) | ~F.is_valid_utf8(text), F.lit(False))


def is_float_id(text: Column) -> Column:
    """Whether an id looks like a number that pandas wrote as 17850.0; false for null."""
    return F.coalesce(text.rlike(r"^\d+\.0$"), F.lit(False))


def is_rounded_id(text: Column) -> Column:
    """Whether an id looks like a large number that pandas or a spreadsheet rounded, 1.23e+16; false for null."""
    return F.coalesce(text.rlike(r"^\d(\.\d+)?[eE]\+\d+$"), F.lit(False))


def number(told: Column, notation: Notation) -> Column:
    """A finite number in digits; null for anything else (Spark would read NaN, 12d and 0x1p3 as well)."""
    plain = told if notation.decimal == "." else F.translate(told, f".{notation.decimal}", "x.")
    return F.when(plain.rlike(_NUMBER), plain.try_cast("double"))


def moment(told: Column, notation: Notation) -> Column:
    """The instant in UTC; null where the text does not follow the pattern.

    Where the pattern has a zone in brackets only, `notation.zone` is that of the texts without one.
    """
    if notation.pattern in ("epoch_seconds", "epoch_millis"):
        return F.timestamp_seconds(_exact_seconds(told, is_millis=notation.pattern == "epoch_millis"))
    parsed = F.try_to_timestamp(told, F.lit(notation.pattern))
    if not _names_a_zone(notation.pattern):
        return F.to_utc_timestamp(parsed, notation.zone)
    without = _PARTS.sub(_without_optional_zone, notation.pattern)
    if _names_a_zone(without):
        return parsed
    local = F.try_to_timestamp(told, F.lit(without))
    return F.coalesce(F.to_utc_timestamp(local, notation.zone), parsed)


def _exact_seconds(told: Column, *, is_millis: bool) -> Column:
    """Seconds to the microsecond, up to twelve digits of them; a double has not every thousandth of a second."""
    exact = F.when(told.rlike(_NUMBER), told.try_cast("decimal(21,6)" if is_millis else "decimal(18,6)"))
    return (exact / (1000 if is_millis else 1)).cast("decimal(18,6)")


def _names_a_zone(pattern: str) -> bool:
    """Whether the timestamps themselves say their zone; text in quotes is no pattern letter."""
    outside_quotes = "".join(pattern.split("'")[::2])
    return not _ZONE_LETTERS.isdisjoint(outside_quotes)


def _without_optional_zone(part: re.Match[str]) -> str:
    return "" if _names_a_zone(part[0]) else part[0]
