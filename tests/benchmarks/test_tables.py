"""Ratios of rounds, the Markdown table, the README's markers, the figure."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.figure import draw
from benchmarks.tables import BEGIN, END, page, ratios, times, write_readme


def rounds() -> pd.DataFrame:
    """Three rounds in which this project is 2, 3 and 4 times faster than JAX, half of that with metrics."""
    rows = []
    for number, factor in enumerate((2, 4, 3)):
        rows.append(("w", "optgrid", number, 1.0, 0.5, 1000 * factor))
        rows.append(("w", "metrics", number, 1.0, 1.0, 1000 * factor))
        rows.append(("w", "jax", number, 1.0, 0.0, 1000))
    return pd.DataFrame(rows, columns=["work", "side", "round", "seconds", "evaluate_seconds", "cell_steps"])


def test_ratios_are_of_one_round_each():
    (row,) = ratios(rounds()).to_dict("records")
    assert (row["n"], row["low"], row["ratio"], row["high"]) == (3, 2.5, 3.0, 3.5)
    assert row["with_metrics"] == 1.5


def test_a_work_without_metrics_has_no_ratio_with_them():
    both = rounds()
    plain = both[both["side"] != "metrics"].assign(work="p")
    by_work = ratios(pd.concat([both, plain])).set_index("work")["with_metrics"]
    assert by_work["w"] == 1.5 and pd.isna(by_work["p"])
    assert ratios(plain)["with_metrics"].isna().all()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.314, "0.31 ×"), (2.61, "2.6 ×"), (12.4, "12 ×"), (123.0, "120 ×"), (12345.0, "12,000 ×")],
)
def test_two_digits(value, text):
    assert times(value) == text


COMPILED = {"optgrid": (0.5, 1.0, 4.0), "jax": (1.0, 2.0, 4.0)}
FIRST_RUN = {"optgrid": 0.5, "jax": 1.0}


@pytest.fixture
def measured(tmp_path):
    """A results folder as a run leaves it."""
    rounds().to_parquet(tmp_path / "rounds.parquet")
    tried = "{'patches, unroll 1': 0.5, 'conv, unroll 1': 9.0, 'conv, unroll 2': 8.0}"
    sides = [("w", "A work", "optgrid", 1.0, "{}"), ("w", "A work", "jax", 2.0, tried)]
    prepared = pd.DataFrame(sides, columns=["work", "title", "side", "compile_seconds", "tried"])
    prepared.to_parquet(tmp_path / "prepared.parquet")
    compiles = [
        ("w", side, i, s, FIRST_RUN[side]) for side, took in COMPILED.items() for i, s in enumerate(took)
    ]
    columns = ["work", "side", "repeat", "seconds", "run_seconds"]
    pd.DataFrame(compiles, columns=columns).to_parquet(tmp_path / "compiles.parquet")
    bounds = pd.DataFrame({"work": ["w"], "bound": ["sgemm peak"], "share": [0.5]})
    bounds.to_parquet(tmp_path / "bounds.parquet")
    shell = {
        "side": ["optgrid, cold cache", "Ray Tune"],
        "cells": [270, 18],
        "seconds": [10.0, 500.0],
        "scaled": [False, True],
    }
    pd.DataFrame(shell).to_parquet(tmp_path / "shell.parquet")
    return tmp_path


def test_the_page_holds_what_was_measured(measured):
    text = page(measured)
    assert (
        "| A work | 3e+03 | **3.0 ×** (2.5 to 3.5); 8.0 × with `lax.conv` | 1.5 × | – | – "
        "| 50% of sgemm peak |" in text
    )
    assert "| 1.0 s, JAX 2.0 s: 0.50 × (0.50 to 0.75) | 2.0 × (1.6 to 2.0) |" in text
    assert "| Ray Tune (measured on 18 trials and scaled) | 500 | 50 × |" in text


def test_without_jax_there_is_nothing_to_compile_beside(measured):
    (measured / "compiles.parquet").unlink()
    assert "| 50% of sgemm peak | – | – |" in page(measured)


def test_the_readme_is_written_between_its_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        write_readme(readme, "| new |")
        assert readme.read_text() == f"before\n{BEGIN}\n| new |\n{END}\nafter\n"
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="between"):
        write_readme(readme, "| new |")


def test_the_figure_names_works_and_peers(tmp_path):
    draw(rounds(), {"w": "A work"}, tmp_path / "ratios.svg")
    text = (tmp_path / "ratios.svg").read_text()
    assert "A work" in text and "JAX" in text and "3.0 ×" in text
