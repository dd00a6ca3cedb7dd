"""An item's number never changes, and its text holds no trace of what the catalogue leaves out."""

import hashlib
import itertools
import random
import re

import pytest
from pyspark.sql import functions as F

from recsys_spark.errors import RecsysError
from recsys_spark.tables.catalog import ITEM_INDEX, ITEMS
from recsys_spark.transforms.items import clean_text, number_new_items, render_template, render_text

pytestmark = pytest.mark.spark


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


def clean(spark, texts):
    rows = spark.createDataFrame(list(enumerate(texts)), "place int, text string")
    cleaned = rows.withColumn("text", clean_text(F.col("text"))).collect()
    return [row.text for row in sorted(cleaned, key=lambda row: row.place)]


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


def test_a_template_takes_fields_attributes_and_numbers_and_nothing_for_what_is_not_there(spark):
    rows = [
        {"item_id": "full", "title": "Milk", "price": 2.5, "attributes": {"size": "1 l"}},
        {"item_id": "bare", "title": None, "price": None, "attributes": {"colour": "white"}},
        {"item_id": "null", "attributes": None},
    ]
    text = render_template("<{title}|{attributes.size}|{price}> of {item_id}").alias("text")
    found = {row.item_id: row.text for row in products(spark, rows).select("item_id", text).collect()}
    assert found == {"full": "<Milk|1 l|2.5> of full", "bare": "<||> of bare", "null": "<||> of null"}


def test_items_get_their_text_its_hash_and_their_number(spark):
    items = products(
        spark, [{"item_id": "b", "title": "Brown  bread"}, {"item_id": "a", "title": " "}, {"item_id": "c"}]
    )
    index = numbered(spark, [("a", 7), ("b", 0), ("c", 1), ("gone", 2)])
    rows = {row.item_id: row for row in render_text(items, index, template="{title}, {brand}").collect()}
    assert {item: (row.item_idx, row.text) for item, row in rows.items()} == {
        "a": (7, ""), "b": (0, "Brown bread"), "c": (1, ""),
    }  # fmt: skip
    assert all(row.text_hash == hashlib.sha256(row.text.encode()).hexdigest() for row in rows.values())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{titel}", r"item_text\.template: wanted fields of ITEMS.*found \{titel\}\. Did you mean 'title'\?"),
        ("{title} {colour}", r"found \{colour\}\. Known: brand, category, description, item_id, price, title\."),
        ("{}", r"found \{\}\. Known: "),
    ],
)
def test_a_field_that_items_do_not_have_is_an_error_with_a_hint(spark, template, message):
    with pytest.raises(RecsysError, match=message):
        render_template(template)


def test_markup_and_control_characters_leave_one_blank(spark):
    cases = {
        "figs <b>fresh</b>": "figs fresh",
        "one<br/>two<br>three": "one two three",
        '<p class="x">A</p><p>B</p>': "A B",
        "tab\there\nline\r\nend\x00\x07\x7f": "tab here line end",
        "no\u00a0break": "no break",
        "  wide   open  ": "wide open",
        "3 < 5": "3 < 5",
        "ham & eggs, 5.5% fat": "ham & eggs, 5.5% fat",
    }
    assert dict(zip(cases, clean(spark, cases), strict=True)) == cases


def test_punctuation_inside_of_a_text_stays(spark):
    texts = ["Dr. Oetker, pizza; 350 g", "1/2 gal: whole", "a | b / c", "Mr. T.", "wine 0.75 l", "e.g. figs"]
    assert clean(spark, texts) == texts


def test_an_item_without_text_is_the_empty_text(spark):
    nothing = ["", " ", ", , ,", " , ", "<br/>", "\x00", "|", " : ; / ", "., ."]
    assert clean(spark, nothing) == [""] * len(nothing)


@pytest.mark.parametrize("separator", [", ", " | ", "; ", " / "])
def test_empty_fields_leave_no_trace_wherever_they_stand(spark, separator):
    """All 32 ways in which five fields are there or not."""
    fields = ("title", "attributes.size", "category", "attributes.department", "brand")
    template = "{title} {attributes.size}" + "".join(f"{separator}{{{name}}}" for name in fields[2:])
    values = ("MILK", "1 GA", "FLUID MILK", "GROCERY", "National")
    rows, wanted = [], {}
    for there in itertools.product([True, False], repeat=5):
        told = [value if is_there else None for value, is_there in zip(values, there, strict=True)]
        item = "".join("x" if is_there else "-" for is_there in there)
        own = dict(zip(fields, told, strict=True))
        attributes = {name.split(".")[1]: value for name, value in own.items() if "." in name and value}
        rows.append({"item_id": item, **own, "attributes": attributes})
        head = " ".join(filter(None, told[:2]))
        wanted[item] = separator.join(filter(None, [head, *told[2:]]))
    index = numbered(spark, [(row["item_id"], place) for place, row in enumerate(rows)])
    found = {row.item_id: row.text for row in render_text(products(spark, rows), index, template=template).collect()}
    assert found == wanted


def test_brackets_and_dashes_around_an_empty_field_leave_no_trace_either(spark):
    templates = ("{title} ({brand})", "{title} - {brand}", "{brand} - {title}", "{title} ({brand}), {category}",
                 "{brand} - {description} - {title}", "({brand}, {description}) {title}")  # fmt: skip
    texts = [clean_text(render_template(template)).alias(template) for template in templates]
    item = products(spark, [{"item_id": "a", "title": "Milk", "category": "Dairy"}])
    assert item.select(texts).first().asDict() == dict(
        zip(templates, ["Milk", "Milk", "Milk", "Milk, Dairy", "Milk", "Milk"], strict=True)
    )


def test_no_text_keeps_doubled_blanks_control_characters_or_punctuation_at_its_ends(spark):
    rng = random.Random(2)
    texts = ["".join(rng.choices("ab ,;:|/.<>\t\n\x01\u00a0", k=rng.randrange(12))) for _ in range(3000)]
    bad = re.compile(r"\s\s|[\x00-\x1f\x7f\u00a0]|^[\s,;:|/.]|[\s,;:|/]$")
    assert [(raw, text) for raw, text in zip(texts, clean(spark, texts), strict=True) if bad.search(text)] == []
