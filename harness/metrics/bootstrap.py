"""The percentile bootstrap, batched: one set of resamples serves all groups that have equally many runs.

Sharing the resamples is what makes thousands of groups cheap: sums become a matrix product, and medians need
no sorting of resamples. It also pairs the groups: with runs in the order of their seeds, every group is
resampled with the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .order import Array, blend, by_count

RESAMPLES = 1000
CONFIDENCE = 0.95
BLOCK = 2_000_000  # replicates held at once


def picks(runs: int, generator: np.random.Generator, resamples: int = RESAMPLES) -> Array:
    """Which runs each resample takes: [resamples, runs] int, drawn with replacement."""
    return generator.integers(0, runs, (resamples, runs))


def weights(picked: Array) -> Array:
    """How often each resample takes each run: [resamples, runs] float, rows sum to `runs`."""
    resamples, runs = picked.shape
    flat = (picked + runs * np.arange(resamples)[:, None]).ravel()
    return np.bincount(flat, minlength=resamples * runs).reshape(resamples, runs).astype(float)


def percentile_interval(replicates: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Percentile interval over the last axis: order statistics, never interpolated, so `inf` survives.

    Args:
        replicates: [..., resamples], without NaN.
        confidence: share of the replicates that the interval holds.

    Returns:
        (low, high), each [...].
    """
    count = replicates.shape[-1]
    tail = int((1 - confidence) / 2 * count)
    parts = np.partition(replicates, (tail, count - 1 - tail), axis=-1)
    return parts[..., tail], parts[..., count - 1 - tail]


def quantile_replicates(values: Array, picked: Array, q: float = 0.5) -> Array:
    """Bootstrap replicates of a quantile.

    No resample is sorted: with the runs of a group in ascending order, the k-th lowest of a resample is the
    first run up to which more than k were taken.

    Args:
        values: [groups, runs] without NaN.
        picked: [resamples, runs] int.
        q: in [0, 1].

    Returns:
        [groups, resamples].
    """
    runs = values.shape[-1]
    small = np.int8 if runs < 128 else np.int32
    taken = np.ascontiguousarray(weights(picked).T.astype(small))  # [runs, resamples]
    order = np.argsort(values, axis=-1, kind="stable")
    position = q * (runs - 1)
    lower, upper = int(np.floor(position)), int(np.ceil(position))
    so_far = np.zeros((len(values), len(picked)), small)
    at = [np.zeros(so_far.shape, small) for _ in range(1 + (upper > lower))]
    for j in range(runs):
        so_far += taken[order[:, j]]
        for place, k in zip(at, (lower, upper), strict=False):
            place += so_far <= k
    ranked = np.take_along_axis(values, order, -1)
    ends = [np.take_along_axis(ranked, place.astype(np.intp), -1) for place in at]
    return blend(ends[0], ends[-1], position - lower)


def quantile_interval(
    values: Array,
    generator: np.random.Generator,
    q: float = 0.5,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[Array, Array]:
    """Bootstrap interval of a quantile (the median, unless told) over the runs.

    Args:
        values: [..., runs]; NaN where there is no run, `inf` where a run failed.
        generator: where resamples come from.
        q: in [0, 1].
        resamples: number of resamples.
        confidence: of the interval.

    Returns:
        (low, high), each [...]; NaN where a group has fewer than two runs.
    """

    def replicates(part: Array, picked: Array) -> Array:
        return quantile_replicates(part, picked, q)

    return interval([values], replicates, generator, resamples, confidence)


def interval(
    values: list[Array],
    replicates: Callable[..., Array],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[Array, Array]:
    """Bootstrap interval of any statistic of runs that is batched over groups.

    Args:
        values: arrays of one shape [..., runs]; a run is there where the first is not NaN.
        replicates: (each of `values` as [groups, n], picks [resamples, n]) -> [groups, resamples].
        generator: where resamples come from.
        resamples: number of resamples.
        confidence: of the interval.

    Returns:
        (low, high), each [...]; NaN where a group has fewer than two runs.
    """
    values = [np.asarray(v, float) for v in values]
    shape, runs = values[0].shape[:-1], values[0].shape[-1]
    groups = int(np.prod(shape))
    flat = [v.reshape(groups, runs) for v in values]
    low, high = np.full(groups, np.nan), np.full(groups, np.nan)
    block = max(1, BLOCK // resamples)
    for n, rows, columns in by_count(~np.isnan(flat[0])):
        if n < 2:
            continue
        picked = picks(n, generator, resamples)
        for start in range(0, len(rows), block):
            some, where = rows[start : start + block], columns[start : start + block]
            parts = [np.take_along_axis(v[some], where, 1) for v in flat]
            low[some], high[some] = percentile_interval(replicates(*parts, picked), confidence)
    return low.reshape(shape), high.reshape(shape)
