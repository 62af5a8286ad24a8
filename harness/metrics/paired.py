"""Comparisons on shared seeds: median difference, signed ranks, Holm, Friedman, critical difference."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats

from .bootstrap import CONFIDENCE, RESAMPLES, quantile_interval
from .order import Array, median

ENOUGH_PAIRS = 6  # with fewer, even unanimous signs have a chance above 5 % of being luck: 2^(1 - n)
EXACT = 50  # most pairs for which the null distribution is counted out


def differences(x: Array, y: Array) -> Array:
    """x - y; two failures (`inf`) are equal, 0, and one failure is an infinite difference; NaN stays NaN."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    with np.errstate(invalid="ignore"):
        return np.where(x == y, 0.0, x - y)


def median_difference(
    x: Array,
    y: Array,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[Array, Array, Array]:
    """Median over shared seeds of x - y, with its bootstrap interval.

    Args:
        x: [..., seeds]; `inf` where a run failed, NaN where there is none.
        y: [..., seeds], the same seeds.
        generator: where resamples come from.
        resamples: number of resamples.
        confidence: of the interval.

    Returns:
        (value, low, high), each [...]; the interval is NaN where there are fewer than two pairs.
    """
    gap = differences(x, y)
    return median(gap), *quantile_interval(gap, generator, 0.5, resamples, confidence)


@lru_cache(maxsize=4096)
def _at_most(doubled_ranks: tuple[int, ...]) -> Array:
    """P(W <= w), w = 0 ... total, where each doubled rank is added or not by the toss of a coin."""
    ways = np.zeros(sum(doubled_ranks) + 1)
    ways[0] = 1.0
    for rank in doubled_ranks:
        ways[rank:] = (ways[rank:] + ways[:-rank]) / 2
        ways[:rank] /= 2
    return np.cumsum(ways)


def signed_rank(gap: Array) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that differences are symmetric about 0.

    Zeros are dropped, equal sizes share their rank. Up to 50 pairs the null distribution is counted out
    exactly, ties included; above, the normal approximation with the correction for ties, as scipy has it.

    Args:
        gap: [pairs]; NaN is left out; an infinite difference has the highest rank.

    Returns:
        In (0, 1]; 1 where nothing differs, NaN where there are no pairs.
    """
    gap = np.asarray(gap, float)
    gap = gap[~np.isnan(gap)]
    if gap.size == 0:
        return float("nan")
    gap = gap[gap != 0]
    n = gap.size
    if n == 0:
        return 1.0
    rank = stats.rankdata(np.abs(gap))
    positive = rank[gap > 0].sum()
    if n <= EXACT:
        doubled = np.sort((2 * rank).astype(int))
        below = min(positive, rank.sum() - positive)
        return float(min(1.0, 2 * _at_most(tuple(doubled.tolist()))[int(2 * below)]))
    _, size = np.unique(rank, return_counts=True)
    variance = n * (n + 1) * (2 * n + 1) / 24 - (size**3 - size).sum() / 48
    return float(2 * stats.norm.sf(abs(positive - n * (n + 1) / 4) / np.sqrt(variance)))


def holm(p_values: Array) -> Array:
    """Holm's step-down correction: p_(i) (m - i + 1), made non-decreasing, at most 1. Holm (1979).

    Args:
        p_values: [m]; NaN is no test: it stays NaN and does not count.

    Returns:
        [m] adjusted; compare with the level wanted.
    """
    p_values = np.asarray(p_values, float)
    out = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    raised = p_values[order] * (len(order) - np.arange(len(order)))
    out[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return out


class Friedman(NamedTuple):
    """Friedman's test over workloads.

    Attributes:
        ranks: [optimizers] mean rank, 1 is best.
        statistic: chi-square with optimizers - 1 degrees of freedom, corrected for ties.
        p_value: of "all optimizers are equal"; NaN where it cannot be told (one optimizer, no workloads).
        critical: two mean ranks further apart than this differ (Nemenyi).
    """

    ranks: Array
    statistic: float
    p_value: float
    critical: float


def friedman(values: Array, confidence: float = CONFIDENCE) -> Friedman:
    """Friedman's test and the critical difference. Demsar (2006), Statistical Comparisons of Classifiers.

    Args:
        values: [workloads, optimizers], lower is better; `inf` a failure; no NaN.
        confidence: of the critical difference.
    """
    values = np.asarray(values, float)
    n, k = values.shape
    if n == 0 or k == 0:
        return Friedman(np.full(k, np.nan), float("nan"), float("nan"), float("nan"))
    rank = stats.rankdata(values, axis=1)
    means = rank.mean(0)
    between = n * ((means - (k + 1) / 2) ** 2).sum()
    within = ((rank - (k + 1) / 2) ** 2).sum() / (n * (k - 1)) if k > 1 else 0.0
    if within == 0:  # one optimizer, or all equal on every workload
        return Friedman(means, float("nan"), float("nan"), critical_difference(k, n, confidence))
    statistic = float(between / within)
    p_value = float(stats.chi2.sf(statistic, k - 1))
    return Friedman(means, statistic, p_value, critical_difference(k, n, confidence))


def critical_difference(optimizers: int, workloads: int, confidence: float = CONFIDENCE) -> float:
    """Nemenyi's critical difference of mean ranks: q sqrt(k (k + 1) / 6 N), q the studentized range / sqrt 2.

    NaN for fewer than two optimizers or no workloads.
    """
    if optimizers < 2 or workloads < 1:
        return float("nan")
    q = stats.studentized_range.ppf(confidence, optimizers, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(optimizers * (optimizers + 1) / (6 * workloads)))
