"""embed_items: ITEM_TEXT and the run's model -> ITEM_EMBEDDINGS; items whose vector stands are kept."""

import sys

from recsys_spark.bridges.embed import ITEM_INPUT, embed_items, item_inputs
from recsys_spark.increments import bring_up_to_date, read_standing
from recsys_spark.models import find_model, name_maker, settle_back_end, share_files
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, ITEM_TEXT, MODELS
from recsys_spark.tracking import require_tracking, tracking_place
from recsys_spark.transforms.changes import without_equals


def run(context: Context) -> None:
    settings = context.config.embed
    place = tracking_place(context.config.tracking)
    model = find_model(context.read_slice(MODELS, run_id=context.config.run.id))
    name = share_files(context.spark, place, model)
    texts = context.read(ITEM_TEXT)
    standing = read_standing(context, ITEM_EMBEDDINGS, model_version=model.version)
    back_end = settle_back_end(
        place, model, settings.back_end, texts, model_name=name, batch_tokens=settings.batch_tokens
    )
    context.note(back_end.note)
    wanted = item_inputs(texts, made_by=name_maker(embed_items, model), back_end=back_end.name)
    changed = embed_items(
        without_equals(wanted, standing, on=ITEM_INPUT),
        model_name=name,
        back_end=back_end.name,
        batch_tokens=settings.batch_tokens,
    )
    bring_up_to_date(context, ITEM_EMBEDDINGS, changed, wanted=wanted, standing=standing, model_version=model.version)


STAGE = Stage(
    name="embed_items",
    run=run,
    reads=(ITEM_TEXT, MODELS),
    writes=(ITEM_EMBEDDINGS,),
    sections=("run.id", "tracking", "embed.back_end", "embed.batch_tokens"),
    requires=require_tracking,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
