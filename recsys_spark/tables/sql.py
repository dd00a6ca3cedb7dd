"""What SQL the configuration may hold: expressions over named columns that make no more than they get, and the same
each time.

Spark's own parser reads the text; every node of its tree has to be on a list here. What is on none (a subquery reads
files that no run knows of, `repeat` fills the memory, `session_user` depends on who runs) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import did_you_mean, problem
from recsys_spark.tables.failures import JAVA_ERRORS, cause_of

MAX_LENGTH: Final = 10_000
"""Characters of an expression: Spark's parser took 6 s for 15,000 of nested brackets, and all memory for 45,000."""
MAX_DEPTH: Final = 100
"""Operators and functions inside of one another: some hundreds overflow the stack of a worker, which ends it."""

FUNCTIONS: Final = {
    "values": (
        "between coalesce equal_null greatest if ifnull isnan isnotnull isnull least nanvl nullif nullifzero nvl nvl2"
        " zeroifnull"
    ),
    "casts": "bigint binary boolean date decimal double float int smallint string timestamp tinyint",
    "numbers": (
        "abs cbrt ceil ceiling exp floor ln log log10 log1p log2 mod negative pmod positive pow power round sign signum"
        " sqrt try_add try_divide try_mod try_multiply try_subtract width_bucket"
    ),
    "texts": (
        "btrim char_length character_length concat concat_ws contains endswith find_in_set get_json_object ilike"
        " initcap instr lcase left len length like locate lower ltrim position regexp regexp_count regexp_extract"
        " regexp_instr regexp_like regexp_replace regexp_substr replace reverse right rlike rtrim split split_part"
        " startswith substr substring substring_index translate trim ucase upper"
    ),
    "times": (
        "add_months date_add date_diff date_format date_part date_sub date_trunc dateadd datediff datepart day dayname"
        " dayofmonth dayofweek dayofyear extract from_unixtime from_utc_timestamp hour last_day make_date"
        " make_dt_interval make_interval make_ym_interval minute month monthname months_between next_day quarter second"
        " timestamp_micros timestamp_millis timestamp_seconds to_date to_timestamp to_unix_timestamp to_utc_timestamp"
        " trunc try_to_timestamp unix_date unix_micros unix_millis unix_seconds weekday weekofyear year"
    ),
    "arrays, maps and structs": (
        "array array_contains array_distinct array_except array_intersect array_max array_min array_position array_size"
        " array_union arrays_overlap cardinality element_at exists filter forall get map map_contains_key map_keys"
        " map_values named_struct size struct try_element_at"
    ),
}
"""What may be called, by kind: the same for the same values, and no longer than what it gets, but for _MULTIPLYING."""

_ALLOWED: Final = frozenset(" ".join(FUNCTIONS.values()).split())

_MULTIPLYING: Final = ("concat_ws", "regexp_replace", "replace")
"""Of two texts they can make the product of their lengths, and inside of one another any power of it."""

_MATCHING: Final = (
    "RLike regexp regexp_count regexp_extract regexp_instr regexp_like regexp_replace regexp_substr rlike split"
)
"""Nodes and functions whose second argument is a regular expression."""

_ROUNDING: Final = ("ceil", "ceiling", "floor", "round")
"""Functions whose second argument, if there is one, is a number of digits."""
MAX_DIGITS: Final = 38
"""Of Spark's decimals. One round(x, 10000000) takes minutes."""

_NODES: Final = (
    "Literal UnresolvedAttribute UnresolvedExtractValue UnresolvedFunction LambdaFunction UnresolvedNamedLambdaVariable"
    " And Or Not CaseWhen In IsNull IsNotNull IsUnknown IsNotUnknown Like ILike RLike LikeAll LikeAny NotLikeAll"
    " NotLikeAny EqualTo EqualNullSafe LessThan LessThanOrEqual GreaterThan GreaterThanOrEqual"
    " Add Subtract Multiply Divide IntegralDivide Remainder UnaryMinus UnaryPositive"
    " BitwiseAnd BitwiseOr BitwiseXor BitwiseNot ShiftLeft ShiftRight ShiftRightUnsigned"
    " Cast Concat CreateNamedStruct Lower StringLocate StringTrim StringTrimLeft StringTrimRight Substring"
    " TimestampAdd TimestampDiff"
)
"""Classes of Spark's tree. What they hold beside their children is plain: types, units, patterns of LIKE ANY."""

