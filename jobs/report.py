"""report: the run's tables and its training curves -> report.html, one page that needs nothing but itself."""

import sys
from functools import partial

from recsys_spark.report import gather_facts, render_page
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import (
    BLENDS,
    EVENTS,
    EVENTS_REJECTED,
    ITEM_TEXT,
    ITEMS,
    ITEMS_REJECTED,
    METRICS,
    MODELS,
    RECOMMENDATIONS,
    RUNS,
    SEQUENCES,
)
from recsys_spark.tracking import read_curve, require_tracking, tracking_place

PAGE = "report.html"


def run(context: Context) -> None:
    rows = {table.name: context.read(table) for table in STAGE.reads}
    rows[RUNS.name] = context.store.read_or_empty(RUNS)  # every stage adds a row: no version of it is ever final
    facts = gather_facts(
        lambda table: rows[table.name],
        config=context.config,
        curve=partial(read_curve, tracking_place(context.config.tracking)),
    )
    context.note(f"report: {context.store.write_text(PAGE, render_page(facts))}")


STAGE = Stage(
    name="report",
    run=run,
    reads=(
        EVENTS, EVENTS_REJECTED, ITEMS, ITEMS_REJECTED, ITEM_TEXT, SEQUENCES, MODELS, BLENDS, RECOMMENDATIONS, METRICS,
    ),
    writes=(),
    pages=(PAGE,),
    sections=("run.id", "report", "split", "sequences", "item_text.max_tokens", "evaluate.ks", "train.validation_k",
              "tracking", "events.source", "items.source"),
    requires=require_tracking,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(STAGE))
