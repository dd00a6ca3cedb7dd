"""repair_item_index: ITEM_INDEX -> ITEM_INDEX with one number for each item, the first that it was given."""

import sys

from recsys_spark.repairs import mend_item_index
from recsys_spark.runner import Context, Stage, main
from recsys_spark.tables.catalog import ITEM_INDEX


def run(context: Context) -> None:
    mend_item_index(context)


STAGE = Stage(name="repair_item_index", run=run, reads=(), writes=(ITEM_INDEX,), sections=())

if __name__ == "__main__":
    sys.exit(main(STAGE))
