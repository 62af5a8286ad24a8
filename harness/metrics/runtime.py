"""When targets are hit: first hits, hits that stay, and the runtime distribution."""

from __future__ import annotations

import numpy as np

from .order import Array


def first_hit(values: Array, target: float | Array) -> Array:
    """T: the first step at which the metric is at or under the target.

    Args:
        values: [..., steps + 1] the metric after 0, 1, 2, ... updates; NaN never counts as a hit.
        target: number, or [..., 1].

    Returns:
        [...] steps; `inf` where never.
    """
    below = np.asarray(values, float) <= target
    return np.where(below.any(-1), below.argmax(-1), np.inf)


def first_stay(values: Array, target: float | Array) -> Array:
    """T_stay: the first step from which the metric never leaves the target again.

    Args:
        values: [..., steps + 1] the metric after 0, 1, 2, ... updates; NaN counts as having left.
        target: number, or [..., 1].

    Returns:
        [...] steps, at least `first_hit`; `inf` where the metric is outside at the end.
    """
    below = np.asarray(values, float) <= target
    kept = np.cumprod(below[..., ::-1], axis=-1).sum(-1)
    return np.where(kept > 0, below.shape[-1] - kept, np.inf)


def runtime_ecdf(times: Array, budgets: Array) -> Array:
    """Share of (workload, seed, target) whose first hit took at most b steps.

    Hansen et al. (2016), COCO: Performance Assessment, section 6: misses stay in the denominator.

    Args:
        times: [m] steps to the first hit, `inf` where missed; NaN (no such run) is left out.
        budgets: [k] steps.

    Returns:
        [k] in [0, 1], non-decreasing in b; NaN where there are no times.
    """
    times = np.asarray(times, float).ravel()
    times = np.sort(times[~np.isnan(times)])
    budgets = np.asarray(budgets, float)
    if times.size == 0:
        return np.full(budgets.shape, np.nan)
    return np.searchsorted(times, budgets, side="right") / times.size
