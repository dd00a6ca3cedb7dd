"""The catalogue's dense numbers and its text."""

from __future__ import annotations

import re

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.errors import did_you_mean, problem

_FIELDS = (c.ITEM_ID, c.TITLE, c.DESCRIPTION, c.BRAND, c.CATEGORY, c.PRICE)
_ATTRIBUTE = "attributes."
_CLEANING = (
    # markup, control characters, brackets around nothing
    (r"<[^<>]{1,200}>|[\p{Cntrl}\u00a0]|\([\s,;:|/.-]*\)|\[[\s,;:|/.-]*\]", " "),
    (r"\s+", " "),
    (r"^( ?- )+| -(?= - | ?[,;:|/.]( |$)| ?$)", " "),  # dashes beside nothing
    (r"\s+", " "),
    (r"(?<=^|[,;:|/.]) ?[,;:|/.](?= |$)|[,;:|/] (?=[,;:|/.])", ""),  # commas and the like beside nothing
    (r" (?=[,;:.]( |$))", ""),
    (r"\s+", " "),
    (r"^[\s,;:|/.]+|[\s,;:|/]+$", ""),
)
"""What is replaced in a text, in this order."""


def number_new_items(items: DataFrame, index: DataFrame) -> DataFrame:
    """ITEM_INDEX rows for items that have none yet: numbered on from the largest, in order of item_id.

    `index` has one row per item_id; the rows it has are not repeated.
    """
    first_free = index.agg(F.coalesce(F.max(c.ITEM_IDX) + 1, F.lit(0)).alias("first_free"))
    new = items.select(c.ITEM_ID).join(index, on=[c.ITEM_ID], how="left_anti")
    place = F.row_number().over(Window.orderBy(c.ITEM_ID)) - 1
    return new.crossJoin(F.broadcast(first_free)).select(
        c.ITEM_ID, (F.col("first_free") + place).cast("int").alias(c.ITEM_IDX)
    )


def render_text(items: DataFrame, index: DataFrame, *, template: str) -> DataFrame:
    """item_id, item_idx, text and text_hash of every item; text is empty where the catalogue says nothing."""
    numbered = items.join(index, on=[c.ITEM_ID], how="inner")
    text = clean_text(render_template(template))
    return numbered.select(c.ITEM_ID, c.ITEM_IDX, text.alias(c.TEXT)).withColumn(c.TEXT_HASH, F.sha2(c.TEXT, 256))


def render_template(template: str) -> Column:
    """The template's text with each {field} replaced by the item's value, nothing for a null.

    Raises for a {field} that ITEMS does not have.
    """
    pieces = re.split(r"\{([^{}]*)\}", template)
    literals, fields = pieces[::2], pieces[1::2]
    for name in fields:
        if name not in _FIELDS and not name.startswith(_ATTRIBUTE):
            raise problem(
                "configuration, item_text.template",
                wanted="fields of ITEMS or {attributes.NAME}",
                found=f"{{{name}}}",
                do=did_you_mean(name, _FIELDS),
            )
    values = [F.coalesce(_field(name).cast("string"), F.lit("")) for name in fields]
    parts = [F.lit(literals[0])]
    for value, literal in zip(values, literals[1:], strict=True):
        parts += [value, F.lit(literal)]
    return F.concat(*parts)


def clean_text(text: Column) -> Column:
    """Without markup, control characters, doubled blanks and the punctuation that empty fields leave behind."""
    for pattern, replacement in _CLEANING:
        text = F.regexp_replace(text, pattern, replacement)
    return text


def _field(name: str) -> Column:
    if name.startswith(_ATTRIBUTE):
        return F.col(c.ATTRIBUTES)[name.removeprefix(_ATTRIBUTE)]
    return F.col(name)
