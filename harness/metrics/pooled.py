"""Figures over all runs of all workloads: the interquartile mean and the probability of improvement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bootstrap import CONFIDENCE, RESAMPLES, percentile_interval, picks, weights
from .order import Array


def interquartile_mean(values: Array) -> Array:
    """Mean of the middle half: a quarter (rounded down) of the values is cut from either end.

    `scipy.stats.trim_mean(x, 0.25)` over the last axis. Agarwal et al. (2021), Deep Reinforcement Learning
    at the Edge of the Statistical Precipice.

    Args:
        values: [..., m], all workloads and seeds together; `inf` is the worst value, NaN is refused.

    Returns:
        [...]; NaN where m is 0.

    Raises:
        ValueError: a value is NaN.
    """
    values = np.asarray(values, float)
    if np.isnan(values).any():
        raise ValueError("interquartile_mean: NaN is not a value; leave missing runs out, make failures inf")
    m = values.shape[-1]
    if m == 0:
        return np.full(values.shape[:-1], np.nan)
    cut = m // 4
    parts = np.partition(values, (cut, m - 1 - cut), axis=-1)
    return parts[..., cut : m - cut].mean(-1)


def interquartile_mean_interval(
    values: Sequence[Array],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Bootstrap interval of the interquartile mean, stratified: each workload's runs are resampled apart.

    Args:
        values: per workload, its runs [n_w]; `inf` is the worst value.
        generator: where resamples come from.
        resamples: number of resamples.
        confidence: of the interval.

    Returns:
        (low, high); NaN where no workload has two runs.
    """
    strata = [np.sort(np.asarray(v, float)) for v in values if len(v)]
    if not any(len(v) > 1 for v in strata):
        return float("nan"), float("nan")
    drawn = [v[picks(len(v), generator, resamples)] for v in strata]
    low, high = percentile_interval(interquartile_mean(np.concatenate(drawn, axis=-1)), confidence)
    return float(low), float(high)


def wins(x: Array, y: Array) -> Array:
    """1 where x is better (lower) than y, 1/2 where equal (two failures are), 0 else; NaN where either is."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    return np.where(np.isnan(x) | np.isnan(y), np.nan, np.where(x == y, 0.5, (x < y).astype(float)))


def probability_of_improvement(x: Sequence[Array], y: Sequence[Array]) -> float:
    """Probability that a run of X is better (lower) than one of Y: mean over workloads of U / (n_x n_y).

    Ties count one half. Agarwal et al. (2021); there higher is better.

    Args:
        x: per workload, the runs of X [n_x].
        y: per workload, the runs of Y [n_y]; workloads in the same order.

    Returns:
        In [0, 1]; NaN where there are no workloads.
    """
    shares = [wins(np.asarray(a)[:, None], np.asarray(b)[None, :]).mean() for a, b in zip(x, y, strict=True)]
    return float(np.mean(shares)) if shares else float("nan")


def paired_improvement(x: Sequence[Array], y: Sequence[Array]) -> float:
    """As `probability_of_improvement`, where run i of X and run i of Y share their seed: only those meet."""
    shares = [wins(a, b).mean() for a, b in zip(x, y, strict=True)]
    return float(np.mean(shares)) if shares else float("nan")


def improvement_interval(
    x: Sequence[Array],
    y: Sequence[Array],
    generator: np.random.Generator,
    paired: bool = False,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Bootstrap interval of the probability of improvement, runs resampled within each workload.

    Args:
        x: per workload, the runs of X.
        y: per workload, the runs of Y.
        generator: where resamples come from.
        paired: seeds are shared: resample the pairs.
        resamples: number of resamples.
        confidence: of the interval.

    Returns:
        (low, high); NaN where no workload has two runs of each.
    """
    total, workloads = np.zeros(resamples), 0
    for a, b in zip(x, y, strict=True):
        a, b = np.asarray(a, float), np.asarray(b, float)
        if min(len(a), len(b)) < 2:
            continue
        workloads += 1
        taken = weights(picks(len(a), generator, resamples))
        if paired:
            total += taken @ wins(a, b) / len(a)
        else:
            other = weights(picks(len(b), generator, resamples))
            meeting = wins(a[:, None], b[None, :])
            total += ((taken @ meeting) * other).sum(-1) / (len(a) * len(b))
    if not workloads:
        return float("nan"), float("nan")
    low, high = percentile_interval(total / workloads, confidence)
    return float(low), float(high)
