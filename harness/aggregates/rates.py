"""Aggregates over the grid of learning rates: loss curve, heatmap of steps, divergence."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..metrics.bootstrap import quantile_interval
from ..metrics.order import mean, median
from ..metrics.success import expected_running_time, success_rate, wilson_interval
from .grid import Array, Cells, Grid, generator_of, grid, table


def _per_rate(g: Grid, **columns: Array) -> pd.DataFrame:
    """One row per pair and rate: the labels, and columns of shape [pairs, rates]."""
    there = ~np.isnan(g.rates)
    pair = np.nonzero(there)[0]
    labels = {"workload": g.workload[pair], "optimizer": g.optimizer[pair], "learning_rate": g.rates[there]}
    return table(**labels, **{k: v[there] for k, v in columns.items()})


def learning_rate_curve(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per workload, optimizer and learning rate: the median final loss, with failures as `inf`.

    Returns:
        workload, optimizer, learning_rate, n, value, low, high (bootstrap), success, success_low,
        success_high (Wilson), diverged (share), loss_metric, chosen (whether it is the rate to use).
    """
    g = grid(cells)
    loss, steps = g.take("loss"), g.take("reached")
    n, hits = (g.rows >= 0).sum(-1), np.isfinite(steps).sum(-1)
    low, high = quantile_interval(loss, generator_of(generator))
    success = wilson_interval(hits, n)
    names = g.frame["loss_metric"].to_numpy(str)
    any_row = g.rows.max(-1, initial=-1)
    place = np.arange(g.rates.shape[1])
    return _per_rate(
        g,
        n=n,
        value=median(loss),
        low=low,
        high=high,
        success=success_rate(hits, n),
        success_low=success[0],
        success_high=success[1],
        diverged=mean(g.take("diverged")),
        loss_metric=names[any_row] if len(names) else np.empty(n.shape, str),
        chosen=g.choice.everything[:, None] == place,
    )


def steps_heatmap(
    cells: Cells, *, stay: bool = False, generator: np.random.Generator | None = None
) -> pd.DataFrame:
    """Per workload, optimizer and learning rate: the median number of steps to the target.

    Args:
        cells: the cells frame.
        stay: steps until the target is reached for good, instead of first.
        generator: where resamples come from; default: seeded with 0.

    Returns:
        workload, optimizer, learning_rate, n, hits, value (`inf` where most miss), low, high, ert.
    """
    g = grid(cells)
    steps = g.take("reached")
    if stay:
        steps = np.where(g.rows < 0, np.nan, np.nan_to_num(g.take("steps_to_stay"), nan=np.inf))
    low, high = quantile_interval(steps, generator_of(generator))
    return _per_rate(
        g,
        n=(g.rows >= 0).sum(-1),
        hits=np.isfinite(steps).sum(-1),
        value=median(steps),
        low=low,
        high=high,
        ert=expected_running_time(steps, g.take("budget")),
    )


def divergence(cells: Cells) -> pd.DataFrame:
    """Per workload, optimizer and learning rate: the share of seeds that diverged.

    Returns:
        workload, optimizer, learning_rate, n, diverged, failed (numbers), value, low, high (Wilson).
    """
    g = grid(cells)
    n = (g.rows >= 0).sum(-1)
    diverged, failed = (np.nansum(g.take(c), -1).astype(int) for c in ("diverged", "failed"))
    low, high = wilson_interval(diverged, n)
    share = success_rate(diverged, n)
    return _per_rate(g, n=n, diverged=diverged, failed=failed, value=share, low=low, high=high)
