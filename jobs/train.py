"""train: SEQUENCES and ITEM_TEXT -> a registered two-tower model, and its row in MODELS."""

import sys

from recsys_spark import columns as c
from recsys_spark.checks import sum_row_ids
from recsys_spark.kernels.text_encoder import encoder_state
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_TEXT, MODELS, SEQUENCES
from recsys_spark.tracking import require_tracking
from recsys_spark.training import as_model_row, plan_training, require_same_tokenizer, train_model


def run(context: Context) -> None:
    config = context.config
    require_same_tokenizer(context.read(ITEM_TEXT), config.encoder, config.item_text.max_tokens)
    train = context.snapshot(SEQUENCES, order_by=c.ROW_ID, split="train")
    plan = plan_training(
        config,
        train=train,
        checksum=sum_row_ids(context.read_slice(SEQUENCES, split="train")),
        validation=context.snapshot(SEQUENCES, order_by=c.ROW_ID, split="validation"),
        item_text=context.snapshot(ITEM_TEXT),
    )
    context.note_all(plan.notes)
    trained = train_model(context.spark, plan)
    context.note(f"{trained.epochs} epochs, each of {train.rows:,} rows fed once, by count and checksum")
    context.note(
        f"model {trained.model_name} version {trained.model_version}, validation NDCG {trained.validation_ndcg:.4f}"
    )
    row = as_model_row(trained, config.run.id)
    context.replace(MODELS, MODELS.of_rows(context.spark, [row]))


STAGE = Stage(
    name="train",
    run=run,
    reads=(SEQUENCES, ITEM_TEXT),
    writes=(MODELS,),
    sources=lambda _spark, config: encoder_state(config.encoder),
    sections=(
        "run",
        "encoder",
        "item_text.max_tokens",
        "sequences.max_events",
        "model",
        "train",
        "embed.batch_tokens",
        "tracking",
    ),
    requires=require_tracking,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
