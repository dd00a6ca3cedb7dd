"""What Spark and its JVM say when they fail, in the words of the cause and without the stack trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from recsys_spark.errors import problem

JAVA_ERRORS = (PySparkException, Py4JJavaError)

_UNREADABLE_FILE = re.compile(r"\[FAILED_READ_FILE.*?reading file (?P<file>\S+?)\.?\s", re.DOTALL)

_BAD_VALUE = re.compile(r"\[(CAST_INVALID_INPUT|CAST_OVERFLOW|DIVIDE_BY_ZERO|ARITHMETIC_OVERFLOW|INVALID_ARRAY_INDEX)")


def cause_of(error: Exception) -> str:
    """The innermost cause, in one line: `Encountered error while reading file X: CSV header does not …`."""
    messages = [_one_line(message) for message in _messages(error)]
    file = next((match["file"] for match in map(_UNREADABLE_FILE.search, messages) if match), None)
    return f"{file}: {messages[-1]}" if file and file not in messages[-1] else messages[-1]


@contextmanager
def explain_bad_input(where: str) -> Iterator[None]:
    """Turn a file that cannot be read, and a value that the configuration's SQL cannot work with, into an error that a
    user can mend; every other failure stays what it is."""
    try:
        yield
    except JAVA_ERRORS as error:
        messages = " ".join(_messages(error))
        if "[FAILED_READ_FILE" in messages:
            wanted, do = "rows from files that can be read", "Mend or remove that file, then run the job again."
        elif _BAD_VALUE.search(messages):
            wanted = "values that the configuration's SQL can work with"
            do = "Write try_cast(… AS …), or whatever Spark advises, in rules.conditions and rules.caps."
        else:
            raise
        raise problem(where, wanted=wanted, found=cause_of(error), do=f"Nothing was written. {do}") from error


def _messages(error: Exception) -> list[str]:
    """The messages from the outermost error to its innermost cause."""
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    messages = []
    while java is not None:
        messages.append(java.getMessage() or java.getClass().getSimpleName())
        java = java.getCause()
    return messages or [str(error)]


def _one_line(message: str) -> str:
    without_trace = message.split("\n\tat ")[0].split("\n\nDriver stacktrace")[0]
    return " ".join(without_trace.split())
