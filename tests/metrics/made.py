"""Made studies: `cells`, `curves`, `contours` and `study.json` as a results folder would give them.

`study()` really runs gradient descent, momentum and Adam (plain numpy, all rates and seeds at once) on a
few small problems, so its rows hang together as true ones do; `planted()` (made_rows) makes rows whose
answer is known beforehand.

    cells, curves = study()                      # 7 workloads x 3 optimizers x 11 rates x 10 seeds
    frame = cells_frame([row(seed=s) for s in range(3)])
    contours(), study_json()                     # what the figures and the report read beside the rows
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .made_rows import BUDGET, OPTIMIZERS, cells_frame, curves_frame, planted, row

__all__ = ["BUDGET", "OPTIMIZERS", "PROBLEMS", "RATES", "cells_frame", "contours", "curves_frame"]
__all__ += ["planted", "row", "study", "study_json"]

LADDER = 10  # targets per run
STRIDE = 5  # steps between recorded points
RATES = {
    "adam": np.logspace(-5, 0, 11),
    "gradient_descent": np.logspace(-4, 1, 11),
    "momentum": np.logspace(-5, 0, 11),
}
Array = np.ndarray


@dataclass(frozen=True)
class Problem:
    """A loss with its gradient over the last axis, and how it is described to the harness."""

    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array]
    dimension: int
    domain: tuple[float, float]
    target: float
    params: dict[str, Any] = field(default_factory=dict)
    minimizers: tuple[tuple[float, ...], ...] = ()
    optimum: float | None = 0.0
    noise: float = 0.0
    learned: bool = False  # has train, validation and test metrics


def _quadratic(condition: float, dimension: int = 10, **options: Any) -> Problem:
    curvature = np.logspace(-np.log10(condition), 0, dimension)
    params = {"condition": condition, "dimension": dimension}
    return Problem(
        value=lambda x: 0.5 * (curvature * x**2).sum(-1),
        gradient=lambda x: curvature * x,
        dimension=dimension,
        domain=(-2.0, 2.0),
        target=1e-3,
        params=params,
        minimizers=((0.0,) * dimension,),
        **options,
    )


def _rosenbrock_gradient(x: Array) -> Array:
    a, b = x[..., 0], x[..., 1]
    return np.stack([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)], -1)


PROBLEMS: dict[str, Problem] = {
    "sphere": Problem(
        lambda x: (x**2).sum(-1), lambda x: 2 * x, 2, (-5.0, 5.0), 1e-3, {"dimension": 2}, ((0.0, 0.0),)
    ),
    "rosenbrock": Problem(
        lambda x: (1 - x[..., 0]) ** 2 + 100 * (x[..., 1] - x[..., 0] ** 2) ** 2,
        _rosenbrock_gradient,
        2,
        (-2.0, 2.0),
        1e-1,
        {"dimension": 2},
        ((1.0, 1.0),),
    ),
    "rastrigin": Problem(
        lambda x: 20 + (x**2 - 10 * np.cos(2 * np.pi * x)).sum(-1),
        lambda x: 2 * x + 20 * np.pi * np.sin(2 * np.pi * x),
        2,
        (-5.0, 5.0),
        1e-2,
        {"dimension": 2},
        ((0.0, 0.0),),
    ),
    "quadratic(condition=1.0)": _quadratic(1.0),
    "quadratic(condition=100.0)": _quadratic(100.0),
    "quadratic(condition=10000.0)": _quadratic(1e4),
    "digits_mlp": Problem(
        value=lambda x: 0.05 + 0.05 * (np.logspace(-1.5, 0, 20) * x**2).sum(-1),
        gradient=lambda x: 0.1 * np.logspace(-1.5, 0, 20) * x,
        dimension=20,
        domain=(-3.0, 3.0),
        target=0.2,
        params={"hidden": 32, "batch": 32},
        optimum=None,
        noise=0.02,
        learned=True,
    ),
}


def _update(name: str, g: Array, m: Array, v: Array, lr: Array, t: int) -> tuple[Array, Array, Array]:
    """(step, m, v) of one update: gradient descent, heavy ball (0.9), or Adam (0.9, 0.999, 1e-7)."""
    if name == "gradient_descent":
        return -lr * g, m, v
    if name == "momentum":
        m = 0.9 * m + g
        return -lr * m, m, v
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return -lr * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-7), m, v


def _trajectories(problem: Problem, name: str, rates: Array, seeds: Sequence[int], steps: int) -> Array:
    """[steps + 1, rates, seeds, dimension] float64; NaN from the step after which a run has diverged."""
    start = [np.random.default_rng([1, s]).uniform(*problem.domain, problem.dimension) for s in seeds]
    noise = [np.random.default_rng([2, s]).normal(size=(steps, problem.dimension)) for s in seeds]
    x = np.broadcast_to(np.array(start), (len(rates), len(seeds), problem.dimension)).copy()
    path = np.empty((steps + 1, *x.shape))
    m, v = np.zeros_like(x), np.zeros_like(x)
    lr = rates[:, None, None]
    limit = 1e6 * (1.0 + problem.value(x))
    path[0] = x
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps):
            g = problem.gradient(x) + problem.noise * np.stack([n[t] for n in noise])
            step, m, v = _update(name, g, m, v, lr, t)
            x = x + step
            x[~(problem.value(x) < limit)] = np.nan
            path[t + 1] = x
    return path


def _stability(path: Array, steps: int) -> dict[str, float | None]:
    """Parameter stability of one run, from its points [steps + 1, dimension]."""
    path = path[: steps + 1]
    updates = np.diff(path, axis=0)
    length = float(np.linalg.norm(updates, axis=1).sum())
    back = (updates[1:] * updates[:-1]).sum(1) < 0
    full = len(path) == BUDGET + 1
    return {
        "path_length": length,
        "displacement": float(np.linalg.norm(path[-1] - path[0])),
        "turn_backs": float(back.mean()) if back.size else None,
        "tail_std": float(np.sqrt(path[-(BUDGET // 10) - 1 :].var(0).mean())) if full else None,
    }


def _metrics(problem: Problem, loss: float, seed: int) -> dict[str, float]:
    """Train, validation and test figures at the end of a run: the loss, with a fixed share on top."""
    if not problem.learned or not np.isfinite(loss):
        return {}
    luck = np.random.default_rng([3, seed]).normal(size=2) * 0.005
    losses = {"train": loss, "validation": loss * 1.1 + luck[0] + 0.01, "test": loss * 1.15 + luck[1] + 0.01}
    out = {f"{k}_loss": v for k, v in losses.items()}
    out.update({f"{k}_accuracy": float(np.exp(-v)) for k, v in losses.items()})
    return out


def _hits(values: Array, targets: Array) -> list[int | None]:
    """First step at or under each target; None where there is none."""
    below = values[:, None] <= targets
    return [int(b.argmax()) if b.any() else None for b in below.T]


def _run(label: str, problem: Problem, optimizer: str, rate: float, seed: int, path: Array) -> tuple:
    """(cell row, curve row) of one run, from its points [BUDGET + 1, dimension]."""
    losses = problem.value(path)
    alive = np.isfinite(losses)
    steps = BUDGET if alive.all() else int(alive.argmin())
    low = problem.optimum or 0.0
    targets = low + np.logspace(np.log10(max(losses[0] - low, 1e-6)), np.log10(problem.target - low), LADDER)
    watched = losses * 1.1 + 0.01 if problem.learned else losses
    hits = _hits(watched, targets)
    outside = np.flatnonzero(~(watched <= problem.target))
    stay = int(outside[-1]) + 1 if outside.size else 0
    final = float(losses[-1]) if alive[-1] else np.inf
    status = "diverged" if steps < BUDGET else "converged" if hits[-1] is not None else "budget"
    cell = row(
        workload=label,
        workload_params=json.dumps(problem.params, sort_keys=True, separators=(",", ":")),
        optimizer=optimizer,
        learning_rate=float(rate),
        seed=seed,
        target=problem.target,
        status=status,
        steps=steps,
        steps_to_target=hits[-1],
        steps_to_stay=stay if stay <= BUDGET else None,
        targets=targets.tolist(),
        hits=hits,
        initial_loss=float(losses[0]),
        initial_gradient_norm=float(np.linalg.norm(problem.gradient(path[0]))),
        best_loss=float(np.nanmin(losses)),
        best_step=int(np.nanargmin(losses)),
        final_loss=final,
        metrics=_metrics(problem, final, seed),
        **_stability(path, min(steps, BUDGET) - (steps < BUDGET)),
    )
    at = np.arange(0, steps + (steps == BUDGET), STRIDE)
    norms = np.linalg.norm(np.diff(path, axis=0), axis=1)
    curve = {
        "cell_id": cell["cell_id"],
        "step": at,
        "loss": losses[at],
        "gradient_norm": np.linalg.norm(problem.gradient(path[at]), axis=1),
        "update_norm": np.append(norms, np.nan)[at],
        "validation_loss": watched[at] if problem.learned else None,
        "validation_accuracy": np.exp(-watched[at]) if problem.learned else None,
        "x": path[at, 0] if problem.dimension == 2 else None,
        "y": path[at, 1] if problem.dimension == 2 else None,
    }
    return cell, curve


def study(
    workloads: Sequence[str] = tuple(PROBLEMS),
    optimizers: Sequence[str] = OPTIMIZERS,
    seeds: Sequence[int] = range(10),
    every: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(cells, curves) of real runs: every workload x optimizer x rate x seed, 300 steps each.

    Args:
        workloads: names in `PROBLEMS`.
        optimizers: names in `RATES`.
        seeds: seeds of the starting points, shared by all optimizers and rates.
        every: keep every so-many-th of each optimizer's 11 rates.
    """
    rows = []
    for label in workloads:
        for optimizer in optimizers:
            rates = RATES[optimizer][::every]
            path = _trajectories(PROBLEMS[label], optimizer, rates, seeds, BUDGET)
            rows += [
                _run(label, PROBLEMS[label], optimizer, rate, seed, path[:, i, j])
                for i, rate in enumerate(rates)
                for j, seed in enumerate(seeds)
            ]
    return cells_frame(c for c, _ in rows), curves_frame(c for _, c in rows)


