"""The catalogue's dense numbers, and what its text is made of."""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.errors import did_you_mean, problem
from recsys_spark.kernels.item_text import Template

_KNOWN: Final = (c.ITEM_ID, c.TITLE, c.DESCRIPTION, c.BRAND, c.CATEGORY, c.PRICE, c.AVAILABLE_FROM, c.AVAILABLE_TO)
_ATTRIBUTE: Final = "attributes."
FIELDS: Final = "fields"
"""The values of a template's fields, in its order: bridges/tokenize.py makes the text of them."""


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


def text_fields(items: DataFrame, index: DataFrame, *, template: str) -> DataFrame:
    """item_id, item_idx and fields of every item: the value of each {field} of the template as a text, empty for null.

    Raises for a {field} that ITEMS does not have.
    """
    names = Template.parse(template).names
    for name in names:
        if name not in _KNOWN and not name.startswith(_ATTRIBUTE):
            raise problem(
                "configuration, item_text.template",
                wanted="fields of ITEMS or {attributes.NAME}",
                found=f"{{{name}}}",
                do=did_you_mean(name, _KNOWN),
            )
    values = [F.coalesce(_field(name).cast("string"), F.lit("")) for name in names]
    fields = F.array(*values).cast("array<string>").alias(FIELDS)
    return items.join(index, on=[c.ITEM_ID], how="inner").select(c.ITEM_ID, c.ITEM_IDX, fields)


def _field(name: str) -> Column:
    if name.startswith(_ATTRIBUTE):
        return F.col(c.ATTRIBUTES)[name.removeprefix(_ATTRIBUTE)]
    return F.col(name)
