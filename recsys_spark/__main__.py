"""`python -m recsys_spark land | show | doctor`: the commands that are no Spark job of the flow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m recsys_spark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    land = commands.add_parser("land", help="write a sample data set to a landing folder")
    land.add_argument("--dataset", choices=["complete_journey"], required=True)
    land.add_argument("--to", type=Path, required=True)
    show = commands.add_parser("show", help="print a user's history and recommendations")
    commands.add_parser("doctor", help="check what this machine needs", add_help=False)
    if given[:1] == ["doctor"]:  # has arguments of its own, and must start where nothing is installed
        from recsys_spark.doctor import main as examine

        return examine(given[1:])
    if given[:1] == ["show"]:
        from recsys_spark import show as shower

        shower.add_arguments(show)
        return shower.main(parser.parse_args(given))
    parsed = parser.parse_args(given)
    from recsys_spark.datasets.complete_journey import land as land_data

    land_data(parsed.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
