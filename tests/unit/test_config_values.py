"""Texts that stay as they are typed; ranges, rules and letters of every setting."""

import pytest

from recsys_spark.config import Config

# --- texts -----------------------------------------------------------------------------------------------------------

TEXTS = (
    ("run", "id"), ("warehouse",), ("landing",), ("encoder",), ("events", "batch"), ("events", "source", "path"),
    ("events", "source", "options", "nullValue"), ("events", "where", "x"), ("rules", "conditions", "x"),
    ("spark", "spark.x"), ("tracking", "experiment"), ("tracking", "model_name"), ("tracking", "artifacts"),
)  # fmt: skip


def value_at(tree, keys):
    for key in keys:
        tree = tree[key]
    return tree


@pytest.mark.parametrize(
    "typed", ["0712", "20261126_01", "0x10", "010", "1_000", "1e3", "1.50", "2026_11", "2017-12-04", "yes", "off"]
)
def test_a_text_stays_as_it_is_typed_in_files_and_on_the_command_line(load, typed):
    files = ["".join(f"{'{'}{key}: " for key in keys) + typed + "}" * len(keys) for keys in TEXTS]
    settings = [f"{'.'.join(keys)}={typed}" for keys in TEXTS]
    for config in (load(texts=files), load(*settings)):
        assert {keys: value_at(config.recorded(), keys) for keys in TEXTS} == dict.fromkeys(TEXTS, typed)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("item_text.template={title}", "{title}"),
        ("item_text.template='{title}'", "{title}"),
        ('item_text.template="{title}\\n"', "{title}\n"),
        ("item_text.template={title}: # 1", "{title}: # 1"),
        ("events.source.options.sep=|", "|"),
        ("events.source.options.sep= ", " "),
        ("events.source.options.sep=\x01", "\x01"),
        ("events.source.options.sep==", "="),
        ("events.source.options.nullValue=''", ""),
        ("events.source.path=*.csv", "*.csv"),
        ("events.source.path=/in/[ab]{c,d} # 1", "/in/[ab]{c,d} # 1"),
        ("events.batch=12:30", "12:30"),
        ("events.batch=yes # today", "yes # today"),
        ("rules.conditions.x=item.a = 'b' # c", "item.a = 'b' # c"),
        ("rules.conditions.x='b' = item.a", "'b' = item.a"),
        ("rules.conditions.x='b' # c", "'b' # c"),
        ("rules.conditions.x=[1", "[1"),
        ("rules.conditions.x=  a", "  a"),
        ("events.where.a.b=Quantity > 0", "Quantity > 0"),
        ("tracking.artifacts=null", None),
    ],
)
def test_a_text_on_the_command_line_needs_no_quotes(load, setting, value):
    path = setting.partition("=")[0]
    config = load(setting)
    names = {"events.where.a.b": ("events", "where", "a.b")}
    assert value_at(config.recorded(), names.get(path, path.split("."))) == value


def test_texts_in_maps_and_lists_and_the_names_in_maps_stay_as_typed(load):
    config = load(
        "split.target_event_types=[purchase, 0712]",
        "rules.caps.1=3",
        "rules.caps.item.category=2",
        "rules.conditions.0712=true",
        texts=[
            """
            events:
              columns: {007: user_id, user.id: context, no: item_id, 1_0: ts}
              source: {options: {sep: =, comment: <<, multiLine: true, samplingRatio: 0.10}}
              missing: [0, 00, -, n/a, 1e3]
              where: {1: 1, 2.50: x}
            items: {columns: {sku: item_id, 12:30: attributes.0x1, name: title}}
            spark: {spark.x: 010, spark.y: true, spark.z: 1e3}
            sequences: {event_types: [0712, on, purchase]}
            rules: {user_tables: {08: {source: {format: csv, path: 09}, columns: {0: user_id, 1.0: a}}}}
            """
        ],
    )
    assert config.split.target_event_types == ["purchase", "0712"]
    assert config.sequences.event_types == ["0712", "on", "purchase"]
    assert config.events.columns == {"007": "user_id", "user.id": "context", "no": "item_id", "1_0": "ts"}
    assert config.events.source.options == {"sep": "=", "comment": "<<", "multiLine": "true", "samplingRatio": "0.10"}
    assert config.events.missing == ["0", "00", "-", "n/a", "1e3"]
    assert config.events.where == {"1": "1", "2.50": "x"}
    assert config.items.columns == {"sku": "item_id", "12:30": "attributes.0x1", "name": "title"}
    assert config.spark == {"spark.x": "010", "spark.y": "true", "spark.z": "1e3"}
    assert config.rules.caps == {"1": 3, "item.category": 2}
    assert config.rules.conditions == {"0712": "true"}
    assert config.rules.user_tables["08"].source.path == "09"
    assert config.rules.user_tables["08"].columns == {"0": "user_id", "1.0": "a"}


def test_numbers_are_read_as_people_write_them(load):
    train = load("train.epochs=1_0", "train.ranks=004", "train.learning_rate=1e-3", "train.weight_decay=1_0e-2").train
    assert (train.epochs, train.ranks, train.learning_rate, train.weight_decay) == (10, 4, 0.001, 0.1)


