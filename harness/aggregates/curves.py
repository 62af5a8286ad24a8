"""Aggregates of recorded curves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..metrics.order import quantile
from .grid import Array, Cells, grid, table

FIGURES = ("step", "n", "value", "low", "high")


def loss_curves(curves: pd.DataFrame, cells: Cells) -> pd.DataFrame:
    """Per workload and optimizer, at the recommended rate: median and quartiles of the curves, by step.

    A run that diverged is `inf` from its first missing point on; a run that stopped at its target keeps its
    last value, as the engine keeps its parameters. Between recorded points a run has its last value.

    Returns:
        workload, optimizer, learning_rate, metric (loss, gradient_norm, update_norm, or an evaluation
        metric), step, n (runs), value (median), low, high (quartiles, not an interval).
    """
    g = grid(cells)
    rows, rates = g.rows_at(g.choice), g.chosen_rates(g.choice)
    there = "cell_id" in curves and "step" in curves
    names = [c for c in curves.columns if c not in ("cell_id", "step", "x", "y")] if there else []
    found = pd.Index(curves["cell_id"].to_numpy() if there else np.empty(0, str))
    first = np.flatnonzero(~found.duplicated())
    ids, lost = g.frame["cell_id"].to_numpy(), g.frame["lost"].to_numpy(bool)
    at = np.full(rows.shape, -1)
    if rows.size:
        place = found.take(first).get_indexer(ids[np.maximum(rows, 0)].ravel()).reshape(rows.shape)
        known = (rows >= 0) & (place >= 0)
        at[known] = first[place[known]]
    columns = {name: curves[name].to_numpy() for name in (*names, *(["step"] if there else []))}
    pair, metric, figures = [], [], []
    for p, name in ((p, name) for p in range(g.pairs) for name in names):
        chosen = at[p] >= 0
        runs = at[p][chosen]
        figure = _curve(columns["step"][runs], columns[name][runs], lost[rows[p][chosen]])
        pair.append(np.full(len(figure), p))
        metric.append(np.full(len(figure), name))
        figures.append(figure)
    pair = np.concatenate([np.empty(0, int), *pair])
    values = np.concatenate([np.empty((0, len(FIGURES))), *figures]).T
    labels = {"workload": g.workload[pair], "optimizer": g.optimizer[pair], "learning_rate": rates[pair]}
    metric = np.concatenate([np.empty(0, str), *metric])
    return table(**labels, metric=metric, **dict(zip(FIGURES, values, strict=True)))


def _curve(steps: Array, values: Array, lost: Array) -> Array:
    """Median and quartiles over runs, at the union of their recorded steps: [points, `FIGURES`]."""
    runs = [
        (np.asarray(s), np.asarray(v, float), gone)
        for s, v, gone in zip(steps, values, lost, strict=True)
        if v is not None and not isinstance(v, float) and len(v)
    ]
    if not runs:
        return np.empty((0, len(FIGURES)))
    step = np.unique(np.concatenate([s for s, _, _ in runs]))
    table = np.empty((len(step), len(runs)))
    for i, (s, v, gone) in enumerate(runs):
        table[:, i] = v[np.maximum(np.searchsorted(s, step, side="right") - 1, 0)]
        if gone:
            table[(step > s[-1]) | np.isnan(table[:, i]), i] = np.inf
    n = (~np.isnan(table)).sum(-1)
    out = np.stack([step, n, *(quantile(table, q) for q in (0.5, 0.25, 0.75))], -1)
    return out[n > 0]  # the last point has no update