_CALLED: Final = {
    "AggregateExpression": "an aggregate function",
    "Alias": "a name for the value (AS)",
    "Exists": "a subquery",
    "ExpressionWithUnresolvedIdentifier": "IDENTIFIER",
    "InSubquery": "a subquery",
    "MultiAlias": "a name for the value (AS)",
    "NamedArgumentExpression": "a named argument",
    "NamedParameter": "a parameter",
    "PosParameter": "a parameter",
    "ScalarSubquery": "a subquery",
    "UnresolvedStar": "*",
    "WindowExpression": "a window function",
}
"""Words for classes that are not allowed; the others are told by their own names."""

_WANTED: Final = "a SQL expression of columns, literals, operators and plain functions"
_SYNTAX: Final = (
    "Allowed are AND, OR, NOT, comparisons, arithmetic, IN lists, BETWEEN, LIKE, RLIKE, IS NULL, CASE, CAST."
)
_FULL_DATE: Final = re.compile(r"\w+\s*r?['\"]\s*[+-]?\d{4}", re.IGNORECASE)
_READ_AS_MOMENTS: Final = ("cast", "try_cast", "ansi_cast", "to_timestamp", "try_to_timestamp")
"""Names of nodes that read a text as a moment without a pattern, where they have one child."""
_CHOOSING: Final = (
    "casewhen coalesce commonexpressiondef greatest if ifnull least nullif nvl nvl2 with"  # nullif is a `with` inside
)
"""Names of nodes whose value is that of one of their children."""
_TIME_ALONE: Final = re.compile(r"\s*T?\d{1,2}:\d")
_ESCAPED: Final = r"\\(?:c.|.)?"
_NO_BRACKETS: Final = re.compile(rf"{_ESCAPED}|\[(?:{_ESCAPED}|[^\]\\])*+(?:\]|\Z)", re.DOTALL)
"""What of a regular expression opens and closes no group: escaped letters (behind \\c, any sign) and classes. One that
nothing closes reaches to the end (Java refuses it): no text is gone through twice."""
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_QUOTE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\Q")
_FLAG_X: Final = re.compile(r"\(\?[a-zA-Z-]*x")
"""What makes Java read brackets, or blanks before a repetition, in another way: the quote \\Q and the flag x."""
_SHOWN: Final = 120
"""Characters of a text that a message repeats."""


@dataclass(frozen=True)
class _Fault:
    found: str
    do: str


@dataclass(frozen=True)
class _Around:
    """What a node of the tree stands in. `columns` are by their names in small letters, as variables are."""

    jvm: Any
    columns: Mapping[str, str]
    variables: frozenset[str] = frozenset()
    depth: int = 0
    is_multiplied: bool = False


def require_plain_sql(spark: SparkSession, sql: str, where: str, *, columns: Sequence[str]) -> None:
    """Raise the typed error unless `sql` is one expression over `columns` of nothing but what is listed here.

    `where` is the setting that holds it. Columns are names as they are, `item.price` for the field of a struct. The
    error names the first thing that is not allowed, and its place in the text.
    """
    fault = _find_fault_of_text(sql)
    if fault is None:
        try:
            tree: Any = spark._jsparkSession.sessionState().sqlParser().parseExpression(sql)
        except JAVA_ERRORS as error:
            fault = _Fault(f"{_short(sql)} ({_first_line(error)})", _SYNTAX)
        else:
            fault = _find_fault(tree, _Around(spark._jvm, {name.lower(): name for name in columns}))
    if fault is not None:
        raise problem(f"configuration, {where}", wanted=_WANTED, found=fault.found, do=fault.do)


