"""Aggregates of time to target: runtime distributions, performance profiles, the AlgoPerf score."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..metrics.bootstrap import RESAMPLES, percentile_interval, picks, quantile_replicates, weights
from ..metrics.order import by_count
from ..metrics.profiles import performance_profile, performance_ratios, profile_score, study_times
from ..metrics.runtime import runtime_ecdf
from ..metrics.success import expected_running_time, running_time_replicates
from .grid import Array, Cells, Grid, generator_of, grid, none, table

POINTS = 64  # of a drawn curve


def ecdf(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per optimizer: the share of (workload, seed, target) hit within a number of steps.

    Every seed counts at the rate that the other half of the seeds chose; targets are each run's own ladder
    (`targets`, `hits`), or its one target where it has no ladder.

    Returns:
        optimizer, steps, n (workload x seed x target), value, low, high (bootstrap over seeds within each
        workload; NaN where no workload has two seeds).
    """
    g, generator = grid(cells), generator_of(generator)
    rows = _held_out_rows(g)
    budgets = g.frame["budget"].to_numpy()
    longest = np.nanmax(budgets) if np.isfinite(budgets).any() else 1.0
    steps = np.unique(np.append(0, np.geomspace(1, max(longest, 1), POINTS).round()))
    parts = []
    for name in np.unique(g.optimizer):
        ladders = [_ladders(g, rows[p][rows[p] >= 0]) for p in np.flatnonzero(g.optimizer == name)]
        parts.append(_ecdf_of(str(name), [ladder for ladder in ladders if ladder], steps, generator))
    if parts:
        return pd.concat(parts, ignore_index=True)
    return table(
        optimizer=np.empty(0, str), **{k: np.empty(0) for k in ("steps", "n", "value", "low", "high")}
    )


def _held_out_rows(g: Grid) -> Array:
    """[pairs, seeds] the row of every seed at the rate chosen without it; -1 where there is none."""
    if g.rows.shape[1] == 0:
        return np.full((g.pairs, len(g.seeds)), -1)
    place = g.choice.per_seed
    rows = np.take_along_axis(g.rows, np.maximum(place, 0)[:, None, :], 1)[:, 0]
    return np.where(place >= 0, rows, -1)


def _ladders(g: Grid, rows: Array) -> list[Array]:
    """Per run, the steps to each of its targets; `inf` where missed."""
    reached = g.frame["reached"].to_numpy()
    hits = g.frame["hits"].to_numpy() if "hits" in g.frame else np.full(len(g.frame), None)
    out = []
    for i in rows:
        has = hits[i] is not None and not isinstance(hits[i], float) and len(hits[i])
        times = np.asarray(hits[i], float) if has else reached[i : i + 1]
        out.append(np.where(np.isnan(times), np.inf, times))
    return out


def _ecdf_of(
    name: str, ladders: list[list[Array]], steps: Array, generator: np.random.Generator
) -> pd.DataFrame:
    """One optimizer's distribution; ladders: per workload, per seed, the steps to each target."""
    times = np.concatenate([np.empty(0), *(t for workload in ladders for t in workload)])
    hit, size = np.zeros((RESAMPLES, len(steps))), np.zeros((RESAMPLES, 1))
    for workload in ladders:
        taken = weights(picks(len(workload), generator))
        lengths = np.array([[len(t)] for t in workload], float)
        hit += taken @ (np.stack([runtime_ecdf(t, steps) for t in workload]) * lengths)
        size += taken @ lengths
    low, high = np.full(len(steps), np.nan), np.full(len(steps), np.nan)
    if any(len(workload) > 1 for workload in ladders):
        low, high = percentile_interval((hit / size).T)
    n = np.full(len(steps), times.size)
    value = runtime_ecdf(times, steps)
    return table(optimizer=np.full(len(steps), name), steps=steps, n=n, value=value, low=low, high=high)


def by_optimizer(g: Grid, values: Array) -> tuple[Array, Array, Array]:
    """[pairs, ...] -> (optimizers, workloads, [optimizers, workloads, ...]); `inf` for a missing pair."""
    optimizers, o = np.unique(g.optimizer, return_inverse=True)
    workloads, w = np.unique(g.workload, return_inverse=True)
    out = np.full((len(optimizers), len(workloads), *values.shape[1:]), np.inf)
    out[o, w] = np.where(np.isnan(values), np.inf, values)
    return optimizers, workloads, out


