"""Performance profiles (Dolan and More), the AlgoPerf score, and the speed-up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .order import Array, median


def performance_ratios(times: Array) -> Array:
    """r = t / min over optimizers of t, per workload.

    Args:
        times: [..., optimizers, workloads]; `inf` (or NaN: not submitted) is a miss.

    Returns:
        The same shape, at least 1; `inf` for a miss, and for all where nobody hit.
    """
    times = np.asarray(times, float)
    times = np.where(np.isnan(times), np.inf, times)
    best = times.min(-2, keepdims=True)
    # A target that holds at the start takes 0 steps: equals are 1, all others infinitely slower.
    ratio = times / np.where((best > 0) & np.isfinite(best), best, 1.0)
    return np.where(np.isinf(times), np.inf, np.where(best == 0, np.where(times == 0, 1.0, np.inf), ratio))


def performance_profile(ratios: Array, taus: Array) -> Array:
    """rho(tau): share of workloads with r <= tau. Dolan and More (2002), equation 2.1.

    Args:
        ratios: [..., optimizers, workloads].
        taus: [k], at least 1.

    Returns:
        [..., optimizers, k].
    """
    taus = np.asarray(taus, float)
    return (ratios[..., None] <= taus).mean(-2)


def profile_score(ratios: Array, tau_max: float = 4.0) -> Array:
    """Exact integral of rho over tau in [1, tau_max], over tau_max - 1.

    rho is a staircase, so a workload with ratio r adds (tau_max - r) / (tau_max - 1), and nothing where
    r > tau_max. Dahl et al. (2023), Benchmarking Neural Network Training Algorithms, section 4.4, who
    integrate numerically: see `profile_score_trapezoid`.

    Args:
        ratios: [..., optimizers, workloads].
        tau_max: where the integral ends.

    Returns:
        [..., optimizers] in [0, 1].
    """
    return np.maximum(tau_max - np.minimum(ratios, tau_max), 0).mean(-1) / (tau_max - 1)


def profile_score_trapezoid(ratios: Array, tau_max: float = 4.0, points: int = 100) -> Array:
    """The score as AlgoPerf publishes it: the trapezoid rule on `points` even values of tau."""
    taus = np.linspace(1.0, tau_max, points)
    return np.trapezoid(performance_profile(ratios, taus), taus, axis=-1) / (tau_max - 1)


def study_times(times: Array) -> Array:
    """Median over studies of the fastest trial.

    Args:
        times: [..., studies, trials]; `inf` a miss, NaN no such trial.

    Returns:
        [...]; `inf` where most studies miss, NaN where there are no trials.
    """
    times = np.asarray(times, float)
    fastest = np.where(np.isnan(times), np.inf, times).min(-1, initial=np.inf)
    return median(np.where(np.isnan(times).all(-1), np.nan, fastest))


def algoperf_ratios(times: Array, base: Sequence[int | None], limit: float = 4.0) -> Array:
    """AlgoPerf's table of times -> ratios to the fastest over the scored workloads.

    (1) A variant is a miss where its base was missed. (2) Any time over `limit` x the column's fastest
    becomes a miss. (3) A missed variant makes its base a miss. (4) Ratios to the column's fastest over the
    scored columns. Kasimbeg et al. (2025), Accelerating Neural Network Training: the AlgoPerf Competition.

    Args:
        times: [submissions, columns] seconds; `inf` or NaN is a miss.
        base: per column None if it is scored, else the number of the scored column that it is a variant of.
        limit: how many times the fastest is still a hit.

    Returns:
        [submissions, scored columns].
    """
    times = np.array(times, float)
    times[np.isnan(times)] = np.inf
    variants = [(i, b) for i, b in enumerate(base) if b is not None]
    for variant, scored in variants:
        times[np.isinf(times[:, scored]), variant] = np.inf
    times[times > limit * times.min(0)] = np.inf
    for variant, scored in variants:
        times[np.isinf(times[:, variant]), scored] = np.inf
    return performance_ratios(times[:, [i for i, b in enumerate(base) if b is None]])


def speed_up(reference: Array, times: Array) -> tuple[float, int]:
    """Geometric mean over workloads of t_reference / t, over the workloads that both hit.

    Args:
        reference: [workloads] steps or seconds; `inf` a miss.
        times: [workloads], likewise.

    Returns:
        (speed-up, number of workloads that both hit); NaN where there is none. A miss has no ratio: read
        the number, and the success rates, beside it.
    """
    reference, times = np.asarray(reference, float), np.asarray(times, float)
    both = np.isfinite(reference) & np.isfinite(times) & (reference > 0) & (times > 0)
    if not both.any():
        return float("nan"), 0
    return float(np.exp(np.mean(np.log(reference[both] / times[both])))), int(both.sum())
