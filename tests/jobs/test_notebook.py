"""The notebook's cells, run one after the other on a small warehouse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_warehouse import write_small_warehouse

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "walk_the_tables.py"

pytestmark = [pytest.mark.jobs, pytest.mark.spark]


def cells_of(text: str) -> list[str]:
    """The cells of a Databricks source file, without those of another language (`# MAGIC`)."""
    first, *lines = text.splitlines()
    assert first == "# Databricks notebook source"
    cells = "\n".join(lines).split("\n# COMMAND ----------\n")
    return [cell for cell in cells if not cell.strip().startswith("# MAGIC")]


def test_every_cell_runs_and_the_walk_ends_with_a_list_and_the_figures(spark, tmp_path, capsys):
    root = str(tmp_path / "warehouse")
    write_small_warehouse(spark, root)
    cells = cells_of(NOTEBOOK.read_text(encoding="utf-8"))
    assert len(cells) > 8
    parameters = next(i for i, cell in enumerate(cells) if "WAREHOUSE =" in cell)
    cells[parameters] = cells[parameters].replace('WAREHOUSE = "warehouse"', f"WAREHOUSE = {root!r}")
    namespace = {"spark": spark}
    for cell in cells:
        exec(compile(cell, str(NOTEBOOK), "exec"), namespace)
    said = capsys.readouterr().out
    assert "user u1, as of 2020-06-01" in said
    assert "brown bread" in said and "bought twice" in said
    assert "ndcg@10" in said and "recommendations" in said