def require_value(rows: DataFrame, sql: str, where: str, *, columns: Sequence[str], kind: str = "") -> None:
    """Raise the typed error unless Spark can work out plain `sql` over `rows`, to a value of this type (of any, if that
    is empty). Nothing is read: an empty frame does."""
    try:
        analyzed: Any = rows.select(F.expr(sql).alias("value"))._jdf.queryExecution().analyzed()
        found = analyzed.output().head().dataType().simpleString()
        fault = f"its value is {found}" if kind and found != kind else _time_of_today(analyzed.expressions())
    except JAVA_ERRORS as error:
        fault = _first_line(error)
    if fault:
        raise problem(
            f"configuration, {where}",
            wanted=f"a SQL expression {'that is true or false' if kind == 'boolean' else 'over the columns'}",
            found=f"{_short(sql)} ({fault})",
            do=f"Columns are {', '.join(columns)}.",
        )


def _time_of_today(nodes: Any) -> str:
    """What is said of the first text like '12:30' that Spark reads as a moment: it is that time of the day it is read.

    Only the analysed tree tells: a text that is compared with a moment is read as one, too.
    """
    for place in range(nodes.size()):
        node = nodes.apply(place)
        children = node.children()
        is_moment = node.nodeName().lower() in _READ_AS_MOMENTS and node.dataType().typeName().startswith("timestamp")
        texts = _chosen_literals(children.apply(0)) if is_moment and children.size() == 1 else []
        for text in filter(_TIME_ALONE.match, texts):
            return f"'{text}' is another moment each day: write the whole date"
        fault = _time_of_today(children)
        if fault:
            return fault
    return ""


def _chosen_literals(node: Any) -> list[str]:
    """The literals that a node's value can be: its own, or those that an `if` and its like choose from."""
    text = _literal(node)
    if text is not None:
        return [text]
    children = node.children() if node.nodeName().lower() in _CHOOSING.split() else None
    below = [children.apply(place) for place in range(children.size())] if children else []
    return [text for child in below for text in _chosen_literals(child)]


def _find_fault_of_text(sql: str) -> _Fault | None:
    """What has to be known before Spark reads it."""
    if len(sql) > MAX_LENGTH:
        found = f"{len(sql):,} characters, and at most {MAX_LENGTH:,} are read: {_short(sql)}"
        return _Fault(found, "Put long lists of values into a table or a column.")
    if "${" in sql:
        return _Fault(f"${{ in {_short(sql)}", "Write the value itself: Spark would put a setting of its own there.")
    return None


def _find_fault(node: Any, around: _Around) -> _Fault | None:
    """The first fault of a tree, read from left to right; `around` is that of its root."""
    kind = node.getClass().getName().rpartition(".")[2].partition("$")[0]
    fault = _fault_of_node(node, kind, around)
    if fault is not None:
        return fault
    children = node.children()
    within = replace(around, depth=around.depth + 1)
    if kind == "UnresolvedFunction" and _name(node) in _MULTIPLYING:
        within = replace(within, is_multiplied=True)
    if kind == "LambdaFunction":
        variables = [children.apply(place) for place in range(1, children.size())]
        within = replace(within, variables=frozenset(_name(variable) for variable in variables))
    found = (_find_fault(children.apply(place), within) for place in range(children.size()))
    return next((fault for fault in found if fault is not None), None)


def _fault_of_node(node: Any, kind: str, around: _Around) -> _Fault | None:
    if around.depth > MAX_DEPTH:
        return _Fault(f"more than {MAX_DEPTH} operators inside of one another", "Write it flatter, or as two.")
    if kind not in _NODES.split():
        return _Fault(_at(node, _CALLED.get(kind, kind)), _SYNTAX)
    if kind == "UnresolvedFunction":
        return _fault_of_function(node, around)
    if kind in _MATCHING.split():
        return _fault_of_pattern(node, around)
    if kind in ("UnresolvedAttribute", "UnresolvedNamedLambdaVariable"):
        return _fault_of_name(node, around)
    if kind == "LambdaFunction" and around.variables:
        return _Fault(_at(node, "-> within ->"), "Each can multiply what the one around it makes: write one alone.")
    if kind == "Literal":
        return _fault_of_literal(node)
    if kind == "Cast" and node.dataType().catalogString().count("<") > MAX_DEPTH:
        return _Fault(f"more than {MAX_DEPTH} types inside of one another", "Write a plainer type.")
    return None


