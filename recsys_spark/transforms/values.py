"""What a text of a source means: words, numbers, moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F

_BLANKS: Final = " \t\r\n\u00a0\ufeff"
_NUMBER: Final = r"^[+-]?(\d{1,200}(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$"
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

    @property
    def no_number(self) -> str:
        """Why a text is no number."""
        return "it is no number" if self.decimal == "." else f"it is no number with decimal '{self.decimal}'"


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


def number(told: Column, notation: Notation) -> Column:
    """A finite number in digits; null for anything else (Spark would read NaN, 12d and 0x1p3 as well)."""
    plain = told if notation.decimal == "." else F.translate(told, f".{notation.decimal}", "x.")
    return F.when(plain.rlike(_NUMBER), plain.try_cast("double"))


def moment(told: Column, notation: Notation) -> Column:
    """The instant in UTC; null where the text does not follow the pattern."""
    if notation.pattern in ("epoch_seconds", "epoch_millis"):
        return F.timestamp_seconds(_exact_seconds(told, is_millis=notation.pattern == "epoch_millis"))
    local = F.try_to_timestamp(told, F.lit(notation.pattern))
    return local if _names_a_zone(notation.pattern) else F.to_utc_timestamp(local, notation.zone)


def _exact_seconds(told: Column, *, is_millis: bool) -> Column:
    """Seconds to the microsecond, up to twelve digits of them; a double has not every thousandth of a second."""
    exact = F.when(told.rlike(_NUMBER), told.try_cast("decimal(21,6)" if is_millis else "decimal(18,6)"))
    return (exact / (1000 if is_millis else 1)).cast("decimal(18,6)")


def _names_a_zone(pattern: str) -> bool:
    """Whether the timestamps themselves say their zone; text in quotes is no pattern letter."""
    outside_quotes = "".join(pattern.split("'")[::2])
    return any(letter in outside_quotes for letter in "VzOXxZ")
