"""Estimates over workloads and seeds: the two-level bootstrap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .bootstrap import CONFIDENCE, RESAMPLES, percentile_interval, picks, weights
from .order import Array, by_count, mean


class Estimate(NamedTuple):
    """A figure with its interval; NaN where it is unknown.

    Attributes:
        value, low, high: mean over workloads of a figure of their seeds, and its interval.
        n: runs (or pairs of runs) behind it.
        workloads: workloads behind it.
    """

    value: float
    low: float
    high: float
    n: int
    workloads: int


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"), 0, 0)


def seed_replicates(values: Array, generator: np.random.Generator) -> Array:
    """Per workload, the mean over resampled seeds: [workloads, seeds] -> [workloads, resamples].

    Args:
        values: finite; NaN where there is no run; every workload has at least one.
        generator: where resamples come from.
    """
    out = np.empty((len(values), RESAMPLES))
    for n, rows, columns in by_count(~np.isnan(values)):
        out[rows] = np.take_along_axis(values[rows], columns, 1) @ weights(picks(n, generator)).T / n
    return out


def over_workloads(replicates: Array, generator: np.random.Generator) -> Array:
    """Mean over resampled workloads: [workloads, resamples] -> [resamples].

    Seeds were resampled within each workload; now the workloads themselves are, so that the interval speaks
    of workloads like these and not of these alone. One workload stays itself.
    """
    taken = weights(picks(len(replicates), generator, replicates.shape[1]))
    return (taken.T * replicates).sum(0) / len(replicates)


def pooled(values: Array, generator: np.random.Generator, confidence: float = CONFIDENCE) -> Estimate:
    """Mean over workloads of the mean over seeds, with a two-level bootstrap interval.

    Args:
        values: [workloads, seeds] finite; NaN where there is no run. Workloads without runs are left out.
        generator: where resamples come from.
        confidence: of the interval.
    """
    values = values[(~np.isnan(values)).any(-1)]
    if not len(values):
        return UNKNOWN
    drawn = over_workloads(seed_replicates(values, generator), generator)
    return estimate(mean(values), drawn, int((~np.isnan(values)).sum()), confidence)


def contrast(one: Array, other: Array, generator: np.random.Generator) -> Estimate:
    """`pooled` of one group of workloads less that of another, resampled apart: [workloads, seeds] each."""
    one, other = (v[(~np.isnan(v)).any(-1)] for v in (one, other))
    if not len(one) or not len(other):
        return UNKNOWN
    drawn = [over_workloads(seed_replicates(v, generator), generator) for v in (one, other)]
    value = float(mean(one).mean() - mean(other).mean())
    low, high = percentile_interval(drawn[0] - drawn[1])
    n = int((~np.isnan(one)).sum() + (~np.isnan(other)).sum())
    return Estimate(value, float(low), float(high), n, len(one) + len(other))


def estimate(values: Array, drawn: Array, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate from per-workload values [workloads] and replicates of their mean [resamples]; no interval
    where there is one run only."""
    low, high = percentile_interval(drawn, confidence) if n > 1 else (np.nan, np.nan)
    return Estimate(float(np.mean(values)), float(low), float(high), n, len(values))
