"""A cell's row is the same to the bit alone or among others, with one worker or two, cut or whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import Study
from tests.engine.frames import bits

FUNCTIONS: dict[str, Any] = {
    "workloads": ["rosenbrock(steps=150)", "quadratic(dimension=10, rotated=True, noise=0.1, steps=90)"],
    "optimizers": ["adam", "momentum(momentum=[0.5, 0.9])"],
    "learning_rates": [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0],
    "seeds": 5,
    "lanes": 16,
}
NETWORK: dict[str, Any] = {
    "workloads": ["digits_mlp(hidden=[8], steps=40)"],
    "optimizers": ["adam"],
    "learning_rates": [1e-3, 1e-2, 1e-1, 1.0],
    "seeds": 3,
    "lanes": 4,
}
WRITTEN_OUT = NETWORK | {"lanes": 16}  # whole vectors of lanes
HALVES = NETWORK | {"workloads": ["digits_mlp(hidden=[64, 64], batch_size=256, steps=20)"]}
STUDIES = pytest.mark.parametrize(
    "fields",
    [FUNCTIONS, NETWORK, WRITTEN_OUT, HALVES],
    ids=["functions", "network", "written out", "halves"],
)


def rows(fields: dict[str, Any], out: Path, workers: int = 2, **run: Any) -> dict[str, list[object]]:
    results = Study(name="bits", **fields).run(out, workers=workers, **run)
    cells, curves = bits(results.cells()), bits(results.curves())
    assert cells.keys() == curves.keys()
    return {cell: [*cells[cell], *curves[cell]] for cell in cells}


@STUDIES
def test_one_worker_or_two(fields: dict[str, Any], tmp_path: Path) -> None:
    assert rows(fields, tmp_path / "one", workers=1) == rows(fields, tmp_path / "two", workers=2)


@STUDIES
def test_alone_or_among_others_and_in_another_order(fields: dict[str, Any], tmp_path: Path) -> None:
    among = rows(fields, tmp_path / "among")
    rates = fields["learning_rates"]
    few = fields | {"learning_rates": rates[::-2], "seeds": [2, 0]}
    some = rows(few, tmp_path / "some")
    assert some.keys() < among.keys()
    assert some == {cell: among[cell] for cell in some}
    alone = fields | {"learning_rates": [rates[2]], "seeds": [1], "optimizers": ["adam"]}
    one = rows(alone, tmp_path / "alone")
    assert one == {cell: among[cell] for cell in one}


@STUDIES
def test_resumed_after_files_were_lost(fields: dict[str, Any], tmp_path: Path) -> None:
    whole = rows(fields, tmp_path / "run")
    files = sorted((tmp_path / "run" / "cells").glob("*.parquet"))
    for lost in files[::2]:
        lost.unlink()
    assert rows(fields, tmp_path / "run", workers=1) == whole


def test_stop_at_target_refills_lanes_and_keeps_rows(tmp_path: Path) -> None:
    fields = FUNCTIONS | {"stop": "target", "workloads": ["quadratic(dimension=4, condition=4.0, steps=300)"]}
    narrow = rows(fields | {"lanes": 16}, tmp_path / "many")
    subset = rows(fields | {"seeds": [3]}, tmp_path / "few")
    assert subset == {cell: narrow[cell] for cell in subset}
