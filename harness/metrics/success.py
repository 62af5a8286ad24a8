"""Success rate and expected running time."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from .bootstrap import CONFIDENCE, RESAMPLES, interval, weights
from .order import Array


def success_rate(hits: Array, runs: Array) -> Array:
    """n_s / n; NaN where there are no runs."""
    hits, runs = np.asarray(hits, float), np.asarray(runs, float)
    return np.where(runs > 0, hits / np.maximum(runs, 1), np.nan)


def wilson_interval(hits: Array, runs: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Wilson's score interval of a share.

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with p = n_s / n. Wilson (1927).

    Args:
        hits: [...] successes.
        runs: [...] runs.
        confidence: of the interval.

    Returns:
        (low, high), each [...] in [0, 1]; NaN where there are no runs.
    """
    share, runs = success_rate(hits, runs), np.asarray(runs, float)
    n = np.maximum(runs, 1)
    z = ndtri(0.5 + confidence / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # The ends are 0 and 1 exactly where nothing, or everything, succeeded; rounding would miss them.
    low = np.where(share == 0, 0.0, np.maximum(centre - half, 0))
    high = np.where(share == 1, 1.0, np.minimum(centre + half, 1))
    return low, high


def expected_running_time(steps: Array, budgets: Array) -> Array:
    """ERT: steps spent by all runs, per success: (sum of hits' T + sum of misses' B) / n_s.

    Hansen et al. (2016), COCO: Performance Assessment, section 5.1 (there ERT, later aRT).

    Args:
        steps: [..., runs] steps to the target; `inf` where missed, NaN where there is no run.
        budgets: [..., runs] what each run was given, in steps.

    Returns:
        [...] steps; `inf` where no run succeeded, NaN where there are no runs.
    """
    steps = np.asarray(steps, float)
    hit = np.isfinite(steps)
    spent = np.where(hit, steps, np.where(np.isnan(steps), 0.0, budgets)).sum(-1)
    return np.where(np.isnan(steps).all(-1), np.nan, per_success(spent, hit.sum(-1)))


def per_success(spent: Array, hits: Array) -> Array:
    """spent / hits; `inf` where there are no hits."""
    return np.where(hits > 0, spent / np.maximum(hits, 1e-300), np.inf)


def running_time_replicates(steps: Array, budgets: Array, picked: Array) -> Array:
    """Bootstrap replicates of the ERT: [groups, runs] without NaN, picks -> [groups, resamples]."""
    hit = np.isfinite(steps)
    taken = weights(picked).T
    return per_success(np.where(hit, steps, budgets) @ taken, hit.astype(float) @ taken)


def running_time_interval(
    steps: Array,
    budgets: Array,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[Array, Array]:
    """Bootstrap interval of the ERT; runs in the order of their seeds. See `expected_running_time`.

    Returns:
        (low, high), each [...]; NaN where a group has fewer than two runs.
    """
    return interval([steps, budgets], running_time_replicates, generator, resamples, confidence)