def contours(points: int = 41) -> pd.DataFrame:
    """The `contours` frame of the 2-D problems: x, y [points], z [points * points] with y outer."""
    rows = []
    for label, problem in PROBLEMS.items():
        if problem.dimension == 2:
            axis = np.linspace(*problem.domain, points)
            x, y = np.meshgrid(axis, axis)
            z = problem.value(np.stack([x, y], -1)).ravel()
            best = [list(m) for m in problem.minimizers]
            rows.append({"workload": label, "x": axis, "y": axis, "z": z, "minimizers": best})
    return pd.DataFrame(rows)


def study_json(seeds: Sequence[int] = range(10)) -> dict[str, Any]:
    """What `study.json` would hold beside `study()`."""
    return {
        "schema_version": 1,
        "name": "made",
        "spec": {"stop": "budget"},
        "workloads": {
            label: {
                "name": label.partition("(")[0],
                "params": p.params,
                "target": p.target,
                "target_metric": "validation_loss" if p.learned else "loss",
                "steps": BUDGET,
                "optimum": p.optimum,
                "minimizers": [list(m) for m in p.minimizers],
                "domain": [list(p.domain)] * p.dimension if p.dimension == 2 else None,
                "description": f"The made {label.partition('(')[0]} problem.",
                "family": label.partition("(")[0],
            }
            for label, p in PROBLEMS.items()
        },
        "optimizers": {o: {"name": o, "params": {}, "description": f"Made {o}."} for o in OPTIMIZERS},
        "learning_rates": {o: RATES[o].tolist() for o in OPTIMIZERS},
        "seeds": list(seeds),
        "programs": {},
        "versions": {"python": "3.11", "tensorflow": "2.21.0"},
        "hardware": {"device": "cpu", "cores": 2},
        "code": {},
        "created_at": "2025-01-01T00:00:00Z",
    }
