"""Rules over items and users: what they bar, what they say when they cannot be meant, what lists become of them."""

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import functions as F

from recsys_spark.config import RulesConfig, RuleTableConfig
from recsys_spark.errors import RecsysError
from recsys_spark.rules import describe_rules, load_rules
from recsys_spark.tables.catalog import ITEMS, SEGMENTS
from recsys_spark.tables.store import Store
from recsys_spark.transforms.lists import add_pins, make_lists, rank_lists
from recsys_spark.transforms.rules import (
    USER,
    Rules,
    allow_items,
    allowed_pairs,
    group_items,
    number_segments,
    rules_of_users,
)

pytestmark = pytest.mark.spark

MAY, JUNE = datetime(2020, 5, 1, tzinfo=UTC), datetime(2020, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PAIR = "user_id string, item_id string"
GROUPS = "item_id string, groups array<bigint>"
CATALOGUE = [  # item_id, category, price, available_from, available_to
    ("a", "wine", 9.0, None, None),
    ("b", "wine", 3.0, None, JUNE),
    ("c", "soap", 2.0, JUNE, None),
    ("d", None, None, MAY, None),
    ("e", "soap", 4.0, None, MAY),
]
CONDITIONS = {
    "available": "coalesce(item.available_from <= as_of, true) AND coalesce(as_of < item.available_to, true)",
    "in_budget": "item.price <= coalesce(user.budget, 100)",
    "no_wine_for_minors": "item.category <> 'wine' OR user.age >= 18",
}


@pytest.fixture(scope="module")
def items(spark):
    columns = "item_id string, category string, price double, available_from timestamp, available_to timestamp"
    rows = spark.createDataFrame(CATALOGUE, columns)
    missing = {name.name: F.lit(None).cast(name.sql_type) for name in ITEMS.columns if name.name not in rows.columns}
    return ITEMS.select(rows.withColumns(missing))


@pytest.fixture(scope="module")
def index(spark):
    numbers = [(row[0], 40_000 * n) for n, row in enumerate(CATALOGUE)]
    return spark.createDataFrame(numbers, "item_id string, item_idx int")


@pytest.fixture(scope="module")
def users(spark):
    rows = [(user, split, as_of) for user in "uvw" for split, as_of in (("validation", MAY), ("test", JUNE))]
    return spark.createDataFrame(rows, "user_id string, split string, as_of timestamp")


@pytest.fixture(scope="module")
def rules(spark):
    columns = "user_id string, age int, budget double, note string"
    people = spark.createDataFrame([("u", 30, 5.0, "x"), ("v", 12, None, "y")], columns)
    return Rules(CONDITIONS, {"item.category": 2}, user_tables=(people,))


def allowed_by_hand(user, as_of):
    """item_ids, written down from CATALOGUE: w is unknown, so no wine for it."""
    wine = {"u"}
    budget = {"u": 5.0}.get(user, 100)
    return {
        item_id
        for item_id, category, price, first, last in CATALOGUE
        if (first is None or first <= as_of)
        and (last is None or as_of < last)
        and price is not None
        and price <= budget
        and (category != "wine" or user in wine)
    }


def test_a_segment_allows_the_items_for_which_every_condition_is_true(spark, users, items, index, rules):
    segmented = number_segments(users, rules)
    segments = segmented.select("segment", "as_of", "user_facts", USER).distinct()
    rows = {row.segment: row for row in allow_items(segments, items, index, rules).collect()}
    ids = {row.item_idx: row.item_id for row in index.collect()}
    found = {}
    for user in segmented.collect():
        row = rows[user.segment]
        bits = {64 * word.word + bit for word in row.allowed for bit in range(64) if word.bits >> bit & 1}
        found[user.user_id, user.split] = {ids[idx] for idx in bits}
    wanted = {
        (user, split): allowed_by_hand(user, as_of)
        for user in "uvw" for split, as_of in (("validation", MAY), ("test", JUNE))
    }  # fmt: skip
    assert found == wanted
    assert len(rows) == 6, "as many as there are users and cut-offs: each user's facts differ"
    of_v = next(row for row in rows.values() if row.user_facts == '{"age":12}' and row.as_of.astimezone(UTC) == JUNE)
    assert of_v.barred_by == {"available": 2, "in_budget": 1, "no_wine_for_minors": 3}


def test_users_whom_no_condition_tells_apart_are_one_segment(users, rules):
    alike = Rules({"cheap": "item.price < 5 AND as_of > '2000-01-01'"}, {}, user_tables=rules.user_tables)
    assert number_segments(users, alike).select("segment").distinct().count() == 2, "one for each cut-off"
    by_note = Rules({"noted": "user.`note` = 'x'"}, {}, user_tables=rules.user_tables)
    assert number_segments(users, by_note).select("segment").distinct().count() == 6


@pytest.mark.parametrize("name", ["user.age", "USER.Age", "`user`.`age`", "user . age", "user\n.`AGE`"])
def test_a_column_counts_however_it_is_written(users, rules, name):
    grown_up = Rules({"grown_up": f"{name} >= 18"}, {}, user_tables=rules.user_tables)
    facts = number_segments(users, grown_up).select("user_facts").distinct().collect()
    assert sorted(row.user_facts for row in facts) == ['{"age":12}', '{"age":30}', "{}"]


def test_facts_that_are_null_in_other_places_are_other_segments(spark, users):
    people = spark.createDataFrame([("u", None, "x"), ("v", "x", None)], "user_id string, home string, work string")
    both = Rules({"near": "user.home = 'x' OR user.WORK = 'x'"}, {}, user_tables=(people,))
    facts = number_segments(users, both).where("split = 'test'").select("segment", "user_facts").distinct().collect()
    assert sorted(row.user_facts for row in facts) == ['{"home":"x"}', '{"work":"x"}', "{}"]
    assert len({row.segment for row in facts}) == 3


NEIGHBOURS = {
    "timestamp": ("timestamp'2020-05-01 10:00:00.123456'", "timestamp'2020-05-01 10:00:00.123457'"),
    "early": ("timestamp'1950-05-01 10:00:00.000001'", "timestamp'1950-05-01 10:00:00'"),
    "no zone": ("timestamp_ntz'2020-05-01 10:00:00.000001'", "timestamp_ntz'2020-05-01 10:00:00.000002'"),
    "inside": ("array(timestamp'2020-05-01 10:00:00.000001')", "array(timestamp'2020-05-01 10:00:00.000002')"),
    "interval": ("interval '0.000001' second", "interval '0.000002' second"),
    "date": ("date'1950-05-01'", "date'-1950-05-01'"),
    "decimal": ("100000000000000000000.000000000000001BD", "100000000000000000000.000000000000002BD"),
    "bigint": ("9007199254740993L", "9007199254740992L"),
    "double": ("1e16D", "1e16D + 2D"),
    "float": ("float('0.1')", "float('0.10000001')"),
    "not a number": ("double('NaN')", "double('Infinity')"),
    "binary": ("X'00FF'", "X'00FE'"),
    "null inside": ("array(1, null)", "array(null, 1)"),
    "null in a map": ("map('a', cast(null AS int))", "cast(map() AS map<string,int>)"),
}


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_values_that_differ_at_all_are_other_segments_and_other_groups(spark, items, index, kind):
    """Three users and items: the two values, and the first one again."""
    low, high = NEIGHBOURS[kind]
    values = spark.sql(f"SELECT * FROM VALUES ('a', {low}), ('b', {high}), ('c', {low}) AS t(id, fact)")
    of_users, of_items = (values.withColumnRenamed("id", name) for name in ("user_id", "item_id"))
    rules = Rules({"any": "user.fact IS NOT NULL"}, {"item.fact": 1}, item_tables=(of_items,), user_tables=(of_users,))
    users = of_users.select("user_id", F.lit("test").alias("split"), F.lit(JUNE).alias("as_of"))
    segments = {row.user_id: row.segment for row in number_segments(users, rules).drop("user").collect()}
    groups = {row.item_id: row.groups for row in group_items(items, index, rules).collect()}
    assert segments["a"] == segments["c"] != segments["b"]
    assert groups["a"] == groups["c"] != groups["b"]


def test_pairs_are_allowed_as_segments_are(spark, items, rules):
    every_pair = [(u, row[0], 1.5) for u in "uvw" for row in CATALOGUE]
    pairs = spark.createDataFrame(every_pair, f"{PAIR}, score double")
    blocked = pairs.where("user_id = 'u' AND item_id = 'c'")
    blocking = Rules(rules.conditions, {}, user_tables=rules.user_tables, blocked=blocked)
    left = allowed_pairs(pairs, items, blocking, as_of=JUNE)
    assert left.columns == pairs.columns
    wanted = {(user, item) for user in "uvw" for item in allowed_by_hand(user, JUNE)} - {("u", "c")}
    assert {(row.user_id, row.item_id) for row in left.collect()} == wanted
    assert allowed_pairs(pairs, items, Rules({}, {}), as_of=JUNE).count() == 15


def test_blocked_items_come_as_numbers_in_order(spark, users, index, rules):
    blocked = spark.createDataFrame([("u", "c"), ("u", "a"), ("u", "unknown"), ("x", "a")], PAIR)
    rows = rules_of_users(number_segments(users, rules), index, Rules({}, {}, blocked=blocked)).collect()
    assert {(row.user_id, row.split): row.blocked for row in rows} == {
        (user, split): [0, 80_000] if user == "u" else [] for user in "uvw" for split in ("validation", "test")
    }


def test_groups_are_equal_for_equal_values_and_null_for_none(items, index):
    rules = Rules({}, {"item.category": 1, "upper(item.category)": 2})
    groups = {row.item_id: row.groups for row in group_items(items, index, rules).collect()}
    assert groups["a"] == groups["b"] != groups["c"] == groups["e"]
    assert groups["d"] == [None, None] and groups["a"][0] != groups["a"][1]
    assert group_items(items, index, Rules({}, {})).count() == 0


# --- lists ------------------------------------------------------------------------------------------------------------

ROWS = "seen_rule string, user_id string, item_id string, score double, sources array<string>"


def listed(frame):
    rows = frame.orderBy("seen_rule", "user_id", "rank").collect()
    assert [row["rank"] for row in rows] == [*range(1, len(rows) + 1)]
    return " ".join(row.item_id for row in rows)


def rows_of(spark, scores):
    rows = [("keep", "u", item, float(score), ["towers"]) for item, score in scores.items()]
    return spark.createDataFrame(rows, ROWS)


@pytest.mark.parametrize(
    ("most", "list_size", "wanted"),
    [
        ((), 9, "p q r s t"),
        ((1, 9), 9, "p r t"),  # q is of p's first group, s of r's
        ((2, 1), 9, "p s t"),  # q, r: p's second group; then s; t has none
        ((2, 1), 2, "p s"),
        ((1, 1), 9, "p t"),
    ],
)
def test_a_list_passes_over_items_whose_group_has_its_number(spark, most, list_size, wanted):
    groups = {"p": [1, 7], "q": [1, 7], "r": [2, 7], "s": [2, 8] if most != (1, 1) else [1, 8], "t": [None, None]}
    frame = spark.createDataFrame([*groups.items()], GROUPS)
    rows = rows_of(spark, dict(zip("pqrst", (5, 4, 3, 2, 1), strict=True)))
    rows = rows.withColumn("position", F.lit(None).cast("int"))
    assert listed(make_lists(rows, frame, most=most, list_size=list_size)) == wanted


@pytest.mark.parametrize(
    ("pins", "list_size", "wanted"),
    [
        ({}, 4, "p q r s"),
        ({"z": 1}, 4, "z p q r"),
        ({"z": 3, "r": 1}, 4, "r p z q"),
        ({"z": 4}, 9, "p q r z s"),
        ({"z": 9}, 9, "p q r s z"),  # nothing to fill the places before it
        ({"z": 2, "y": 2}, 4, "p y q r"),  # two for one place: the smaller id
        ({"z": 1, "y": 2}, 2, "z y"),
    ],
)
def test_pinned_items_take_their_places_and_the_others_fill_the_rest(spark, pins, list_size, wanted):
    rows = rows_of(spark, dict(zip("pqrs", (5, 4, 3, 2), strict=True)))
    places = [("keep", "u", item, position) for item, position in pins.items()]
    pinned = spark.createDataFrame(places, "seen_rule string, user_id string, item_id string, position int")
    groups = spark.createDataFrame([], GROUPS)
    made = make_lists(add_pins(rows, pinned), groups, most=(), list_size=list_size)
    assert listed(made) == wanted
    sources = {row.item_id: row.sources for row in made.collect()}
    wanted_sources = {item: ["pinned", "towers"] if item in "pqrs" else ["pinned"] for item in pins}
    assert all(sources[item] == wanted_sources[item] for item in pins if item in sources)


def test_pins_obey_conditions_block_lists_and_seen_rules_and_count_for_caps(spark, items):
    both = rows_of(spark, {"c": 3.0, "e": 2.0, "a": 1.0})
    blended = both.unionByName(both.withColumn("seen_rule", F.lit("drop for 10 days")))
    had = [("u", "b", JUNE - 9 * DAY), ("u", "e", JUNE - 10 * DAY)]
    own = spark.createDataFrame(had, f"{PAIR}, last_ts timestamp")
    pinned = spark.createDataFrame(
        [("b", 1), ("e", 2), ("d", 3), ("a", 4), ("gone", 5)], "item_id string, position int"
    )
    rules = Rules(
        {"priced": "item.price IS NOT NULL"}, {"item.category": 1}, pinned=pinned,
        blocked=spark.createDataFrame([("u", "a")], PAIR),
    )  # fmt: skip
    numbers = {"wine": 1, "soap": 2}
    groups = spark.createDataFrame([(row[0], [numbers.get(row[1])]) for row in CATALOGUE], GROUPS)
    users = spark.createDataFrame([("keep", "u"), ("drop for 10 days", "u")], "seen_rule string, user_id string")
    ranked = rank_lists(blended, users, own, items, groups, rules, as_of=JUNE, list_size=5)
    # keep: b (wine) and e (soap) are pinned, which leaves no place for c (soap) and a (wine).
    # drop for 10 days: b was had 9 days ago, so a may stand, unpinned, since that is blocked.
    assert listed(ranked.where("seen_rule = 'keep'")) == "b e"
    assert listed(ranked.where("seen_rule <> 'keep'")) == "a e"


# --- reading ----------------------------------------------------------------------------------------------------------


def config(tmp_path, **tables):
    """RulesConfig with CSV files of the given texts: stock of items, people of users, blocked, pinned."""

    def table(name, text):
        (tmp_path / f"{name}.csv").write_text(text)
        header = text.splitlines()[0].split(",")
        return {"source": {"format": "csv", "path": str(tmp_path / f"{name}.csv")}, "columns": {h: h for h in header}}

    made = {name: table(name, text) for name, text in tables.items() if isinstance(text, str)}
    return RulesConfig(
        item_tables={"stock": made["stock"]} if "stock" in made else {},
        user_tables={"people": made["people"]} if "people" in made else {},
        conditions=tables.get("conditions", {}),
        caps=tables.get("caps", {}),
        blocked=made.get("blocked"),
        pinned=made.get("pinned"),
        max_segments=10,
    )


def tables(**given):
    return {name: RuleTableConfig.model_validate(table) for name, table in given.items()}


def test_tables_are_read_with_their_columns(spark, tmp_path, items):
    found = load_rules(
        spark,
        config(
            tmp_path, stock="item_id,units\na,0\nc,2\n", people="user_id,region\nu,north\n",
            blocked="user_id,item_id\nu,c\nu,c\n", pinned="item_id,position\na,1\n",
            conditions={"in_stock": "item.units > 0", "north": "user.region = 'north'"}, caps={"item.category": 3},
        ),
        list_size=5,
    )  # fmt: skip
    pairs = spark.createDataFrame([("u", "a"), ("u", "c"), ("v", "c")], PAIR)
    assert allowed_pairs(pairs, items, found, as_of=JUNE).count() == 0, "a is out of stock, c blocked, v not north"
    assert found.blocked.count() == 1
    assert [tuple(row) for row in found.pinned.collect()] == [("a", 1)]


def test_ids_are_read_as_ingest_reads_them_and_a_block_list_may_be_empty(spark, tmp_path):
    blocked = "user_id,item_id\nu \u00a0, a\n"
    found = load_rules(spark, config(tmp_path, blocked=blocked, pinned="item_id,position\n"), list_size=5)
    assert [tuple(row) for row in found.blocked.collect()] == [("u", "a")]
    assert found.pinned.count() == 0


ODD_NAMES = ["odd `name`", "a.b", "a.b.c", "_metadata", "", " ", "x y", "item_id.x", "ünïcode", "select", "*", "${x}"]


def test_columns_that_no_rule_names_may_have_any_name(spark, tmp_path):
    source = {"format": "csv", "path": str(tmp_path / "stock.csv")}
    header = ",".join(["sku", *ODD_NAMES, "on.`hand`"])
    (tmp_path / "stock.csv").write_text(f"{header}\na{',z' * len(ODD_NAMES)},7\n")
    stock = {"source": source, "columns": {"sku": "item_id", "on.`hand`": "on_hand", "_metadata": "made_of"}}
    rules = load_rules(spark, config(tmp_path).model_copy(update={"item_tables": tables(stock=stock)}), list_size=5)
    assert [tuple(row) for row in rules.item_tables[0].collect()] == [("a", "7", "z")]


def test_fields_of_json_objects_are_columns_of_rules(spark, tmp_path):
    source = {"format": "jsonl", "path": str(tmp_path / "people.jsonl")}
    (tmp_path / "people.jsonl").write_text('{"user": {"id": 7, "home `town`": "x"}, "_metadata": {"a.b": 1}}\n')
    people = {"source": source, "columns": {"user.id": "user_id", "user.home `town`": "home"}}
    rules = load_rules(spark, config(tmp_path).model_copy(update={"user_tables": tables(people=people)}), list_size=5)
    assert [tuple(row) for row in rules.user_tables[0].collect()] == [("7", "x")]


def test_a_quote_that_nobody_closes_takes_no_rows_with_it(spark, tmp_path):
    source = {"format": "csv", "path": str(tmp_path / "blocked.csv"), "options": {"multiLine": "true"}}
    (tmp_path / "blocked.csv").write_text('user_id,item_id,why\nu1,a,"27 inch\nu2,b,x\nu3,c,"y"\n')
    blocked = {"source": source, "columns": {"user_id": "user_id", "item_id": "item_id"}}
    given = config(tmp_path).model_copy(update={"blocked": tables(blocked=blocked)["blocked"]})
    with pytest.raises(RecsysError, match=r"blocked\.source\.path: wanted rows of csv that can be read; found 1 that"):
        load_rules(spark, given, list_size=5)


def test_ids_that_cannot_be_decoded_bar_nobody_in_silence(spark, tmp_path):
    source = {"format": "csv", "path": str(tmp_path / "blocked.csv")}
    (tmp_path / "blocked.csv").write_bytes("user_id,item_id\nMüller,a\nAnn,a\n".encode("iso-8859-1"))
    blocked = {"source": source, "columns": {"user_id": "user_id", "item_id": "item_id"}}
    given = config(tmp_path).model_copy(update={"blocked": tables(blocked=blocked)["blocked"]})
    with pytest.raises(RecsysError, match=r"rules\.blocked: wanted .* that can be decoded; found 1 rows with bytes"):
        load_rules(spark, given, list_size=5)


def test_texts_that_cannot_be_decoded_are_told_before_a_rule_compares_them(spark, tmp_path):
    source = {"format": "csv", "path": str(tmp_path / "blocked.csv")}
    (tmp_path / "blocked.csv").write_bytes("user_id,item_id,why\nAnn,a,S\u00fcd\n".encode("iso-8859-1"))
    blocked = {"source": source, "columns": {"user_id": "user_id", "item_id": "item_id", "why": "why"}}
    given = config(tmp_path).model_copy(update={"blocked": tables(blocked=blocked)["blocked"]})
    with pytest.raises(RecsysError, match=r"wanted user_id, item_id, why that can be decoded; found 1 rows with bytes"):
        load_rules(spark, given, list_size=5)


def test_what_rules_come_to_is_told(spark, items, tmp_path):
    bars = [({"stock": 5000, "region": 30},), ({"stock": 5000, "region": 90},)]
    segments = spark.createDataFrame(bars, "barred_by map<string,bigint>")
    rules = load_rules(spark, config(tmp_path, blocked="user_id,item_id\nu,a\nu,nothing\n"), list_size=5)
    told = "stock bars 5,000 items, region bars 30 to 90 items, blocked: 1 of 2 rows name an item of ITEMS"
    assert describe_rules(rules, items, segments) == told
    nothing = describe_rules(Rules({}, {}), items, segments.where("false"))
    assert nothing == "no conditions, no block list: any item may be listed"


@pytest.mark.parametrize(
    "sql",
    [
        "item.units > 0",
        "to_date(item.units) < as_of",
        "to_timestamp(item.units, 'yyyy-MM-dd') < as_of",
        "1 % size(split(item.units, '/')) > 0 AND element_at(split(item.units, '/'), 3) = 'a'",
        "make_date(2020, length(item.units) * 5, 1) < as_of",
        "CAST(length(item.units) * 1000 AS decimal(3,1)) > 0",
        "size(map(item.units, 1, 'n/a', 2)) > 1",
        "from_utc_timestamp(as_of, item.units) > as_of",
    ],
)
def test_a_value_that_sql_cannot_work_with_is_told_without_a_stack_trace(spark, tmp_path, items, users, index, sql):
    given = config(tmp_path, stock="item_id,units\na,n/a\n", conditions={"s": sql})
    rules = load_rules(spark, given, list_size=5)
    segments = number_segments(users, rules).select("segment", "as_of", "user_facts", USER).distinct()
    store = Store(spark, str(tmp_path / "warehouse"))
    rows = allow_items(segments, items, index, rules).withColumns({"run_id": F.lit("r"), "rules_hash": F.lit("h")})
    with pytest.raises(
        RecsysError, match=r"table SEGMENTS: wanted values that .* found .*\. Nothing was .*Write try_cast"
    ):
        store.replace(SEGMENTS, rows, {"run_id": "r"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stock": "item_id,units\na,1\na,2\n"}, r"tables\.stock: wanted one row for each item_id; found 2 rows, 1 "),
        ({"people": "user_id,age\n \u00a0,1\n"}, r"people: wanted user_id in each row; found 1 rows without"),
        ({"blocked": "user_id,item_id\nu,\n"}, r"blocked: wanted user_id and item_id in each row; found 1 "),
        ({"stock": "item_id,units\na,1,9\n"}, r"stock\.source\.path: wanted rows of csv .* found 1 that cannot"),
        ({"stock": "item_id,price\na,1\n"}, r"stock\.columns: wanted names of its own; found price, which ITEMS has"),
        ({"pinned": "item_id,position\na,6\nb,x\nc,5\n"}, r"pinned: wanted positions from 1 to 5 .* found 2 rows"),
        ({"conditions": {"cheap": "item.prise < 5"}}, r"\.cheap: .* the column item\.prise: .*mean 'item\.price'"),
        ({"conditions": {"cheap": "item.price"}}, r"conditions\.cheap: .*\(its value is double\)"),
        ({"conditions": {"cheap": "item.price <"}}, r"conditions\.cheap: .* found item\.price <"),
        ({"conditions": {"luck": "rand() < 0.5"}}, r"conditions\.luck: .* found the function rand: rand\(\)"),
        ({"conditions": {"late": "now() > '2020-01-01'"}}, r"conditions\.late: .* found the function now: now\(\)"),
        ({"conditions": {"odd": "item_id <> 'x'"}}, r"conditions\.odd: .* the column item_id: .* mean 'item\.item_id'"),
        ({"conditions": {"in": "item.brand IN (SELECT value FROM csv.`/etc/passwd`)"}}, r"\.in: .* found a subquery"),
        ({"caps": {"(SELECT max(value) FROM csv.`/etc/passwd`)": 1}}, r"rules\.caps, .* found a subquery"),
        ({"caps": {"repeat(item.brand, 2000000000)": 1}}, r"rules\.caps, .* found the function repeat"),
        ({"caps": {"session_user": 1}}, r"rules\.caps, session_user: .* found the column session_user"),
        ({"conditions": {"many": "count(*) > 0"}}, r"conditions\.many: wanted a SQL expression"),
        ({"conditions": {"c": "user.a = 'x'"}, "people": "user_id,b\nu,1\n"}, r"the column user\.a: .* mean 'user\.b'"),
        ({"caps": {"item.categry": 3}}, r"rules\.caps, item\.categry: .* mean 'item\.category'"),
        ({"caps": {"user.region": 3}, "people": "user_id,region\nu,1\n"}, r"caps, user\.region: .* the column user\."),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_runs(spark, tmp_path, given, message):
    with pytest.raises(RecsysError, match=message):
        load_rules(spark, config(tmp_path, **given), list_size=5)
