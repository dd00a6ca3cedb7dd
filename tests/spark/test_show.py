"""`show`: what a user sees in the terminal."""

from __future__ import annotations

import shutil
from functools import partial

import pytest

from recsys_spark.bridges.similar import KINDS
from recsys_spark.errors import RecsysError
from recsys_spark.show import _KINDS, describe_item, describe_user, find_jars
from recsys_spark.show import main as show
from recsys_spark.tables.catalog import SIMILAR_ITEMS, SIMILAR_USERS
from tests.small_warehouse import config_of, write_small_warehouse

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def config(spark, tmp_path_factory):
    root = str(tmp_path_factory.mktemp("show") / "warehouse")
    write_small_warehouse(spark, root)
    return config_of(root)


def test_history_and_both_lists_of_a_user(spark, config):
    assert describe_user(spark, config, user_id="u1", num_rows=2).splitlines() == [
        "User u1 · run main · 9 events · as of 2020-06-01",
        "",
        "HISTORY, newest first",
        "2020-05-31  purchase  apple juice",
        "2020-05-30  purchase  apple juice",
        "",
        "RECOMMENDED, any item",
        "  1  4.0000  apple juice",
        "             bought twice",
        "  2  3.0000  brown bread",
        "             bought once",
        "",
        "RECOMMENDED, only items never had before",
        "  1  4.0000  cheese",
        "             fits",
        "  2  3.0000  item e",
        "             fits",
        "",
        "The model's candidates, keep: 1 of 3: of 9 items 8 blocked",
        "",
        "SIMILAR USERS",
        "u2 (0.7500), u9 (0.5000)",
    ]


def test_a_user_who_came_after_the_cut_off_has_no_list(spark, config):
    lines = describe_user(spark, config, user_id="u3", num_rows=5).splitlines()
    assert lines[2:] == [
        "HISTORY",
        "none before the cut-off",
        "",
        "No list of run main: there is no event before the cut-off.",
    ]


def test_an_item_its_fields_and_what_is_like_it_by_every_kind(spark, config):
    assert describe_item(spark, config, item_id="a", num_rows=2).splitlines() == [
        "Item a · run main · 3 events",
        "",
        "TEXT",
        "apple juice",
        "",
        "ATTRIBUTES",
        "title  apple juice",
        "price  2.5",
        "size   1 l",
        "",
        "SIMILAR, as the model sees items",
        "  1  0.7500  brown bread",
        "  2  0.5000  cheese",
        "",
        "SIMILAR by text alone",
        "  1  0.2500  item e",
        "",
        "SIMILAR by behaviour alone",
        "none",
    ]
    assert list(_KINDS) == list(KINDS)


def test_an_item_without_text_or_lists_says_so(spark, config):
    lines = describe_item(spark, config, item_id="e", num_rows=2).splitlines()
    assert lines[2:4] == ["TEXT", "none: the catalogue says nothing"]
    assert lines[-1] == "No similar items of run main: run jobs/similar_items.py."


def test_lists_are_those_of_the_model_of_the_run(spark, tmp_path):
    store = write_small_warehouse(spark, str(tmp_path / "warehouse"))
    config = config_of(store.root)
    for table in (SIMILAR_ITEMS, SIMILAR_USERS):
        rows = store.read(table).limit(1).localCheckpoint()
        store.replace(table, rows, {"model_version": "2"})
        store.replace(table, rows.limit(0), {"model_version": "1"})
    assert "SIMILAR" not in describe_user(spark, config, user_id="u1", num_rows=2)
    assert "No similar items" in describe_item(spark, config, item_id="a", num_rows=2)


def test_a_warehouse_without_similar_users_shows_the_rest(spark, tmp_path):
    store = write_small_warehouse(spark, str(tmp_path / "warehouse"))
    shutil.rmtree(store.path(SIMILAR_USERS))
    said = describe_user(spark, config_of(store.root), user_id="u1", num_rows=2)
    assert "RECOMMENDED" in said and "SIMILAR" not in said


def test_an_unknown_item_gets_the_nearest_ids(spark, config):
    with pytest.raises(RecsysError, match=r"wanted an id of table ITEMS; found 'aa', .*nearest ids are a, b, c"):
        describe_item(spark, config, item_id="aa", num_rows=5)


def test_an_unknown_user_gets_the_nearest_ids(spark, config):
    with pytest.raises(RecsysError, match=r"table EVENTS; found 'u11', .*The nearest ids are u1, u2, u3\."):
        describe_user(spark, config, user_id="u11", num_rows=5)


def test_a_warehouse_without_tables_says_which_job_to_run(spark, tmp_path):
    with pytest.raises(RecsysError, match=r"table EVENTS.*Run jobs/ingest_events\.py"):
        describe_user(spark, config_of(str(tmp_path / "nothing")), user_id="u1", num_rows=5)


def test_long_and_hostile_texts_stay_on_their_line(spark, tmp_path):
    store = write_small_warehouse(spark, str(tmp_path / "warehouse"))
    from recsys_spark.tables.catalog import ITEM_TEXT

    rows = [("a", 0, "\x1b[31mred\nline " + "long " * 60, "h", [1] * 8, 3, "t")]
    store.replace(ITEM_TEXT, spark.createDataFrame(rows, ITEM_TEXT.schema), {})
    lines = describe_user(spark, config_of(store.root), user_id="u1", num_rows=3).splitlines()
    assert all(len(line) <= 100 and line.isprintable() for line in lines)
    assert lines[3].startswith("2020-05-31  purchase   [31mred line long") and lines[3].endswith("…")
    lines = describe_item(spark, config_of(store.root), item_id="a", num_rows=3).splitlines()
    assert all(len(line) <= 100 and line.isprintable() for line in lines)
    assert "".join(lines).count("long") == 60, "an item's own text is whole"


def test_without_a_configuration_it_says_where_to_find_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert show(partial(describe_user, user_id="u1"), conf_files=[], settings=[], num_rows=None) == 1
    assert "none given, no conf/base.yaml" in capsys.readouterr().err


def test_jars_come_from_the_setting_or_the_newest_cache(tmp_path, monkeypatch):
    for number, name in enumerate(("old", "new")):
        folder = tmp_path / ".cache/recsys_spark/jars" / name
        folder.mkdir(parents=True)
        (folder / "delta.jar").touch()
        __import__("os").utime(folder, (number, number))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RECSYS_DELTA_JARS", raising=False)
    assert find_jars() == [str(tmp_path / ".cache/recsys_spark/jars/new/delta.jar")]
    monkeypatch.setenv("RECSYS_DELTA_JARS", "x.jar,y.jar")
    assert find_jars() == ["x.jar", "y.jar"]
