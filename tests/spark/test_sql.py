"""Which SQL of the configuration is read, and what is said of the rest."""

import pathlib

import pytest

from recsys_spark.errors import RecsysError
from recsys_spark.tables import sql as plain
from recsys_spark.tables.sql import require_plain_sql, require_value

pytestmark = pytest.mark.spark

ITEMS = (
    "item struct<price:double,category:string,title:string,since:timestamp,tags:array<string>,more:map<string,string>>"
)
COLUMNS = ["as_of", "item.price", "item.category", "item.title", "item.since", "item.tags", "item.more", "user.age"]

ALLOWED = [
    # What docs/rules.md, the benchmarks and other tests write.
    "coalesce(item.since <= as_of, true) AND coalesce(as_of < item.since, true)",
    "try_cast(item.category AS int) > 0",
    "item.category = item.title",
    "item.price <= coalesce(user.age, 100)",
    "coalesce(item.category, '') NOT IN ('FUEL', 'COUPON')",
    "item.more['department'] <> 'SPIRITS' OR user.age >= 18",
    "to_timestamp(item.category) >= as_of - INTERVAL 60 DAYS",
    "item.category IN ('both', item.title)",
    "CAST(item.category AS DOUBLE) <= CAST(item.title AS DOUBLE)",
    "item.category NOT LIKE 'BABY%' OR user.age > 0",
    "item.price < 5 AND as_of > '2000-01-01'",
    "item.category IS DISTINCT FROM 'wine' OR try_cast(user.age AS int) >= 18",
    # Operators.
    "NOT item.price BETWEEN 1 AND 2 AND item.price NOT BETWEEN 3 AND 4",
    "item.price <=> 1 OR item.price == 1 OR item.price != 1 OR item.price <> 1 OR !(item.price >= 1)",
    "-item.price + 1 - 2 * 3 / 4 % 5 > +1 AND user.age DIV 6 = 1",
    "user.age & 1 | 2 ^ 3 << 1 >> 1 >>> 1 = ~4",
    "item.title LIKE 'a!%' ESCAPE '!' OR item.title ILIKE '%b' OR item.title RLIKE 'c[a-z ]*(d|e)?'",
    "item.title LIKE ANY ('a%', 'b%') AND item.title NOT LIKE ALL ('c%', item.category)",
    "item.title ILIKE ANY ('a%', 'b%')",
    "item.price IS NULL OR item.price IS NOT NULL OR (item.price > 1) IS TRUE OR (item.price > 1) IS NOT UNKNOWN",
    "CASE WHEN item.price > 1 THEN true WHEN item.price > 0 THEN NULL ELSE false END",
    "CASE item.category WHEN 'a' THEN user.age > 1 END",
    "item.category || '/' || item.title = 'a' 'b'",
    "item.price::int = 1 AND item.price = 1.5BD AND item.price < 1e2",
    "(item.category, item.title) IN (('a', 'b'), ('c', 'd'))",
    "item.tags[0] = 'a' OR struct(item.price).price > 1",
    "item.since BETWEEN DATE '2020-01-01' AND TIMESTAMP '2021-01-01 10:00:00+01:00' - INTERVAL '1' YEAR",
    # Functions, the ones with a syntax of their own first.
    "extract(YEAR FROM item.since) > 2000 AND date_add(DAY, 3, item.since) > item.since",
    "datediff(MONTH, item.since, as_of) < 3 AND timestampadd(HOUR, -1, as_of) > item.since",
    "trim(BOTH 'x' FROM item.title) = substring(item.title FROM 2 FOR 3) OR position('a' IN item.title) > 0",
    "exists(item.tags, t -> t = item.category AND length(t) > 1) OR size(filter(item.tags, (t, n) -> n > 0)) = 1",
    "if(item.price > 1, nvl(item.category, 'a'), nullif('a', 'b')) = upper(left(item.title, 3))",
    "round(item.price, -2) = 100 AND round(item.price, 2) > try_divide(item.price, 0)",
    r"item.title RLIKE r'\(?max\)?' OR item.title RLIKE '[(?x]' OR item.title RLIKE '\\(?explicit'",
    "replace(translate(item.title, '-.', ''), ' ', '') = concat_ws('/', item.category, item.title)",
    "regexp_replace(item.title, '[(][0-9]+[)]*|\\\\)*', '') = 'x' AND size(split(item.title, r'\\(')) > 1",
    "date_format(item.since, 'yyyy-MM') = '2020-01' AND year(item.since) = 2020 AND dayofweek(as_of) <> 1",
    "array_contains(item.tags, 'a') AND map_contains_key(item.more, 'a') AND try_element_at(item.tags, 1) = 'a'",
    # Spellings.
    "ITEM.PRICE > 1 and `item`.`price` < 2 Or Lower(item . Title) Like 'a%'",
    "-- the first line\n item.price /* as of\n today */ > 1 -- and the last",
    "item.price > 1 OR item.title = '-- no comment; /* none */ (SELECT 1)'",
]  # fmt: skip

