"""The configuration tree: layers, single settings, and errors that say what to do."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from recsys_spark.config import load_config
from recsys_spark.errors import RecsysError

TABLE = "source: {format: csv, path: x}"


# --- what stands where -----------------------------------------------------------------------------------------------


def test_a_later_file_wins_and_a_setting_wins_over_files(load):
    config = load("score.top_k=70", texts=["score: {top_k: 50, user_block: 9}", "train: {ranks: 3}"])
    assert (config.score.top_k, config.score.user_block, config.train.ranks) == (70, 9, 3)
    assert config.rank.list_size == 20, "what no layer names keeps conf/base.yaml's value"


def test_a_later_mapping_of_columns_replaces_the_whole_one(load):
    other = "events: {columns: {kunde: user_id, artikel: item_id, zeit: ts}}"
    assert load(texts=[other]).events.columns == {"kunde": "user_id", "artikel": "item_id", "zeit": "ts"}


def test_places_are_filled_in(load):
    config = load("landing=/in", "warehouse=s3a://out/w")
    assert config.events.source.path == "/in/events.csv"
    assert config.tracking.uri == "sqlite:///s3a://out/w/mlflow.db"
    assert config.tracking.artifacts == "s3a://out/w/mlflow_artifacts"


def test_spark_settings_keep_their_dots_in_files_and_in_settings(load):
    config = load("spark.spark.ui.enabled=true", texts=["spark: {spark.sql.shuffle.partitions: 8}"])
    assert config.spark == {"spark.sql.shuffle.partitions": "8", "spark.ui.enabled": "true"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("run.id=2017-12-04", "2017-12-04"),
        ("run.id=20171204", "20171204"),
        ("events.batch=2017-12-04", "2017-12-04"),
        ("events.timestamp.zone=+02:00", "+02:00"),
        ("train.learning_rate=3e-5", 3e-5),
        ("warehouse=/a folder/w", "/a folder/w"),
        ("events.columns={no: user_id, 1: item_id, when: ts}", {"no": "user_id", "1": "item_id", "when": "ts"}),
    ],
)
def test_a_value_means_what_it_looks_like(load, setting, value):
    assert load(setting).section(setting.partition("=")[0]) == value


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2017-12-04", datetime(2017, 12, 4, tzinfo=UTC)),
        ("20171204", datetime(2017, 12, 4, tzinfo=UTC)),
        ("2017-12-04 06:00:00", datetime(2017, 12, 4, 6, tzinfo=UTC)),
        ("2017-12-04T00:00:00+01:00", datetime(2017, 12, 4, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_the_test_window_starts_in_utc_unless_a_zone_is_given(load, text, moment):
    split = load(f"split.test_start={text}", "split.test_days=7", "split.validation_days=14").split
    assert split.test_start == moment
    assert split.test_end == moment + timedelta(days=7)
    assert split.validation_start == moment - timedelta(days=14)


def test_a_section_is_plain_json(load):
    assert load().section("split") == {
        "test_start": "2017-12-04T00:00:00Z",
        "test_days": 28,
        "validation_days": 28,
        "target_event_types": ["purchase"],
    }


# --- errors ----------------------------------------------------------------------------------------------------------


def test_all_problems_come_at_once(problems):
    found = problems("score.topk=5", "train.ranks=zero", "rank.list_size=0", "events.source.path=required")
    assert found == [
        "events.source.path: wanted a value; found none. "
        "Give it in a configuration file, or with --set events.source.path=….",
        'train.ranks: wanted a valid integer; found "zero". '
        "Change it where it is given: in a configuration file, or with --set train.ranks=….",
        "score.topk: wanted a known key; found 'topk'. Did you mean 'top_k'?",
        'rank.list_size: wanted greater than or equal to 1; found "0". '
        "Change it where it is given: in a configuration file, or with --set rank.list_size=….",
    ]


def test_what_a_data_set_has_to_give_is_named_once(problems):
    assert [line.partition(":")[0] for line in problems(dataset="")] == [
        "events.source.format", "events.source.path", "events.columns",
        "items.source.format", "items.source.path", "items.columns", "split.test_start",
    ]  # fmt: skip


def test_without_base_yaml_one_problem_says_so(problems):
    (line,) = problems(base=())
    assert line.startswith("configuration: wanted values of run, warehouse, landing")
    assert line.endswith("begin the --conf-file list with conf/base.yaml, which holds every default.")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("scor.top_k=5", "scor: wanted a known key; found 'scor'. Did you mean 'score'?"),
        ("top_k=5", "top_k: wanted a known key; found 'top_k'. Did you mean 'score.top_k'?"),
        ("seed=5", "seed: wanted a known key; found 'seed'. Did you mean 'run.seed'?"),
        ("events.sorce=a", "events.sorce: wanted a known key; found 'sorce'. Did you mean 'source'?"),
        ("events.source=a.csv", "wanted a section with the keys format, path, options; found \"a.csv\"."),
        ("events.source.format=xls", "wanted 'csv', 'tsv', 'jsonl', 'parquet' or 'delta'; found \"xls\"."),
        ("events.source.path=", "events.source.path: wanted a text; found nothing. Give one; quote it"),
        ("events.source.options={ignoreCorruptFiles: true}",
         "wanted options that lose no row and no column; found ignoreCorruptFiles."),
        ("events.source={format: jsonl, options: {multiline: true}}",
         "wanted JSON lines: one object on each line; found multiLine."),
        ("events.source.options={mode: DROPMALFORMED}", "wanted options that lose no row and no column; found mode."),
        ("run.id=a b/c", "wanted letters, digits, '.', '_' and '-', the first of them a letter or a digit; found"),
        ("train.epochs=true", 'train.epochs: wanted a valid integer; found "true".'),
        ("train.epochs=1.5", 'train.epochs: wanted a valid integer; found "1.5".'),
        ("train.epochs=0x10", 'train.epochs: wanted a valid integer; found "0x10".'),
        ("train.epochs=12:30", 'train.epochs: wanted a valid integer; found "12:30".'),
        ("train.epochs=null", "train.epochs: wanted a valid integer; found null."),
        ("spark={x: [1]}", "spark.x: wanted a text; found a list. Give one value; quote it."),
        ("seen_rules=[keep, lose]", "seen_rules.1: wanted keep, drop, or drop for N days; found 'lose'."),
        ("split.test_start=1512345600", "wanted a day or a moment; found '1512345600'. Write for example 2017-12-04."),
        ("split.test_start=soon", "wanted a day or a moment; found 'soon'. Write for example 2017-12-04."),
        ("rules.caps={item.category: 0}", "rules.caps.item.category: wanted"),
        ("rules.conditions=[a]", "rules.conditions: wanted"),
        (f"rules.blocked={{{TABLE}, columns: {{a: user_id}}}}", "columns: wanted a source column for item_id"),
        (f"rules.user_tables.p={{{TABLE}, columns: {{a: user_id, b: home.town}}}}", "found home.town. Rules"),
        (f"rules.user_tables.p={{{TABLE}, columns: {{a: user_id, b: Age, c: age}}}}", "found Age, age. Rules"),
        ("events.timestamp.zone=berlin", "found 'berlin'. Did you mean 'Europe/Berlin'?"),
        ("events.timestamp.zone=Mars", "wanted a region as Europe/Berlin, or an offset as +02:00; found 'Mars'."),
        ("events.timestamp.format=MM-dd", "wanted a pattern with a year; years are yyyy; found 'MM-dd'."),
        ("events.timestamp.format=yyyy-mm-dd", "mm are minutes, and there are no hours; found 'yyyy-mm-dd'."),
        ("events.timestamp.format=yyyy-MM-dd hh:mm", "the hours of a whole day are HH; found 'yyyy-MM-dd hh:mm'."),
        ("events.event_type=null", "found neither. Give event_type: purchase, or map YOUR_COLUMN: event_type"),
        ("events.columns={a: user_id, b: item_id, c: ts, d: event_type}", "events.event_type: wanted one source of"),
        ("items.columns={name: title}", "items.columns: wanted a source column for item_id; found none. Add a line"),
        ("item_text.template='{titel}'", "item_id, title; found {titel}. Change the template, or map a source column"),
        ("events.event_type=rating", "'rating' among them, the type of all events (events.event_type); found purchase"),
        ("rank.list_size=5", "rank.list_size: wanted at least 20, the largest of evaluate.ks; found 5."),
        ("train.ranks=9", "files of its own; found 8. Raise it to a multiple of train.ranks."),
        ("model.user_heads=3", "model.embedding_dim: wanted a multiple of model.user_heads (3); found 128."),
        ("top_k", "--set: wanted a.b=value; found top_k. Write for example --set score.top_k=50."),
        ("a..b=1", "--set: wanted a.b=value; found a..b=1."),
        ("score.top_k=[1", "--set score.top_k: wanted YAML; found expected ',' or ']', but got '<stream end>'"),
        ("split.test_start=2017-02-30", "split.test_start: wanted a day or a moment; found '2017-02-30'. Write for"),
        ("rules.blocked.source.path=x", "values of rules.blocked.source.format, rules.blocked.columns; found none."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_so_that_it_can_be_mended(problems, setting, message):
    (line,) = problems(setting)
    assert message in line


def test_every_fault_of_a_mapping_is_told(problems):
    assert problems("events.columns={a: user_id, b: itemid, c: value, d: value, e: attributes.x}") == [
        "events.columns: wanted platform columns on the right; found b: itemid. Did you mean 'item_id'?",
        "events.columns: wanted platform columns on the right; found e: attributes.x. "
        "Known: context, event_id, event_type, item_id, ts, user_id, value.",
        "events.columns: wanted a source column for item_id; found none. Add a line YOUR_COLUMN: item_id.",
        "events.columns: wanted a source column for ts; found none. Add a line YOUR_COLUMN: ts.",
        "events.columns: wanted one source column for each platform column; found value twice. Leave one of them out.",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("events:\n  columns:\n    a: user_id\n    a: item_id\n", "found 'a' stands twice in line 4."),
        ("score: {top_k: 5\n", "found expected ',' or '}', but got '<stream end>' in line 2."),
        ("score:\n\ttop_k: 5\n", "cannot start any token in line 2."),
        ("- a\n", "wanted keys and values; found a list. See conf/base.yaml."),
        ("run: {seed: !!int x}", "wanted YAML; found ValueError."),
        ("run: \x00", "special characters are not allowed"),
        ("[" * 5000, "wanted YAML; found RecursionError."),
        (b"\xff\xfe", "--conf-file: wanted a YAML file in UTF-8; found"),
    ],
)
def test_a_broken_file_is_named_with_its_line(problems, text, found):
    (line,) = problems(texts=[text])
    assert found in line
    assert "1.yaml" in line


@pytest.mark.parametrize(("file", "found"), [("nope.yaml", "no file nope.yaml"), ("conf", "Is a directory: 'conf'")])
def test_a_file_that_cannot_be_read_is_named(file, found):
    with pytest.raises(RecsysError, match=found):
        load_config([file])


def test_rules_stand_in_the_order_of_their_names_and_null_takes_them_back(load):
    caps = load("rules.caps={b: 2, a: 1, c: 3}", "rules.caps.c=null").rules.caps
    assert list(caps.items()) == [("a", 1), ("b", 2)]
    assert load("rules.conditions={x: a}", "rules.conditions=null").rules.conditions == {}
