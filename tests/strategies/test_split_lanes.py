"""Each replica its own runs: rows are those of one device, to the bit, under every strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.strategies.conftest import exact, run

FIELDS: dict[str, Any] = {
    "workloads": ["rosenbrock(steps=60)", "digits_logistic(steps=30)"],
    "optimizers": ["adam"],
    "learning_rates": [1e-3, 1e-2, 1e-1, 10.0],
    "seeds": 4,
    "lanes": 4,
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    return exact(run(tmp_path_factory.mktemp("one") / "out", "one_device", FIELDS))


@pytest.mark.parametrize(
    "strategy",
    ["default", {"name": "mirrored", "replicas": 4},
     {"name": "central_storage", "devices": ["CPU:1", "CPU:3"]}],
    ids=["default", "mirrored-4", "central_storage-2"],
)  # fmt: skip
def test_rows_are_those_of_one_device(tmp_path: Path, expected: Any, strategy: Any) -> None:
    results = run(tmp_path / "out", strategy, FIELDS)
    assert exact(results) == expected
    cells = results.cells()
    if strategy == "default":
        return
    replicas = strategy.get("replicas", 2)
    assert set(cells["strategy"]) == {strategy["name"]} and set(cells["replicas"]) == {replicas}
    assert set(cells["split"]) == {"lanes"} and cells["all_reduce_share"].isna().all()
    assert set(cells["device"]) <= set(strategy.get("devices", [f"CPU:{i}" for i in range(replicas)]))
    assert cells["device"].nunique() > 1


def test_a_run_goes_on_under_another_strategy(tmp_path: Path, expected: Any) -> None:
    run(tmp_path / "out", {"name": "mirrored", "replicas": 2}, FIELDS)
    lost = sorted((tmp_path / "out" / "cells").glob("*.parquet"))[::2]
    for file in lost:
        file.unlink()
    assert exact(run(tmp_path / "out", "one_device", FIELDS)) == expected
