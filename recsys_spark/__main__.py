"""`python -m recsys_spark land | show | doctor`: the commands that are no Spark job of the flow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recsys_spark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    land = commands.add_parser("land", help="write a sample data set to a landing folder")
    land.add_argument("--dataset", choices=["complete_journey"], required=True)
    land.add_argument("--to", type=Path, required=True)
    show = commands.add_parser("show", help="print a user's history and recommendations, or an item and similar ones")
    whom = show.add_mutually_exclusive_group(required=True)
    whom.add_argument("--user", metavar="ID", help="the user, as the source names them")
    whom.add_argument("--item", metavar="ID", help="the item, as the source names it")
    show.add_argument("--conf-file", action="append", default=[], metavar="FILE", help="default: those of conf/")
    show.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="a single value; wins over files")
    show.add_argument("--limit", type=_as_limit, metavar="N", help="rows per list; default: report.history_shown")
    commands.add_parser("doctor", add_help=False, help="check what this machine needs")
    parsed, rest = parser.parse_known_args(arguments)
    if rest and parsed.command != "doctor":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return _run(parsed, rest)


def _run(parsed: argparse.Namespace, rest: list[str]) -> int:
    """Each command imports its own part only: doctor has to start where nothing is installed."""
    if parsed.command == "doctor":
        from recsys_spark.doctor import main as examine

        return examine(rest)
    if parsed.command == "show":
        from recsys_spark import show

        of_user, of_item = show.describe_user, show.describe_item
        describe = (
            partial(of_user, user_id=parsed.user) if parsed.item is None else partial(of_item, item_id=parsed.item)
        )
        return show.main(describe, conf_files=parsed.conf_file, settings=parsed.set, num_rows=parsed.limit)
    from recsys_spark.datasets.complete_journey import land

    land(parsed.to)
    return 0


def _as_limit(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 on, found {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