def test_one_option_or_column_on_the_command_line_leaves_its_neighbours(load):
    config = load(
        "events.source.options.sep=|", "events.columns.paid=value", texts=["events: {source: {options: {a: b}}}"]
    )
    assert config.events.source.options == {"a": "b", "sep": "|"}
    assert config.events.columns == {"who": "user_id", "what": "item_id", "when": "ts", "paid": "value"}


def test_a_later_file_replaces_lists_whole_and_adds_to_named_conditions(load):
    texts = ["events: {where: {a: x > 1, b: y}, missing: [none]}", "events: {where: {a: null, c: z}, missing: []}"]
    events = load(texts=texts).events
    assert (events.where, events.missing) == ({"b": "y", "c": "z"}, [])
    assert load(texts=texts[:1]).events.missing == ["none"]
    assert load().items.missing == ["NaN", "N/A", "#N/A", "<NA>", "None", "null", "\\N", "-"]
    assert (load().events.repeats, load().events.decimal, load("items.decimal=,").items.decimal) == ("refuse", ".", ",")


# --- ranges, rules and letters ---------------------------------------------------------------------------------------


def numbers_of(tree, prefix=""):
    """(path, how a number there is written) of every number in a recorded configuration."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from numbers_of(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], int | float):
            yield f"{prefix}{key}", "[{}]"
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", "{}"


@pytest.mark.parametrize(
    "typed", ["inf", "-inf", ".inf", "nan", ".nan", "1e400", f"1{'0' * 20}", "-1", "1 0", "0x1f", "a", "''"]
)
def test_no_number_of_any_section_may_be_this(load, problems, typed):
    places = dict(numbers_of(load().recorded()))
    assert len(places) > 45
    found = problems(*(f"{path}={written.format(typed)}" for path, written in places.items()))
    assert {line.partition(":")[0].removesuffix(".0") for line in found} == set(places)


def texts_of(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from texts_of(value, f"{prefix}{key}.")
        elif isinstance(value, str) and key != "test_start":
            yield f"{prefix}{key}"


@pytest.mark.parametrize("typed", ["a\x00b", "\x1b[31m", "\udcff", " ", "a\x7f"])
def test_no_text_of_any_section_may_be_this(load, problems, typed):
    paths = set(texts_of(load().recorded()))
    assert len(paths) > 20
    found = problems(*(f"{path}={typed}" for path in paths))
    told = {line.partition(":")[0] for line in found}
    mapped = {path for path in paths if ".columns." in path}  # their targets are told together
    assert told >= paths - mapped


def test_every_number_text_and_list_has_its_bounds():
    """Of sections too that conf/base.yaml leaves empty, and of those that will be added."""
    schema = Config.model_json_schema()
    unbounded = []

    def look(node, path):
        kind = node.get("type")
        if kind in ("integer", "number") and not (
            {"maximum", "exclusiveMaximum"} & set(node) and {"minimum", "exclusiveMinimum"} & set(node)
        ):
            unbounded.append(path)
        if kind == "array" and "maxItems" not in node:
            unbounded.append(path)
        is_free = path.endswith(("options.*", "spark.*"))  # Spark's to judge
        if kind == "string" and not {"maxLength", "enum", "const", "format"} & set(node) and not is_free:
            unbounded.append(path)
        for name, below in node.get("properties", {}).items():
            look(below, f"{path}.{name}")
        for below in (*node.get("anyOf", ()), *node.get("allOf", ())):
            look(below, path)
        for name in ("items", "additionalProperties"):
            if isinstance(node.get(name), dict):
                look(node[name], f"{path}.*")

    for name, section in {**schema["$defs"], "Config": schema}.items():
        look(section, name)
    assert unbounded == []


LONG = "a" * 201


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("run.seed=-1", 'run.seed: wanted greater than or equal to 0; found "-1".'),
        ("run.seed=4294967296", "run.seed: wanted less than 4294967296; found"),
        (f"run.id={LONG}", "run.id: wanted at most 200 letters; found"),
        ("train.learning_rate=.inf", "train.learning_rate: wanted a valid number; found"),
        ("train.learning_rate=inf", "train.learning_rate: wanted a finite number; found"),
        ("train.weight_decay=nan", "train.weight_decay: wanted a finite number; found"),
        ("train.learning_rate=0", "train.learning_rate: wanted greater than 0; found"),
        ("train.learning_rate=2", "train.learning_rate: wanted less than or equal to 1; found"),
        ("train.ranks=100000", "train.ranks: wanted less than or equal to 1024; found"),
        ("model.dropout=1", "model.dropout: wanted less than 1; found"),
        ("model.id_min_targets=2147483648", "wanted less than or equal to 2147483647; found"),
        ("evaluate.popular_days=36501", "evaluate.popular_days: wanted less than or equal to 36500; found"),
        ("rank.history_decay_days=inf", "rank.history_decay_days: wanted a finite number; found"),
        ("rank.tower_weights=[0.1, inf]", "rank.tower_weights.1: wanted a finite number; found"),
        ("rank.tower_weights=[0.1, 0.10]", "rank.tower_weights: wanted each value once; found 0.1 twice. Leave one"),
        ("rank.tower_weights=[]", "rank.tower_weights: wanted at least 1 item; found a list."),
        ("evaluate.ks=[10, 10]", "evaluate.ks: wanted each value once; found 10 twice. Leave one of them out."),
        ("evaluate.ks=[]", "evaluate.ks: wanted at least 1 item; found a list."),
        ("evaluate.ks=10", 'evaluate.ks: wanted a valid list; found "10".'),
        ("seen_rules=[drop, drop]", "seen_rules: wanted each value once; found drop twice. Leave one of them out."),
        ("seen_rules=[]", "seen_rules: wanted at least 1 item; found a list."),
        ("seen_rules=[drop for 36501 days]", "seen_rules.0: wanted at most 36500 days; found 'drop for 36501 days'."),
        ("sequences.event_types=[view, view]", "sequences.event_types: wanted each value once; found view twice."),
        ("sequences.event_types=[]", "sequences.event_types: wanted at least 1 item; found a list."),
        ("split.target_event_types=[purchase, '']", "split.target_event_types.1: wanted a text; found an empty one."),
        ("split.target_event_types=[purchase, null]", "split.target_event_types.1: wanted a text; found nothing."),
        ("split.target_event_types=[purchase, purchase]", "wanted each value once; found purchase twice."),
        ("split.test_start=0001-02-01", "wanted 252 days before it and 28 behind it, in the years 1 to 9999"),
        ("split.test_start=9999-12-30", "split.test_start: wanted 252 days before it and 28 behind it"),
        ("split.test_start=0001-01-01T00:00:00+14:00", "split.test_start: wanted 252 days before it and 28 behind it"),
        ("sequences.train_windows=1001", "sequences.train_windows: wanted less than or equal to 1000; found"),
        ("events.missing=[NaN, NaN]", "events.missing: wanted each value once; found NaN twice."),
        ("events.missing=[null]", "events.missing.0: wanted a text; found nothing. Give one; quote it where"),
        ("events.repeats=drop", "events.repeats: wanted 'refuse', 'keep' or 'count'; found \"drop\"."),
        ("items.decimal=;", "items.decimal: wanted '.' or ','; found \";\"."),
        ("events.where={x: []}", "events.where.x: wanted a text; found a list. Give one value; quote it."),
        ("events.timestamp.zone=+99:99", "wanted a region as Europe/Berlin, or an offset as +02:00; found '+99:99'."),
        ("events.source.options={sep: a, SEP: b}", "each option once, in small or capital letters; found sep, SEP."),
        ("events.source.options={' ': a}", "events.source.options. : wanted a text; found an empty one."),
        ("items.columns={a: item_id, b: attributes.}", "wanted a name behind 'attributes.', without { and };"),
        ("items.columns={a: item_id, b: 'attributes.{x}'}", "without { and }; found b: attributes.{x}."),
        ('items.columns={a: item_id, b: "attributes.x\\ny"}', "items.columns.b: wanted a name without control"),
        ("items.columns={'': item_id}", "items.columns.: wanted at least 1 letter; found"),
        ("item_text.template=all the same", "item_text.template: wanted at least one field, as {title}"),
        ("encoder=", "encoder: wanted a text; found nothing."),
        ("encoder=a\nb", "encoder: wanted a name without control characters, on one line"),
        ("tracking.model_name=o'brien", "letters, digits, '.', '_', '-' and blanks between them; found 'o'brien'."),
        ("tracking.model_name=a/b", "'_', '-' and blanks between them; found 'a/b'. Write for"),
        ("tracking.model_name=a:b", "'_', '-' and blanks between them; found 'a:b'. Write for"),
        ("tracking.model_name= a", "tracking.model_name: wanted a name without control"),
        ("tracking.experiment=", "tracking.experiment: wanted a text; found nothing."),
        ("tracking.experiment=a\tb", "tracking.experiment: wanted a name without control characters, on one line"),
        ("events.batch=a\tb", "events.batch: wanted a name without control characters, on one line"),
        ('rules.conditions={"a\\nb": x}', "rules.conditions.a\nb: wanted a name without control"),
        ("rules.caps.item.a=0", "rules.caps.item.a: wanted greater than or equal to 1; found"),
        ("rules.max_segments=0", "rules.max_segments: wanted greater than or equal to 1; found"),
        ("events.max_rejected_share=1.1", "events.max_rejected_share: wanted less than or equal to 1; found"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_range_or_against_its_rule_is_told_before_a_session_starts(problems, setting, message):
    (line,) = problems(setting)
    assert message in line


@pytest.mark.parametrize("name", ["two_tower", "Modèle 2", "моdель-1.0", "模型", "हिन्दी"])
def test_a_model_may_have_a_name_in_any_script(load, name):
    assert load(f"tracking.model_name={name}").tracking.model_name == name
