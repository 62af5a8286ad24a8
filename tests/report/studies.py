"""Studies for the report's tests: a whole one, and one for everything that can be missing or odd."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tests.metrics import made

HOSTILE = "plug_in.py:Evil(name='<script>alert(1)</script>&\"$x_1$')"
LONG = "my_optimizers/experimental/second_order.py:PreconditionedLookAhead(momentum=0.95, alpha=0.5, k=5)"

WORKLOADS = ("sphere", "rosenbrock", "quadratic(condition=100.0)", "digits_mlp")


class Study(NamedTuple):
    """What `render` takes."""

    cells: pd.DataFrame
    curves: pd.DataFrame
    contours: pd.DataFrame
    study: dict


@lru_cache(maxsize=1)
def whole() -> Study:
    """Four workloads, three optimizers, six rates, four seeds; real runs."""
    cells, curves = made.study(WORKLOADS, seeds=range(4), every=2)
    return Study(cells, curves, made.contours(), made.study_json(seeds=range(4)))


def _empty() -> Study:
    return Study(made.cells_frame([]), made.curves_frame([]), made.contours().iloc[:0], {})


def _columnless() -> Study:
    return Study(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), {})


def _only(keep: Callable[[pd.DataFrame], Any]) -> Study:
    full = whole()
    cells = full.cells[keep(full.cells)]
    return full._replace(cells=cells, curves=full.curves[full.curves.cell_id.isin(cells.cell_id)])


def _relabelled(optimizer: dict[str, str], workload: dict[str, str]) -> Study:
    full = whole()
    cells = full.cells.replace({"optimizer": optimizer, "workload": workload})
    contours = full.contours.replace({"workload": workload})
    study = dict(full.study)
    study["optimizers"] = {optimizer.get(k, k): v for k, v in study["optimizers"].items()}
    study["workloads"] = {workload.get(k, k): v for k, v in study["workloads"].items()}
    return Study(cells, full.curves, contours, study)


def _planted(**columns) -> Study:
    cells = made.planted(outcome=lambda *_: columns)
    return Study(cells, made.curves_frame([]), pd.DataFrame(), {})


def _many(workloads: int, optimizers: int) -> Study:
    def outcome(_w: str, o: str, rate: float, seed: int) -> dict:
        if rate == 1.0 and o.endswith("1"):
            return {"status": "diverged"}
        steps = 20 + 3 * seed + 7 * len(o) + int(10 / rate) % 200
        return {"steps_to_target": steps, "turn_backs": 0.1, "path_length": 2.0, "displacement": 1.0}

    cells = made.planted(
        workloads=[f"workload_{i}(dimension={i})" for i in range(workloads)],
        optimizers=[f"method_{i}" for i in range(optimizers)],
        seeds=range(3),
        outcome=outcome,
    )
    return Study(cells, made.curves_frame([]), pd.DataFrame(), {})


def _negative() -> Study:
    """Negative losses without a known optimum; the lowest possible float among the curves."""
    cells = made.planted(outcome=lambda _w, _o, r, s: {"final_loss": -40.0 + r + s, "initial_loss": 5.0})
    ids = cells.cell_id
    curves = made.curves_frame({"cell_id": i, "step": [0, 10, 20], "loss": [5.0, -30.0, -40.0]} for i in ids)
    return Study(cells, curves, pd.DataFrame(), {})


def _odd_points() -> Study:
    """Coordinates that leave for infinity, and one run of a single point."""
    full = whole()
    curves = full.curves.copy()
    curves["x"] = [None if x is None else np.where(np.arange(len(x)) > 3, 1e30, x) for x in curves.x]
    curves["y"] = [None if y is None else np.where(np.arange(len(y)) > 5, np.nan, y) for y in curves.y]
    return full._replace(curves=curves)


DEGENERATE: dict[str, Callable[[], Study]] = {
    "empty": _empty,
    "no columns at all": _columnless,
    "one optimizer": lambda: _only(lambda c: c.optimizer == "adam"),
    "one seed": lambda: _only(lambda c: c.seed == 0),
    "one learning rate": lambda: _only(lambda c: c.learning_rate == 1e-2),
    "one cell": lambda: _only(lambda c: c.index == 0),
    "one workload": lambda: _only(lambda c: c.workload == "digits_mlp"),
    "half of the cells": lambda: _only(lambda c: c.index % 2 == 0),
    "no 2-D workload": lambda: whole()._replace(contours=whole().contours.iloc[:0]),
    "no curves": lambda: whole()._replace(curves=made.curves_frame([])),
    "no study.json": lambda: whole()._replace(study={}),
    "all diverged": lambda: _planted(status="diverged"),
    "all failed": lambda: _planted(status="failed", detail="ValueError: <b>no</b>"),
    "nobody reaches the target": lambda: _planted(status="budget", final_loss=0.5),
    "losses of zero": lambda: _planted(final_loss=0.0, best_loss=0.0),
    "negative losses": _negative,
    "points at infinity": _odd_points,
    "long labels": lambda: _relabelled({"adam": LONG}, {"rosenbrock": LONG + "+data"}),
    "hostile labels": lambda: _relabelled({"adam": HOSTILE}, {"rosenbrock": HOSTILE}),
    "twelve optimizers": lambda: _many(3, 12),
    "forty workloads": lambda: _many(40, 2),
}
