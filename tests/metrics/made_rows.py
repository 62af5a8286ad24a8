"""Made rows, with the types that a reader of a results folder would see.

They pass through the Arrow schema of the records: lists are arrays, the `metrics` map is (key, value) tuples,
null integers are NaN.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from harness.records import CELLS, curves_schema

BUDGET = 300
OPTIMIZERS = ("adam", "gradient_descent", "momentum")


def _frame(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> pd.DataFrame:
    return pa.Table.from_pylist(list(rows), schema=schema).to_pandas()


def cells_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows (dicts; missing columns are null) -> the `cells` frame, with the types a reader would see."""
    return _frame(rows, CELLS)


def curves_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows -> the `curves` frame."""
    return _frame(rows, curves_schema())


def row(**columns: Any) -> dict[str, Any]:
    """One cell that reached its target after 100 of 300 steps; any column may be given.

    Consequences follow unless they are given too: `status` decides the hits, a diverged run has an
    infinite final loss, `hits` are one step for one target.
    """
    out: dict[str, Any] = {
        "study": "made",
        "workload": "sphere",
        "optimizer": "adam",
        "strategy": "default",
        "device": "cpu:0",
        "dtype": "float32",
        "learning_rate": 0.1,
        "seed": 0,
        "budget": BUDGET,
        "target": 1e-3,
        "status": "converged",
        "initial_loss": 1.0,
        "initial_gradient_norm": 1.0,
        "tile_id": "t0",
        "lanes": 64,
        "compile_seconds": 0.5,
        "train_seconds": 1e-3,
        "worker": "local-0",
        "evaluate_seconds": 1e-4,
        "finished_at": datetime(2025, 1, 1, tzinfo=UTC),
        "metrics": {},
        **columns,
    }
    hit = out["status"] == "converged"
    lost = out["status"] in ("diverged", "failed")
    steps = out.setdefault("steps_to_target", 100 if hit else None)
    out.setdefault("steps_to_stay", steps)
    out.setdefault("steps", 20 if lost else out["budget"])
    out.setdefault("final_loss", None if out["status"] == "failed" else np.inf if lost else 1e-4)
    out.setdefault("best_loss", None if out["status"] == "failed" else min(out["final_loss"], 1.0))
    out.setdefault("best_step", out["steps"])
    out.setdefault("targets", [out["target"]])
    out.setdefault("hits", [steps])
    out.setdefault("workload_params", "{}")
    out.setdefault("optimizer_params", "{}")
    out.setdefault("detail", f"{out['status']} after {out['steps']} steps")
    key = [out[k] for k in ("workload", "optimizer", "learning_rate", "seed", "dtype")]
    out.setdefault("cell_id", hashlib.blake2b(json.dumps(key).encode(), digest_size=10).hexdigest())
    out["metrics"] = list(dict(out["metrics"]).items())
    return out


def planted(
    workloads: Sequence[str] = ("sphere",),
    optimizers: Sequence[str] = OPTIMIZERS,
    rates: Sequence[float] = (0.01, 0.1, 1.0),
    seeds: Iterable[int] = range(10),
    outcome: Callable[[str, str, float, int], dict[str, Any]] = lambda *_: {},
) -> pd.DataFrame:
    """A full grid of `row`s, each with the columns that `outcome(workload, optimizer, rate, seed)` gives."""
    return cells_frame(
        row(workload=w, optimizer=o, learning_rate=r, seed=s, **outcome(w, o, r, s))
        for w in workloads
        for o in optimizers
        for r in rates
        for s in seeds
    )
