"""How an optimizer bears its learning rate: usable width, divergence, edges, tunability."""

from __future__ import annotations

import numpy as np

from .order import Array


def usable_rates(gaps: Array, success: Array, factor: float = 2.0) -> Array:
    """Which rates are as good as the best, for practical purposes.

    A rate is usable where its median gap is within `factor` of the smallest, or where at least half of its
    seeds hit the target.

    Args:
        gaps: [..., rates] median loss above the optimum, at least 0; `inf` where most runs fail, NaN where
            there are none.
        success: [..., rates] share of seeds that hit the target.
        factor: what still counts as good.

    Returns:
        [..., rates] bool.
    """
    gaps, success = np.asarray(gaps, float), np.asarray(success, float)
    best = np.fmin.reduce(gaps, axis=-1, keepdims=True, initial=np.inf)
    return (np.isfinite(gaps) & (gaps <= factor * best)) | (success >= 0.5)


def usable_stretch(usable: Array, best: Array) -> tuple[Array, Array]:
    """Ends of the unbroken stretch of usable rates around the best one.

    Args:
        usable: [..., rates] bool.
        best: [...] place of the best rate.

    Returns:
        (first, last) places, each [...] int; (-1, -1) where the best rate is not usable.
    """
    count = usable.shape[-1]
    place = np.arange(count)
    at = np.asarray(best)[..., None]
    first = np.where(~usable & (place <= at), place, -1).max(-1, initial=-1) + 1
    last = np.where(~usable & (place >= at), place, count).min(-1, initial=count) - 1
    fine = (np.asarray(best) >= 0) & (first <= last)
    return np.where(fine, first, -1), np.where(fine, last, -1)


def width_in_decades(rates: Array, first: Array, last: Array) -> Array:
    """log10(highest / lowest usable rate): 0 where one rate alone is usable, NaN where none is.

    Args:
        rates: [..., rates] ascending.
        first: [...] place of the lowest usable rate, -1 where there is none.
        last: [...] place of the highest.
    """
    rates = np.broadcast_to(rates, (*np.shape(first), np.shape(rates)[-1]))
    low, high = (
        np.take_along_axis(rates, np.maximum(np.asarray(i), 0)[..., None], -1)[..., 0] for i in (first, last)
    )
    return np.where(np.asarray(first) >= 0, np.log10(high / low), np.nan)


def lowest_diverging(rates: Array, diverged: Array, share: float = 0.5) -> Array:
    """The lowest rate at which at least `share` of the seeds diverge.

    Args:
        rates: [..., rates] ascending, NaN where there is none.
        diverged: [..., rates] share of seeds that diverged.
        share: how many make it "diverges".

    Returns:
        [...]; `inf` where no rate of the grid does.
    """
    return np.where(np.asarray(diverged) >= share, rates, np.inf).min(-1, initial=np.inf)


def edge(best: int, count: int) -> str:
    """Where on its grid the best rate lies: "lowest", "highest", "only" (one rate), or "" inside.

    On an edge the true best may lie outside: widen the grid.
    """
    if count == 1:
        return "only"
    return "lowest" if best == 0 else "highest" if best == count - 1 else ""


def expected_best(values: Array) -> Array:
    """E_k: expected best (lowest) of k draws from the grid without replacement, for k = 1 ... N.

    E_k = sum_i v_(i) C(N - i, k - 1) / C(N, k) over ascending v: v_(i) is the best of a draw when it is
    drawn and the other k - 1 come from the N - i values above it. Dodge et al. (2019), Show Your Work, draw
    with replacement; Schneider et al. (2019), DeepOBS, and grids draw without.

    Args:
        values: [..., N]; `inf` for a rate that fails.

    Returns:
        [..., N], non-increasing in k; `inf` as long as a draw can consist of failures alone.
    """
    ranked = np.sort(np.asarray(values, float), axis=-1)
    chance = best_of_draws(ranked.shape[-1])
    failed = np.isinf(ranked)
    finite = np.where(failed, 0.0, ranked) @ chance
    return np.where(failed.astype(float) @ chance > 0, np.inf, finite)


def best_of_draws(count: int) -> Array:
    """Chance that the i-th best of N values is the best of k draws: [N (i), N (k)]; columns sum to 1."""
    k = np.arange(1, count + 1, dtype=float)
    chance = np.zeros((count, count))
    current = k / count
    for i in range(count):
        chance[i] = current
        # C(N - i - 1, k - 1) / C(N - i, k - 1) = (N - i - k + 1) / (N - i), with i counted from 1
        left = count - 1 - i
        current = current * np.maximum(left - k + 1, 0) / max(left, 1)
    return chance


def chance_of_usable(usable: Array, count: Array, draws: Array) -> Array:
    """Chance that at least one of k draws without replacement is usable: 1 - C(N - u, k) / C(N, k).

    Args:
        usable: [...] number of usable rates u.
        count: [...] number of rates N.
        draws: [k] numbers of draws.

    Returns:
        [..., k]; NaN where k > N.
    """
    u, n = (np.asarray(v, float)[..., None] for v in (usable, count))
    draws = np.asarray(draws, int)
    miss = np.ones(np.broadcast_shapes(u.shape, n.shape, draws.shape))
    for j in range(int(draws.max(initial=0))):
        step = np.maximum(n - u - j, 0) / np.maximum(n - j, 1)
        miss = np.where(j < draws, miss * step, miss)
    return np.where(draws <= n, 1 - miss, np.nan)
