"""Medians and quantiles that take failure as data: NaN is left out, `inf` is the worst value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Array = np.ndarray


def blend(lower: Array, upper: Array, fraction: Array | float) -> Array:
    """lower + fraction (upper - lower), without NaN where an end is infinite.

    An infinite end wins over a finite one; opposite infinities, which only differences have, meet at 0.
    """
    with np.errstate(invalid="ignore"):
        between = lower + (upper - lower) * fraction
    infinite = np.where(np.isinf(lower), np.where(np.isinf(upper) & (lower != upper), 0.0, lower), upper)
    between = np.where(np.isinf(lower) | np.isinf(upper), infinite, between)
    return np.where((lower == upper) | (np.asarray(fraction) == 0), lower, between)


def quantile(values: Array, q: float) -> Array:
    """Quantile over the runs by linear interpolation between order statistics.

    Args:
        values: [..., runs]; NaN where there is no run.
        q: in [0, 1].

    Returns:
        [...]; NaN where a group has no runs; `inf` where the quantile touches a failed run.
    """
    values = np.asarray(values, float)
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    ranked = np.sort(values, axis=-1)  # NaN goes last
    position = q * np.maximum(np.sum(~np.isnan(values), axis=-1) - 1, 0)
    lower = np.floor(position).astype(int)[..., None]
    upper = np.ceil(position).astype(int)[..., None]
    low, high = (np.take_along_axis(ranked, i, -1)[..., 0] for i in (lower, upper))
    return blend(low, high, position - lower[..., 0])


def median(values: Array) -> Array:
    """Median over the runs; see `quantile`."""
    return quantile(values, 0.5)


def mean(values: Array) -> Array:
    """Mean over the runs, NaN left out; NaN where a group has no runs. For bounded values and shares."""
    values = np.asarray(values, float)
    count = np.sum(~np.isnan(values), axis=-1)
    total = np.nansum(values, axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def by_count(present: Array) -> Iterator[tuple[int, Array, Array]]:
    """Groups with equally many runs, so that they can share one set of resamples.

    Args:
        present: [groups, runs] bool.

    Yields:
        (n, rows, columns): the `rows` [m] that have n runs, and where those lie, `columns` [m, n], in order;
        n ascending, groups without runs left out.
    """
    counts = present.sum(-1)
    order = np.argsort(~present, axis=-1, kind="stable")
    for n in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == n)
        yield int(n), rows, order[rows, :n]
