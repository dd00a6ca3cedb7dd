"""pipeline: every job of the flow in one session; finished stages whose inputs did not change are skipped."""

import sys

from jobs import (
    apply_rules,
    build_item_text,
    build_sequences,
    choose_blend,
    embed_items,
    embed_users,
    evaluate,
    ingest_events,
    ingest_items,
    rank,
    report,
    score,
    similar_items,
    train,
)
from recsys_spark.pipeline import main

FLOW = (
    ingest_events.STAGE,
    ingest_items.STAGE,
    build_item_text.STAGE,
    build_sequences.STAGE,
    apply_rules.STAGE,
    train.STAGE,
    embed_items.STAGE,
    embed_users.STAGE,
    score.STAGE,
    similar_items.STAGE,
    choose_blend.STAGE,
    rank.STAGE,
    evaluate.STAGE,
    report.STAGE,
)

if __name__ == "__main__":
    sys.exit(main(FLOW))
