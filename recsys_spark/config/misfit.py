"""What a validator raises: problems in the words of the person who has to mend them."""

from __future__ import annotations

from recsys_spark.errors import Problem


class Misfit(ValueError):
    """Raised by a validator: its problems are told in full, `where` counted from the value that was looked at."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


def misfit(*, wanted: str, found: str, do: str, where: str = "") -> Misfit:
    return Misfit(Problem(where, wanted, found, do))
