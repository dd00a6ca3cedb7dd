"""build_item_text: ITEMS -> ITEM_TEXT, each item's rendered text and its tokens."""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.tokenize import IS_CUT, tokenize
from recsys_spark.checks import require_one_number_each
from recsys_spark.kernels.item_text import MAX_CHARS
from recsys_spark.kernels.text_encoder import encoder_state
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_INDEX, ITEM_TEXT, ITEMS
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.items import text_fields


def run(context: Context) -> None:
    settings = context.config.item_text
    index = require_one_number_each(context.read(ITEM_INDEX))
    fields = text_fields(context.read(ITEMS), index, template=settings.template)
    texts = context.keep(
        tokenize(fields, template=settings.template, encoder=context.config.encoder, max_tokens=settings.max_tokens)
    )
    context.replace(ITEM_TEXT, texts)
    told = first_row(texts.agg(F.count_if(F.col(c.TEXT) == "").alias(c.TEXT), F.count_if(IS_CUT).alias(IS_CUT)))
    context.note_count(told[c.TEXT], "items without text: only their own history can list them")
    context.note_count(told[IS_CUT], f"items with a field of more than {MAX_CHARS:,} characters: read up to there")


STAGE = Stage(
    name="build_item_text",
    run=run,
    reads=(ITEMS, ITEM_INDEX),
    writes=(ITEM_TEXT,),
    sources=lambda _spark, config: encoder_state(config.encoder),
    sections=("item_text", "encoder"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
