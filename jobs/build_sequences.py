"""build_sequences: EVENTS -> SEQUENCES, one row per user and cut-off of the global time split."""

import sys

from recsys_spark.checks import count_unknown_items, require_one_number_each, require_splits
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import EVENTS, ITEM_INDEX, ITEMS, SEQUENCES
from recsys_spark.transforms.history import of_items
from recsys_spark.transforms.sequences import build_sequences, number_events, plan_cut_offs, spread_over_files


def run(context: Context) -> None:
    settings, split = context.config.sequences, context.config.split
    events = context.read(EVENTS)
    index = context.read(ITEM_INDEX).transform(require_one_number_each).transform(of_items, context.read(ITEMS))
    context.note_count(count_unknown_items(events, index), "events of items that are in no catalogue: left out")
    sequences = context.keep(
        build_sequences(
            number_events(events, index),
            cut_offs=plan_cut_offs(
                validation_start=split.validation_start,
                test_start=split.test_start,
                train_windows=settings.train_windows,
                window_days=settings.window_days,
            ),
            max_events=settings.max_events,
            max_targets=settings.max_targets,
            event_types=settings.event_types,
            target_event_types=split.target_event_types,
            seed=context.config.run.seed,
        ).transform(spread_over_files, num_files=settings.num_files)
    )
    counts = require_splits(sequences, events, split)
    context.note(", ".join(f"{count:,} {name} rows" for name, count in sorted(counts.items())))
    context.replace(SEQUENCES, sequences)


STAGE = Stage(
    name="build_sequences",
    run=run,
    reads=(EVENTS, ITEMS, ITEM_INDEX),
    writes=(SEQUENCES,),
    sections=("sequences", "split", "run.seed"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
