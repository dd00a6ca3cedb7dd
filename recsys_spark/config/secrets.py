"""Secrets of the configuration: how they are given, and what is recorded and printed in their place.

`${NAME}` is an environment variable and `${file:/path}` a file's contents, in the values that may hold a password:
places and URIs, and the settings of Spark and of its readers. What was inserted is recorded as the reference that was
typed. What was typed in the open is known by the name of its setting (`…secret.key`), or by its place in a URI.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Final

from recsys_spark.config.misfit import misfit

MASK: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"(?i)secret|passw|passphrase|token|credential|signature"
    r"|(?:access|account|api|private|encryption)[._-]?key|(?:^|[._-])(?:pwd|sas|sig)(?:[._-]|$)"
)
_REFERENCE: Final = re.compile(r"\$\{(?:file:(?P<file>[^{}]+)|(?P<variable>[A-Za-z_][A-Za-z0-9_]*))\}")
"""Spark's own references, as ${spark.app.id} and ${env:HOME}, are none of ours."""
_USER_INFO: Final = re.compile(r"(?<=://)([^\s/?#:@]{0,256}):(?!\d{1,5}[/?#,])([^\s/?#]{0,2048}@|[^\s@]{0,512}+@)")
"""`user:password@` of a URI, the password to the last @ before the path; where there is none, over / and ? too, as
SQLAlchemy reads it. A port is no password. The lengths are bounded: no text makes it slow."""
_PARAMETER: Final = re.compile(r"(?<=[?&;])([\w.%-]{1,64})=([^\s&;#'\"<>]+)")
"""`name=value` of a URI's query, or of a JDBC URI's settings."""
_ASSIGNED_NAME: Final = re.compile(r"(?<![\w.-])([\w.-]{1,256})=")
"""Of `-Dname=value`, `name=value,name=value` and their like in a setting of Spark's."""
_TO_THE_BLANK: Final = re.compile(r"\S*")
"""What may be the value of a secret name: a password may have any sign but a blank."""

_inserted: Final[dict[str, str]] = {}
"""What references stood for in this process: value -> the reference as it was typed."""
_SHORTEST: Final = 4
"""Characters of a value that is looked for in texts: a shorter one stands in too many of them by chance."""


class Secret(str):
    """A text of which something is not to be seen: `shown` stands for it in all that is recorded and printed."""

    shown: str = MASK

    def __repr__(self) -> str:
        return repr(self.shown)


def hide(text: str) -> str:
    """What may be printed or noted of a text: every password, token and signature of a URI in it as `***`, and the
    values of references, wherever a library repeats them, as the references."""
    shown = mask(text)
    for value in sorted(_inserted, key=len, reverse=True):
        if value in shown:
            shown = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", lambda _: _inserted[value], shown)  # noqa: B023
    return shown


def mask(text: str) -> str:
    """What is recorded of a text: every password, token and signature of a URI in it as `***`; what a Secret shows."""
    if isinstance(text, Secret):
        return text.shown
    return _PARAMETER.sub(_without_secret, _USER_INFO.sub(_without_password, text))


def insert(typed: str) -> str:
    """The text with its references replaced; Misfit when a variable or a file is not there, or empty."""
    return _conceal(_REFERENCE.sub(_look_up, typed), shown=mask(typed))


def conceal_setting(name: str, text: str) -> str:
    """The value of a setting that Spark or a reader of it gets, a Secret if its name or a part of it says so."""
    shown = mask(text)
    if is_secret(name):
        return _conceal(text, shown=shown if _REFERENCE.fullmatch(shown) else MASK)
    return _conceal(text, shown=_without_assigned_secrets(shown))


def is_secret(name: str) -> bool:
    """Whether the name of a setting says that its value is a secret."""
    return bool(_SECRET_NAME.search(name))


def _conceal(text: str, *, shown: str) -> str:
    if shown == text:
        return text
    secret = Secret(text)
    secret.shown = shown
    return secret


def _look_up(reference: re.Match[str]) -> str:
    file, variable = reference["file"], reference["variable"]
    if variable:
        value, cause = os.environ.get(variable, ""), "none, or an empty one"
    else:
        value, cause = _read(file)
    if any(unicodedata.category(letter) == "Cc" for letter in value):
        value, cause = "", "control characters or a second line"
    if not value:
        wanted = f"a text in the environment variable {variable}" if variable else f"a text in the file {file}"
        raise misfit(wanted=wanted, found=cause, do=f"Put the secret there; {reference[0]} stands for it.")
    if len(value) >= _SHORTEST:
        _inserted[value] = reference[0]
    return value


def _read(file: str) -> tuple[str, str]:
    """The file's text without the line break at its end, and what is wrong when there is none."""
    try:
        return Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r"), "an empty one"
    except UnicodeDecodeError:
        return "", "bytes that are no UTF-8"
    except OSError as error:
        return "", (error.strerror or "no such file").lower()


def _without_password(user_info: re.Match[str]) -> str:
    password = user_info[2].removesuffix("@")
    return f"{user_info[1]}:{password if _REFERENCE.fullmatch(password) else MASK}@"


def _without_assigned_secrets(text: str) -> str:
    """Only the value of a secret name is passed over whole: another one may hold further names."""
    parts, shown_up_to = [], 0
    for name in _ASSIGNED_NAME.finditer(text):
        if name.start() < shown_up_to or not is_secret(name[1]):
            continue
        value = _TO_THE_BLANK.match(text, name.end())
        if value is not None and not _REFERENCE.fullmatch(value[0]):
            parts += [text[shown_up_to : name.end()], MASK]
            shown_up_to = value.end()
    return "".join([*parts, text[shown_up_to:]])


def _without_secret(setting: re.Match[str]) -> str:
    name, value = setting[1], setting[2]
    return setting[0] if not is_secret(name) or _REFERENCE.fullmatch(value) else f"{name}={MASK}"
