"""Nodes for the small clusters, and the study that the tests run on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import STORE

PLUGINS = Path(__file__).resolve().parent / "plugins"


@pytest.fixture(autouse=True)
def own_secret(token: None) -> None:
    """Every test here has the tests' own token."""


def add_node(cluster: Any, cpus: int = 1, gpus: int = 0) -> Any:
    """A node whose GPUs exist in Ray's books only."""
    return cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=STORE)


def study(name: str = "cluster", **changes: Any) -> Any:
    """Two programs of ten tiles each, on the tests' own plug-in."""
    from harness import Study

    fields: dict[str, Any] = {
        "name": name,
        "workloads": [f"{PLUGINS / 'bowls.py'}:Bowl"],
        "optimizers": ["adam", "momentum"],
        "learning_rates": [1e-3, 1e-2, 1e-1, 1.0],
        "seeds": 10,
        "lanes": 4,
        "strategy": {"name": "one_device", "devices": ["CPU:0"]},
    }
    return Study(**(fields | changes))


def journal(out: Path, event: str | None = None) -> list[dict[str, Any]]:
    """Lines of a results folder's journal."""
    path = out / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if event in (None, line["event"])]


def rows(results: Any) -> dict[str, list[object]]:
    """A study's rows and curves to the bit, failed ones left out; no cell is missing, none there twice."""
    import pyarrow.compute as pc

    from tests.engine.frames import bits

    table = results.store.read("cells")[0]
    assert len(set(table.column("cell_id").to_pylist())) == table.num_rows == results.total_cells()
    # In Arrow, where a failed row's nulls do not change the other rows' types.
    ran = table.filter(pc.not_equal(table.column("status"), "failed"))
    cells, curves = bits(ran.to_pandas()), bits(results.curves())
    assert cells.keys() == curves.keys()
    return {cell: [*cells[cell], *curves[cell]] for cell in cells}