REFUSED = {
    # Other data than the item, the user and as_of.
    "item.category IN (SELECT value FROM csv.`/etc/passwd`)": "a subquery",
    "item.price > (SELECT max(price) FROM parquet.`/data/prices`)": "a subquery",
    "EXISTS (SELECT * FROM text.`/etc/passwd`)": "a subquery",
    "NOT EXISTS(SELECT 1)": "a subquery",
    "coalesce(exists(item.tags, t -> t IN (SELECT value FROM csv.`/etc/passwd`)), true)": "a subquery",
    "CASE WHEN true THEN (WITH t AS (SELECT 1 AS a) SELECT a = 1 FROM t) END": "a subquery",
    "item.price > :limit": "a parameter",
    "item.price > ?": "a parameter",
    "IDENTIFIER('item.price') > 1": "IDENTIFIER",
    "item.title = '${system:user.name}'": r"\$\{ in item\.title",
    "item.brand = 'x'": r"the column item\.brand: item\.brand \(line 1, pos 0\)\. Did you mean 'item\.",
    "brand": "the column brand",
    "item IS NULL": "the column item",
    "user.Age > item.prise": r"the column item\.prise: .*Did you mean 'item\.price'",
    "_metadata.file_path = 'x'": "the column _metadata",
    "system.session.limit > 1": "the column system.session.limit",
    "item.*": r"\*: item\.\*",
    "size(array(*)) > 1": r"\*: \*",
    "struct(*) IS NULL": r": struct\(\*\)",
    # Not the same for everybody, each time.
    "session_user = 'root'": "the column session_user",
    "session_user() = 'root'": "the function session_user",
    "user() = 'root'": "the function user",
    "current_user = 'root'": "the column current_user",
    "version() > '3'": "the function version",
    "current_database() = 'a'": "the function current_database",
    "current_date > item.since": "the column current_date",
    "current_date() > item.since": "the function current_date",
    "now() > item.since": "the function now",
    "unix_timestamp() > 1": "the function unix_timestamp",
    "rand() < 0.5": "the function rand",
    "uuid() = 'a'": "the function uuid",
    "monotonically_increasing_id() > 3": "the function monotonically_increasing_id",
    "input_file_name() = 'a'": "the function input_file_name",
    "item.since > DATE 'today'": "another time each day: DATE 'today'",
    "item.since > date\t'yesterd\\u0061y'": "another time each day",
    "item.since > TIMESTAMP 'now'": "another time each day",
    "item.since > TIMESTAMP '12:30'": "another time each day",
    # More than one row.
    "count(*) > 0": "the function count",
    "sum(item.price) > 1": "the function sum",
    "first(item.price) > 1": "an aggregate function",
    "max(item.price) FILTER (WHERE true) > 1": "the function max",
    "row_number() OVER (ORDER BY item.price) < 3": "a window function",
    "explode(item.tags) = 'a'": "the function explode",
    # More than they get.
    "repeat('x', 2000000000) = item.title": r"the function repeat: repeat\('x', 2000000000\) \(line 1, pos 0\)",
    "item.title =\n  REPEAT('x', 2000000000)": r"the function repeat: REPEAT\('x', 2000000000\) \(line 2, pos 2\)",
    "lpad(item.title, 2000000000, 'x') = 'a'": "the function lpad",
    "space(2000000000) = 'a'": "the function space",
    "size(sequence(1, 2000000000)) > 1": "the function sequence",
    "size(array_repeat(1, 2000000000)) > 1": "the function array_repeat",
    "size(transform(item.tags, t -> item.tags)) > 1": "the function transform",
    "replace(replace(item.title, 'a', 'aaaaaaaa'), 'a', 'aaaaaaaa') = 'a'": "replace within another of its kind",
    "replace(concat('a', concat_ws(item.title, item.tags)), 'a', 'aa') = 'a'": "concat_ws within another",
    "exists(item.tags, t -> exists(array(concat(t, t)), u -> u = 'a'))": "-> within ->",
    "round(item.price, 10000000) = 1": r"a number of digits: round\(item\.price, 10000000\)",
    "round(item.price, user.age) = 1": "a number of digits",
    "item.title RLIKE '(a|b)*'": "a regular expression that repeats a group",
    "regexp_extract(item.title, '(x+x+)+y') = 'a'": "a regular expression that repeats a group",
    r"item.title RLIKE '\\Q[\\E(x+x+)+y'": "with .Q or the flag x",
    "item.title RLIKE '(?x)(x+x+) +y'": "with .Q or the flag x",
    r"item.title RLIKE r'a\\(?x)(x+x+) +y'": "with .Q or the flag x",
    r"item.title RLIKE r'\c[(?x)(x+x+) +y]'": "with .Q or the flag x",
    r"item.title RLIKE r'\c\(?x)(x+x+) +y'": "with .Q or the flag x",
    r"item.title RLIKE r'\c[(x+x+)+y]'": "repeats a group",
    "item.title RLIKE '(?ix)a'": "with .Q or the flag x",
    "item.title RLIKE item.category": "a regular expression that is no literal",
    "size(split(item.title, '(')) > 1": "no regular expression .Unclosed group",
    # Other code, other ends.
    "assert_true(item.price > 1) IS NULL": "the function assert_true",
    "raise_error('x') IS NULL": "the function raise_error",
    "reflect('java.lang.System', 'exit', 1) = 'a'": "the function reflect",
    "java_method('java.lang.System', 'exit', 1) = 'a'": "the function java_method",
    "my_udf(item.price)": "the function my_udf",
    "spark_catalog.default.lower(item.title) = 'a'": r"the function spark_catalog\.default\.lower",
    "IDENTIFIER('assert_true')(false) IS NULL": "IDENTIFIER",
    "lower(str => item.title) = 'a'": "a named argument",
    "item.price > 1 AS dear": "a name for the value",
    "item.title COLLATE UNICODE = 'a'": "Collate",
    # No expression, or more than one.
    "": "PARSE_EMPTY_STATEMENT",
    " \n ": "PARSE_EMPTY_STATEMENT",
    "-- nothing": "PARSE_SYNTAX_ERROR",
    "item.price >": r"PARSE_SYNTAX_ERROR.*\(line 1, pos 12\)",
    "item.price > 1; DROP TABLE items": "PARSE_SYNTAX_ERROR.* near ';'",
    "item.price > 1;": "PARSE_SYNTAX_ERROR.* near ';'",
    "item.price > 1, item.price > 2": "PARSE_SYNTAX_ERROR.* near ','",
    "item.price > 1 /* open": "UNCLOSED_BRACKETED_COMMENT",
    "/*+ BROADCAST(item) */ item.price > 1": "PARSE_SYNTAX_ERROR",
    "SELECT 1": "PARSE_SYNTAX_ERROR",
    "item.price \0 > 1": "PARSE_SYNTAX_ERROR",
    "item.title = 'a": "PARSE_SYNTAX_ERROR",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(spark):
    return spark.createDataFrame([], f"as_of timestamp, user struct<age:int>, {ITEMS}")


@pytest.mark.parametrize("sql", ALLOWED)
def test_an_expression_over_the_columns_is_read(spark, rows, sql):
    require_plain_sql(spark, sql, "rules.conditions.x", columns=COLUMNS)
    require_value(rows, sql, "rules.conditions.x", columns=COLUMNS, kind="boolean")


@pytest.mark.parametrize("sql", REFUSED)
def test_anything_else_is_refused_by_name(spark, sql):
    wanted = r"configuration, rules\.conditions\.x: wanted a SQL expression of columns"
    with pytest.raises(RecsysError, match=f"(?s){wanted}.*found .*{REFUSED[sql]}"):
        require_plain_sql(spark, sql, "rules.conditions.x", columns=COLUMNS)


TIMES_OF_TODAY = (
    "as_of > '00:00'",
    "CAST('T08:30' AS TIMESTAMP) < as_of",
    "timestamp('0:0') < as_of",
    "to_timestamp('08:30') < as_of",
    "if(user.age > 18, as_of > ' 8:30', false)",
    "as_of > if(user.age > 18, '2020-01-01', '08:30')",
    "coalesce(item.category, nvl(item.title, '08:30')) < as_of",
    "CASE WHEN user.age > 18 THEN '08:30' END = as_of",
    "nullif('08:30', item.category) < as_of",
)
OTHER_TIMES = (
    "item.title = '08:30'",
    "if(item.title = '08:30', '2020-01-01', '2020-06-01') < as_of",
    "to_timestamp(item.title || ' 08:30') < as_of",
    "as_of > '2020-01-01 08:30'",
    "date_format(as_of, 'HH:mm') > '08:30'",
    "to_timestamp('08:30', 'HH:mm') < as_of",
)


@pytest.mark.parametrize("sql", TIMES_OF_TODAY)
def test_a_text_that_is_a_time_of_today_is_no_moment(rows, sql):
    with pytest.raises(RecsysError, match=r"is another moment each day: write the whole date"):
        require_value(rows, sql, "rules.conditions.x", columns=COLUMNS, kind="boolean")


@pytest.mark.parametrize("sql", OTHER_TIMES)
def test_a_text_of_a_time_may_be_compared_with_texts(rows, sql):
    require_value(rows, sql, "rules.conditions.x", columns=COLUMNS, kind="boolean")


def test_the_functions_that_may_be_called_are_told(spark):
    with pytest.raises(RecsysError, match=r"Functions may be abs, add_months, .*, year, zeroifnull\.$"):
        require_plain_sql(spark, "hash(1) = 2", "x", columns=[])


def test_columns_have_any_name_and_fields(spark):
    columns = ["odd `name`", "a.b", "user", "ümlaut", "current_date", "x y"]
    for sql in ("`odd ``name``` = 'a'", "`a.b` > 1", "user.id = 1", "USER.id.part[0] = 1", "`ÜMLAUT` = 1", "`x y` = 1"):
        require_plain_sql(spark, sql, "events.where.x", columns=columns)
    with pytest.raises(RecsysError, match=r"the column odd: odd .*Known: a\.b, "):
        require_plain_sql(spark, "odd = 'a'", "events.where.x", columns=columns)
    with pytest.raises(RecsysError, match=r"the column names\.id: .* Known: "):
        require_plain_sql(spark, "names.id = 'a'", "events.where.x", columns=columns)


FLAT = {
    "AND": " AND ".join(["item.price > 1"] * 500),
    "OR": " OR ".join(["item.price > 1"] * 500),
    "IN": f"item.price IN ({', '.join(map(str, range(1_500)))})",
    "CASE": f"CASE {' '.join(f'WHEN item.price = {n} THEN true' for n in range(300))} END",
}
DEEP = {
    "brackets": "(" * 4_000 + "true" + ")" * 4_000,
    "brackets of both": "(true AND (false OR " * 300 + "true" + "))" * 300,
    "NOT": "!" * 9_000 + "true",
    "functions": "abs(" * 1_500 + "1" + ") > 0" + ")" * 1_499,
    "CASE": "CASE WHEN true THEN " * 380 + "true" + " END" * 380,
    "sums": " + ".join(["item.price"] * 700) + " > 1",
    "some sums": " + ".join(["item.price"] * 102) + " > 1",
    "indexes": "item.tags" + "[0]" * 3_000 + " = 1",
    "fields": "item.tags" + ".a" * 4_000 + " = 1",
    "types": f"CAST(NULL AS {'array<' * 700}int{'>' * 700}) IS NULL",
    "lambdas": "exists(item.tags, t -> " * 300 + "true" + ")" * 300,
    "length": "item.title = '" + "x" * 10_000 + "'",
}  # fmt: skip


@pytest.mark.parametrize("kind", FLAT)
def test_long_flat_expressions_are_read(spark, rows, kind):
    require_plain_sql(spark, FLAT[kind], "x", columns=COLUMNS)
    require_value(rows, FLAT[kind], "x", columns=COLUMNS, kind="boolean")


@pytest.mark.parametrize("kind", DEEP)
def test_what_would_overflow_the_stack_is_refused_and_spark_goes_on(spark, kind):
    faults = "TOO_COMPLEX|StackOverflowError|100 operators|100 types|10,015 characters|a function of its kind|->"
    with pytest.raises(RecsysError, match=faults) as raised:
        require_plain_sql(spark, DEEP[kind], "x", columns=COLUMNS)
    assert len(str(raised.value)) < 1_000, "no text of thousands of letters is repeated"
    require_plain_sql(spark, "item.price > 1", "x", columns=COLUMNS)


def test_the_deepest_expression_that_is_read_runs_on_rows(spark):
    sums = " + ".join(["abs(n)"] * (plain.MAX_DEPTH - 1)) + " > 1"
    brackets = "coalesce(n > 0 AND " * (plain.MAX_DEPTH // 2 - 1) + "true" + ")" * (plain.MAX_DEPTH // 2 - 1)
    for sql in (sums, brackets):
        require_plain_sql(spark, sql, "x", columns=["n"])
        assert spark.range(3).toDF("n").where(sql).count() == 2


@pytest.mark.parametrize(
    ("sql", "kind", "message"),
    [
        ("item.price", "boolean", r"wanted a SQL expression that is true or false; found item\.price \(its value is d"),
        ("lower(item.price, 1) = 'a'", "boolean", r"WRONG_NUM_ARGS.*\)\. Columns are as_of, item\.price, "),
        ("item.tags + 1 > 2", "boolean", "DATATYPE_MISMATCH"),
        ("item.tags.a.b", "", r"found item\.tags\.a\.b \(.*INVALID_EXTRACT"),
        ("date_part('foo', as_of)", "", "INVALID_EXTRACT_FIELD"),
        ("lower(DISTINCT item.title)", "", "DISTINCT"),
    ],
)
def test_what_spark_cannot_work_out_over_the_columns_is_refused(rows, sql, kind, message):
    with pytest.raises(RecsysError, match=message) as raised:
        require_value(rows, sql, "rules.conditions.x", columns=COLUMNS, kind=kind)
    assert str(raised.value).count("\n") == 0 and "==" not in str(raised.value)


def test_every_function_of_the_list_is_one_of_sparks_own_and_stands_in_the_documentation(spark):
    listed = [name for names in plain.FUNCTIONS.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert set(listed) <= {row.function for row in spark.sql("SHOW SYSTEM FUNCTIONS").collect()}
    text = (pathlib.Path(plain.__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    for kind, names in plain.FUNCTIONS.items():
        assert names.split() == sorted(names.split())
        assert f"- {kind}: `{'`, `'.join(names.split())}`" in " ".join(text.split())