def _fault_of_function(node: Any, around: _Around) -> _Fault | None:
    name, arguments = _name(node), node.arguments()
    if name not in _ALLOWED:
        return _Fault(_at(node, f"the function {name}"), f"Functions may be {', '.join(sorted(_ALLOWED))}.")
    if name in _MULTIPLYING and around.is_multiplied:
        do = f"Each of {', '.join(_MULTIPLYING)} can multiply the length of what it gets: write translate for letters."
        return _Fault(_at(node, f"the function {name} within another of its kind"), do)
    if name in _ROUNDING and arguments.size() > 1:
        digits = _literal(arguments.apply(1))
        if digits is None or not re.fullmatch(r"-?\d+", digits) or abs(int(digits)) > MAX_DIGITS:
            return _Fault(_at(node, "a number of digits"), f"Write one from -{MAX_DIGITS} to {MAX_DIGITS}, as it is.")
    return _fault_of_pattern(node, around) if name in _MATCHING.split() else None


def _fault_of_pattern(node: Any, around: _Around) -> _Fault | None:
    """Java matches a repeated group by recursion: `(a|b)*` on 9,000 letters ends the JVM, `(x+)+y` on 50 hangs."""
    children = node.children()
    pattern = _literal(children.apply(1)) if children.size() > 1 else ""
    if pattern is None:
        return _Fault(_at(node, "a regular expression that is no literal"), "Write it in quotes.")
    groups = _NO_BRACKETS.sub("", pattern)
    if _QUOTE.search(pattern) or _FLAG_X.search(groups):
        return _Fault(
            _at(node, "a regular expression with \\Q or the flag x"), "Write it plainly, with \\ before signs."
        )
    if _REPEATED_GROUP.search(groups):
        return _Fault(_at(node, "a regular expression that repeats a group"), "Repeat a class of letters, as [a-z -]*.")
    try:
        around.jvm.java.util.regex.Pattern.compile(pattern)
    except JAVA_ERRORS as error:
        return _Fault(_at(node, f"no regular expression ({cause_of(error)})"), "Mend it; a \\ is written twice.")
    return None


def _fault_of_literal(node: Any) -> _Fault | None:
    """DATE 'today' is read as the date it is today, TIMESTAMP '12:30' as that time of today."""
    is_moment = node.dataType().typeName().startswith(("date", "timestamp"))
    if not is_moment or _FULL_DATE.match(_fragment(node)):
        return None
    return _Fault(_at(node, "another time each day"), "Write the whole date, as DATE '2026-10-01'.")


def _fault_of_name(node: Any, around: _Around) -> _Fault | None:
    """None for a column, a field of one (`user.id` of a column `user`) or a variable of the lambda function around."""
    name = _name(node)
    steps = name.split(".")
    is_known = any(".".join(steps[:num]) in around.columns for num in range(1, len(steps) + 1))
    if is_known or steps[0] in around.variables:
        return None
    return _Fault(_at(node, f"the column {name}"), did_you_mean(name, around.columns.values()))


def _literal(node: Any) -> str | None:
    """The value of a literal as a text, None for anything else."""
    return str(node.toString()) if node.getClass().getName().endswith(".Literal") else None


def _name(node: Any) -> str:
    return str(node.nameParts().mkString(".")).lower()


def _fragment(node: Any) -> str:
    return str(node.origin().context().fragment())


def _at(node: Any, what: str) -> str:
    """`the function repeat: repeat('x', 9) (line 1, pos 7)`, counted as Spark does: lines from 1, characters from 0."""
    origin = node.origin()
    return f"{what}: {_short(_fragment(node))} (line {origin.line().get()}, pos {origin.startPosition().get()})"


def _short(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _first_line(error: Exception) -> str:
    return cause_of(error).partition(" == SQL ")[0]