def _running_times(g: Grid, generator: np.random.Generator) -> tuple[Array, Array]:
    """Cross-fitted ERT of every pair and its replicates: [pairs], [pairs, resamples]."""
    steps, budgets = g.held_out("reached"), g.held_out("budget")
    replicates = np.full((g.pairs, RESAMPLES), np.inf)
    for n, rows, columns in by_count(~np.isnan(steps)):
        t, b = (np.take_along_axis(v[rows], columns, 1) for v in (steps, budgets))
        replicates[rows] = running_time_replicates(t, b, picks(n, generator))
    return expected_running_time(steps, budgets), replicates


def profile(
    cells: Cells, *, tau_max: float = 10.0, generator: np.random.Generator | None = None
) -> pd.DataFrame:
    """Per optimizer: the share of workloads on which its expected running time is within tau x the best.

    Args:
        cells: the cells frame.
        tau_max: where the curve ends.
        generator: where resamples come from; default: seeded with 0.

    Returns:
        optimizer, tau, n (workloads), value, low, high (bootstrap over seeds).
    """
    g = grid(cells)
    times, replicates = _running_times(g, generator_of(generator))
    optimizers, workloads, value = by_optimizer(g, times)
    replicates = np.moveaxis(by_optimizer(g, replicates)[2], -1, 0)  # [resamples, optimizers, workloads]
    taus = np.geomspace(1.0, tau_max, POINTS)
    count = len(optimizers) * POINTS
    if not count:
        return table(
            optimizer=np.empty(0, str), **{k: np.empty(0) for k in ("tau", "n", "value", "low", "high")}
        )
    ratios = performance_ratios(replicates)
    shares = np.stack([(ratios <= tau).mean(-1) for tau in taus], -1)  # [resamples, optimizers, taus]
    low, high = percentile_interval(np.moveaxis(shares, 0, -1))
    known = np.full(count, len(g.seeds) > 1)
    return table(
        optimizer=np.repeat(optimizers, POINTS),
        tau=np.tile(taus, len(optimizers)),
        n=np.full(count, len(workloads)),
        value=performance_profile(performance_ratios(value), taus).ravel(),
        low=np.where(known, low.ravel(), np.nan),
        high=np.where(known, high.ravel(), np.nan),
    )


def algoperf(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per optimizer: AlgoPerf's score over this study's workloads, in steps to the target.

    A seed is a study and a learning rate a trial: t = median over seeds of the fewest steps that any rate
    of the grid took. Over 4 x the fastest optimizer counts as a miss; the score is the exact integral of
    the performance profile over tau in [1, 4], over 3. More trials make a lucky minimum likelier: compare
    grids of one size. An optimizer's workloads that were not run are misses.

    Returns:
        optimizer, n (workloads), value, low, high (bootstrap over seeds), missed (workloads), trials (most
        rates on a workload).
    """
    g, generator = grid(cells), generator_of(generator)
    steps = np.swapaxes(g.take("reached"), 1, 2)  # [pairs, studies, trials]
    optimizers, workloads, times = by_optimizer(g, study_times(steps))
    fastest = np.fmin.reduce(steps, axis=-1, initial=np.inf)
    fastest = np.where(np.isnan(steps).all(-1), np.nan, fastest)
    replicates = np.full((g.pairs, RESAMPLES), np.inf)
    for n, rows, columns in by_count(~np.isnan(fastest)):
        values = np.take_along_axis(fastest[rows], columns, 1)
        replicates[rows] = quantile_replicates(values, picks(n, generator))
    drawn = np.moveaxis(by_optimizer(g, replicates)[2], -1, 0)
    trials = [g.count[g.optimizer == o].max() for o in optimizers]
    if not len(optimizers):
        return table(optimizer=np.empty(0, str), **none("n", "value", "low", "high", "missed", "trials"))
    ratios = performance_ratios(times)
    low, high = percentile_interval(profile_score(performance_ratios(drawn)).T)
    known = np.full(len(optimizers), len(g.seeds) > 1)
    return table(
        optimizer=optimizers,
        n=np.full(len(optimizers), len(workloads)),
        value=profile_score(ratios),
        low=np.where(known, low, np.nan),
        high=np.where(known, high, np.nan),
        missed=(ratios > 4).sum(-1),
        trials=np.array(trials),
    )
