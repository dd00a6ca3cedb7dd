"""build_item_text: ITEMS -> ITEM_TEXT, each item's rendered text and its tokens."""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.tokenize import tokenize
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_INDEX, ITEM_TEXT, ITEMS
from recsys_spark.transforms.items import render_text


def run(context: Context) -> None:
    settings = context.config.item_text
    texts = context.keep(render_text(context.read(ITEMS), context.read(ITEM_INDEX), template=settings.template))
    context.note_count(
        texts.where(F.col(c.TEXT) == "").count(), "items without text: only their own history can list them"
    )
    context.replace(ITEM_TEXT, tokenize(texts, encoder=context.config.encoder, max_tokens=settings.max_tokens))


STAGE = Stage(
    name="build_item_text",
    run=run,
    reads=(ITEMS, ITEM_INDEX),
    writes=(ITEM_TEXT,),
    sections=("item_text", "encoder"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
