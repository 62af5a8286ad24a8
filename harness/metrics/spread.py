"""Initialisation sensitivity: what the seed alone changes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from .order import Array, quantile


def log_spread(gaps: Array, lowest: float = 1e-12) -> Array:
    """Interquartile range over seeds of log10 of the final loss above the optimum.

    Args:
        gaps: [..., seeds] at least 0; `inf` where a run failed, NaN where there is none.
        lowest: smaller gaps are read as this one: both are zero for any practical purpose.

    Returns:
        [...] decades; `inf` where over a quarter of the seeds fail, NaN where over three quarters do.
    """
    logs = np.log10(np.maximum(gaps, lowest))
    low, high = quantile(logs, 0.25), quantile(logs, 0.75)
    return np.where(
        np.isinf(low), np.nan, np.where(np.isinf(high), np.inf, high - np.where(np.isinf(low), 0, low))
    )


class Parts(NamedTuple):
    """Shares of the variance; they sum to 1. `rest` is what no single one explains (interactions, luck)."""

    seed: float
    optimizer: float
    rate: float
    rest: float


def variance_parts(values: Array, optimizers: Array) -> Parts:
    """Sums of squares of a complete table: seed + optimizer + rate within optimizer + rest = total.

    With m the mean of all, m_s of a seed, m_k of a setting (an optimizer at a rate), m_o of an optimizer:
    seed = K sum_s (m_s - m)^2; optimizer = S sum_k (m_o(k) - m)^2; rate = S sum_k (m_k - m_o(k))^2.
    Rates are nested in their optimizer, since each optimizer has its own grid.

    Args:
        values: [settings, seeds] finite, no gaps.
        optimizers: [settings] which optimizer each setting belongs to.

    Returns:
        Shares of the total; all NaN where nothing varies.

    Raises:
        ValueError: a value is not finite.
    """
    parts = weighted_parts(values, optimizers, np.ones((1, np.shape(values)[1])))
    return Parts(*(float(part) for part in parts[:, 0]))


def weighted_parts(values: Array, optimizers: Array, taken: Array) -> Array:
    """`variance_parts` of resampled seeds: taken [resamples, seeds] -> [4, resamples], in `Parts`' order."""
    values = np.asarray(values, float)
    if not np.isfinite(values).all():
        raise ValueError("variance_parts: values must be finite; rank them first where runs fail")
    settings, seeds = values.shape
    _, code = np.unique(optimizers, return_inverse=True)
    values = values - values.mean() if values.size else values
    at_setting = values @ taken.T / seeds  # [settings, resamples]
    count = np.bincount(code)[:, None]
    at_optimizer = np.stack([at_setting[code == c].mean(0) for c in range(len(count))])
    grand = at_setting.mean(0)
    total = taken @ (values**2).sum(0) - settings * seeds * grand**2
    seed = settings * (taken @ values.mean(0) ** 2 - seeds * grand**2)
    optimizer = seeds * (count * (at_optimizer - grand) ** 2).sum(0)
    rate = seeds * ((at_setting - at_optimizer[code]) ** 2).sum(0)
    varies = total > 1e-12 * max(1.0, float((values**2).sum()))
    shares = np.array([seed, optimizer, rate, total - seed - optimizer - rate]) / np.where(varies, total, 1.0)
    return np.where(varies, shares, np.nan)


def ranks(values: Array) -> Array:
    """Ranks of all values together, ties shared; failures (`inf`) tie as the worst: finite, so they can be
    analysed without inventing a loss for a run that has none."""
    return rankdata(values, axis=None).reshape(np.shape(values))
