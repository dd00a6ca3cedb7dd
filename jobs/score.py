"""score: USER_EMBEDDINGS x ITEM_EMBEDDINGS -> CANDIDATES, the exact top-K of every pair, all rules inside."""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.bridges.rule_store import RuleTables
from recsys_spark.bridges.score import score_pairs
from recsys_spark.models import find_model
from recsys_spark.rules import SECTIONS, hash_rules, require_same_rules
from recsys_spark.runner import Context, Stage, main
from recsys_spark.search_needs import require_score_fits
from recsys_spark.short_lists import note_short
from recsys_spark.tables import catalog as t
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.history import of_types
from recsys_spark.transforms.sequences import number_events
from recsys_spark.transforms.users import with_seen_items


def run(context: Context) -> None:
    settings, caps, run_id = context.config.score, context.config.rules.caps, context.config.run.id
    require_same_rules(context, t.USER_RULES, t.SEGMENTS, t.ITEM_GROUPS)
    model = find_model(context.read_slice(t.MODELS, run_id=run_id))
    items = context.snapshot(t.ITEM_EMBEDDINGS, model_version=model.version)
    segments = context.snapshot(t.SEGMENTS, run_id=run_id)
    groups = context.snapshot(t.ITEM_GROUPS, can_be_empty=True, run_id=run_id)
    vectors = context.read_slice(t.USER_EMBEDDINGS, model_version=model.version)
    dim = len(first_row(vectors)[c.EMBEDDING])
    require_score_fits(context.config, num_items=items.rows, dim=dim, num_segments=segments.rows)
    chosen = of_types(context.read(t.EVENTS), context.config.split.target_event_types)
    users = with_seen_items(vectors, number_events(chosen, context.read(t.ITEM_INDEX)))
    candidates = score_pairs(
        users.join(context.read_slice(t.USER_RULES, run_id=run_id), on=[c.USER_ID, c.SPLIT], how="left"), items,
        column=c.EMBEDDING, rules=RuleTables(segments, groups, tuple(caps.values())), top_k=settings.top_k,
        seen_rules=context.config.seen_rules, alpha=model.alpha, offset_b=model.offset_b,
        user_block=settings.user_block, checked_share=settings.checked_share,
    )  # fmt: skip
    made_with = {c.MODEL_VERSION: F.lit(model.version), c.RULES_HASH: F.lit(hash_rules(context.config))}
    context.replace(t.CANDIDATES, candidates.withColumns(made_with))
    note_short(context, context.written(t.CANDIDATES), top_k=settings.top_k)


READS = (
    t.USER_EMBEDDINGS, t.ITEM_EMBEDDINGS, t.USER_RULES, t.SEGMENTS, t.ITEM_GROUPS, t.EVENTS, t.ITEM_INDEX, t.MODELS,
)  # fmt: skip
STAGE = Stage(
    name="score",
    run=run,
    reads=READS,
    writes=(t.CANDIDATES,),
    sections=("run.id", "score.top_k", "score.checked_share", "seen_rules", *SECTIONS, "split.target_event_types"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
