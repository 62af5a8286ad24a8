"""Choosing a learning rate on some seeds and reporting it on the others.

The best of many rates looks better than it is: the figure that chose it was, in part, luck. So a rate is
chosen on one half of the seeds and reported on the other, both ways (two-fold cross-fitting): the reported
figure is never the one that chose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .order import Array, median
from .success import expected_running_time

Chooser = Callable[[Array], Array]  # seeds [S] bool -> place of the chosen rate [...], -1 where none can be


class Choice(NamedTuple):
    """What was chosen, and on what it is to be reported.

    Attributes:
        everything: [...] place of the rate chosen on all seeds: the one to recommend.
        per_seed: [..., S] place of the rate at which a seed is reported: chosen without that seed's half.
        crossed: [...] whether both halves could choose; where not, figures come from the seeds that chose.
    """

    everything: Array
    per_seed: Array
    crossed: Array


def halves(count: int) -> Array:
    """[count] bool: every other seed, in their order; the same halves for every optimizer."""
    return np.arange(count) % 2 == 0


def by_median(values: Array) -> Chooser:
    """Chooser of the rate with the lowest median. values: [..., rates, S], NaN where there is no run."""

    def choose(seeds: Array) -> Array:
        return _first(median(np.where(seeds, values, np.nan)))

    return choose


def by_running_time(steps: Array, budgets: Array, losses: Array) -> Chooser:
    """Chooser of the rate with the lowest expected running time among those that hit the target in at least
    half of the seeds; ties, and where no rate does, by median loss; then the lower rate.

    Without the half, one lucky hit of twelve would name a rate whose other runs end far away.

    Args:
        steps: [..., rates, S] steps to the target, `inf` where missed, NaN where there is no run.
        budgets: [..., rates, S] steps given.
        losses: [..., rates, S] final loss, `inf` where diverged.
    """

    def choose(seeds: Array) -> Array:
        given = np.where(seeds, steps, np.nan)
        ert = expected_running_time(given, np.where(seeds, budgets, np.nan))
        ert = np.where(mostly_hits(given), ert, np.where(np.isnan(ert), np.nan, np.inf))
        return _first(ert, median(np.where(seeds, losses, np.nan)))

    return choose


def mostly_hits(steps: Array) -> Array:
    """[...] whether at least half of the runs [..., S] hit: `inf` is a miss, NaN no run."""
    runs = (~np.isnan(steps)).sum(-1)
    return (runs > 0) & (2 * np.isfinite(steps).sum(-1) >= runs)


def _first(primary: Array, secondary: Array | None = None) -> Array:
    """Place of the lowest (primary, secondary) over the last axis; -1 where all are NaN or infinite."""
    secondary = primary if secondary is None else secondary
    if primary.shape[-1] == 0:
        return np.full(primary.shape[:-1], -1)
    best = np.lexsort((secondary, primary), axis=-1)[..., 0]  # stable: the lower rate wins a tie
    useful = (np.isfinite(primary) | np.isfinite(secondary)).any(-1)
    return np.where(useful, best, -1)


def cross_fit(choose: Chooser, seeds: int) -> Choice:
    """Choose on all seeds, and for each seed on the half that it is not in.

    Where a half cannot choose (one seed in all; all of its runs fail), the other half's choice is used for
    both, and where neither can, the choice of all seeds.

    Args:
        choose: which rate is best on given seeds.
        seeds: how many seeds S there are.
    """
    half = halves(seeds)
    everything = choose(np.ones(seeds, bool))
    from_first, from_second = choose(half), choose(~half)
    crossed = (from_first >= 0) & (from_second >= 0)
    for_second = np.where(from_first >= 0, from_first, np.where(from_second >= 0, from_second, everything))
    for_first = np.where(from_second >= 0, from_second, for_second)
    return Choice(everything, np.where(half, for_first[..., None], for_second[..., None]), crossed)


def at_choice(values: Array, choice: Choice) -> Array:
    """Every seed's value at the rate chosen without it.

    Args:
        values: [..., rates, S].
        choice: of the same groups.

    Returns:
        [..., S]; NaN where nothing could be chosen or there is no run.
    """
    place = np.maximum(choice.per_seed, 0)[..., None, :]
    if values.shape[-2] == 0:
        return np.full(choice.per_seed.shape, np.nan)
    return np.where(choice.per_seed >= 0, np.take_along_axis(values, place, -2)[..., 0, :], np.nan)
