"""evaluate: recommendations, the model alone and every baseline, on the same users of the test window -> METRICS."""

import sys

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.checks import count_users_without_list
from recsys_spark.evaluation import verdict
from recsys_spark.evaluation.baselines import baseline_lists, popularity
from recsys_spark.evaluation.metrics import as_lists, coverage, per_user_metrics, summarise, truth_slices
from recsys_spark.models import find_model
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import CANDIDATES, EVENTS, ITEM_INDEX, ITEMS, METRICS, MODELS, RECOMMENDATIONS
from recsys_spark.tracking import log_figures, require_tracking, tracking_place
from recsys_spark.transforms.candidates import list_items
from recsys_spark.transforms.history import decayed_counts, of_types, within


def run(context: Context) -> None:
    settings, split, run_id = context.config.evaluate, context.config.split, context.config.run.id
    longest = max(settings.ks)
    chosen = of_types(context.read(EVENTS), split.target_event_types)
    candidates = context.read_slice(CANDIDATES, run_id=run_id, split="test")
    users = context.keep(candidates.select(c.USER_ID).distinct())
    counts = context.keep(decayed_counts(chosen, as_of=split.test_start, decay_days=settings.personal_decay_days))
    popular = popularity(chosen, as_of=split.test_start, popular_days=settings.popular_days)
    truth = context.keep(truth_slices(within(chosen, split.test_start, split.test_end), counts))
    context.note_count(
        count_users_without_list(truth, users),
        "users of the test window have no history before it: no list, 0 for every method",
    )
    lists = context.keep(
        as_lists(context.read_slice(RECOMMENDATIONS, run_id=run_id), method=verdict.RECOMMENDATIONS)
        .unionByName(as_lists(list_items(candidates, context.read(ITEM_INDEX)), method=verdict.TWO_TOWER))
        .unionByName(baseline_lists(popular, counts, users, list_size=longest, settings=settings))
        .where(F.col(c.RANK) <= longest)
    )
    per_user = context.keep(per_user_metrics(lists, truth, settings.ks))
    figures = summarise(per_user, replicates=settings.bootstrap_replicates, seed=context.config.run.seed).unionByName(
        coverage(lists, context.read(ITEMS), settings.ks)
    )
    context.replace(METRICS, figures.withColumn(c.SPLIT, F.lit("test")))
    rows = [row.asDict() for row in context.written(METRICS).collect()]
    context.note(verdict.judge(rows))
    tracked = find_model(context.read_slice(MODELS, run_id=run_id)).tracking_run
    log_figures(tracking_place(context.config.tracking), tracked, rows)


STAGE = Stage(
    name="evaluate",
    run=run,
    reads=(RECOMMENDATIONS, CANDIDATES, ITEM_INDEX, EVENTS, ITEMS, MODELS),
    writes=(METRICS,),
    sections=("run", "evaluate", "split", "tracking"),
    requires=require_tracking,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
