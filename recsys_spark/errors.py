"""The one error a user sees: where it happened, what was wanted, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in the words of the person who has to mend it."""

    where: str
    wanted: str
    found: str
    do: str

    def __str__(self) -> str:
        told = f"{self.where}: wanted {self.wanted}; found {self.found}. {self.do}"
        return "\n".join(map(printable, told.split("\n")))


def printable(text: str) -> str:
    r"""One line that cannot steer a terminal: what is not to be printed is spelled out, as `\x1b`."""
    return "".join(letter if letter.isprintable() else _spell(letter) for letter in text)


def _spell(letter: str) -> str:
    return " " if letter == "\t" else letter.encode("unicode_escape").decode()


class RecsysError(Exception):
    """Raised for what a user can mend. It carries every problem found, not only the first."""

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[RecsysError], tuple[list[Problem]]]:
        """Errors cross process borders (Spark workers, Horovod ranks) with their problems whole."""
        return (RecsysError, (self.problems,))


def problem(where: str, *, wanted: str, found: str, do: str) -> RecsysError:
    """The error of a single problem, to be raised at once."""
    return RecsysError(Problem(where, wanted, found, do))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'top_k'?` when a known word is close, else the known words."""
    words = sorted(known)
    by_small_letters = {other.lower(): other for other in words}
    close = difflib.get_close_matches(word.lower(), by_small_letters, n=1)
    return f"Did you mean '{by_small_letters[close[0]]}'?" if close else f"Known: {', '.join(words)}."
