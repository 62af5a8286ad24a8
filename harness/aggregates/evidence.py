"""What claims about optimizers are decided by: estimates over workloads and seeds, computed from the rows."""

from __future__ import annotations

import json
from functools import cached_property

import numpy as np
import pandas as pd

from ..metrics.bootstrap import RESAMPLES, picks, weights
from ..metrics.choice import Choice, at_choice, by_median, by_running_time, cross_fit
from ..metrics.levels import UNKNOWN, Estimate, estimate, over_workloads, pooled
from ..metrics.order import by_count, mean, median
from ..metrics.pooled import wins
from ..metrics.rates import lowest_diverging, usable_stretch, width_in_decades
from ..metrics.stability import straightness
from .compare import score
from .grid import Array, Cells, grid
from .prepare import LOWEST
from .tuning import rate_replicates, usable_grid, width_replicates

CURVATURE = {"rosenbrock": 2508.0}  # ratio of curvatures at the minimum, where no field says it


def base_name(label: str) -> str:
    """`momentum(momentum=0.5)` -> `momentum`."""
    return label.partition("(")[0]


class Evidence:
    """A study seen through the optimizers' base names.

    Where a study has several variants of an optimizer, its default (the label without parameters) speaks
    for it; where the default was not run, the variant with the best mean rank over its workloads.

    Args:
        cells: the cells frame.
        generator: where resamples come from.
    """

    def __init__(self, cells: Cells, generator: np.random.Generator):
        self.g, self.generator = grid(cells), generator

    @cached_property
    def scores(self) -> Array:
        """[pairs, seeds] what wins at the cross-fitted rate; see `compare.score`."""
        return score(self.g.held_out("reached"), self.g.held_out("level"))

    @cached_property
    def covered(self) -> dict[str, Array]:
        """What rates are chosen by; see `Grid.covered`."""
        return {c: self.g.covered(c) for c in ("reached", "budget", "loss")}

    @cached_property
    def spokesmen(self) -> dict[str, str]:
        """Base name -> the label that speaks for it."""
        labels = np.unique(self.g.optimizer)
        ranks = pd.Series(median(self.scores)).groupby(self.g.workload).rank(na_option="bottom").to_numpy()
        standing = {str(v): (v != base_name(v), float(ranks[self.g.optimizer == v].mean())) for v in labels}
        ordered = sorted(standing, key=lambda v: (*standing[v], v), reverse=True)
        return {base_name(v): v for v in ordered}

    def places(self, *names: str) -> tuple[list[str], list[Array]]:
        """(workloads that all the named optimizers ran, per name their pair numbers there)."""
        own = [np.flatnonzero(self.g.optimizer == self.spokesmen.get(name, "")) for name in names]
        at = [{str(self.g.workload[p]): p for p in place} for place in own]
        shared = sorted(set.intersection(*(set(a) for a in at)))
        return shared, [np.array([a[w] for w in shared], int) for a in at]

    def beats(self, one: str, other: str) -> Estimate:
        """Share of shared seeds on which one is faster to the target (or, both missing it, lower)."""
        _, (i, j) = self.places(one, other)
        return pooled(wins(self.scores[i], self.scores[j]), self.generator)

    def lower(self, column: str, one: str, other: str) -> Estimate:
        """Share of shared seeds on which `column` of one is lower, each at its recommended rate."""
        _, (i, j) = self.places(one, other)
        values = self.at_recommended(column)
        return pooled(wins(values[i], values[j]), self.generator)

    def at_recommended(self, column: str) -> Array:
        """[pairs, seeds] a column at the recommended rate; `straightness` is displacement / path length."""
        rows = self.g.rows_at(self.g.choice)
        if column != "straightness":
            return self.g.take_at(column, rows)
        return straightness(self.g.take_at("displacement", rows), self.g.take_at("path_length", rows))

    def speed_gains(self, one: str, other: str) -> tuple[list[str], Array]:
        """(workloads, [workloads, seeds] log2 of other's steps / one's); a miss counts its budget, so a
        gain over a run that misses is a lower bound, and a loss to one likewise."""
        shared, (i, j) = self.places(one, other)
        steps, budgets = self.g.held_out("reached"), self.g.held_out("budget")
        spent = np.log2(np.maximum(np.where(np.isinf(steps), budgets, steps), 1))
        return shared, spent[j] - spent[i]

    def curvature(self, workload: str) -> float:
        """Ratio of the largest to the smallest curvature, from `workload_params`; NaN where unknown."""
        rows = self.g.frame["workload"] == workload
        text = str(self.g.frame.loc[rows, "workload_params"].iloc[0])
        params = json.loads(text) if text else {}
        return float(params.get("condition") or CURVATURE.get(base_name(workload), np.nan))

    def best_of(self, workload: str, labels: list[str], by_loss: bool, columns: list[str]) -> list[Array]:
        """[seeds] per column, at the best setting (optimizer and rate) of several, cross-fitted together."""
        g = self.g
        own = np.flatnonzero((g.workload == workload) & np.isin(g.optimizer, labels))
        names = ["loss"] if by_loss else ["reached", "budget", "loss"]
        covered = [self.covered[c][own].reshape(-1, len(g.seeds)) for c in names]
        chooser = by_median(*covered) if by_loss else by_running_time(*covered)
        choice: Choice = cross_fit(chooser, len(g.seeds))
        return [at_choice(g.take(c)[own].reshape(-1, len(g.seeds)), choice) for c in columns]

    def within_twice_best_other(self, name: str) -> Estimate:
        """Share of seeds on which it takes at most 2 x the steps of the best of all other optimizers (all
        settings of which compete); where both miss the target, at most 2 x the gap."""
        shared, (own,) = self.places(name)
        labels = [str(v) for v in np.unique(self.g.optimizer) if base_name(v) != name]
        columns = ["reached", "gap"]
        mine = [self.g.held_out(c)[own] for c in columns]
        theirs = [self.best_of(w, labels, False, columns) for w in shared]
        steps, gap = (np.array([t[k] for t in theirs]).reshape(mine[0].shape) for k in range(2))
        return pooled(1 - much_slower(mine[0], mine[1], steps, gap), self.generator)

    def widths(self, name: str, others: list[str]) -> Estimate:
        """Usable width in decades less that of the widest of the others; joint resamples of the seeds."""
        _, places = self.places(name, *others)
        if not places[0].size:
            return UNKNOWN
        drawn = width_replicates(self.g, self.generator)
        usable = usable_grid(median(self.g.take("gap")), np.nan_to_num(mean(self.hits)))
        first, last = usable_stretch(usable, self.g.choice.everything)
        width = np.nan_to_num(width_in_decades(self.g.rates, first, last))
        return self._less_the_highest(width, drawn, places)

    def _less_the_highest(self, values: Array, drawn: Array, places: list[Array]) -> Estimate:
        own, *others = places
        value = values[own] - np.max([values[p] for p in others], axis=0)
        replicates = drawn[own] - np.max([drawn[p] for p in others], axis=0)
        runs = np.min([self.runs[p] for p in places], axis=0)
        return estimate(value, over_workloads(replicates, self.generator), int(runs.sum()))

    @property
    def hits(self) -> Array:
        """[pairs, rates, seeds] 1 where the target was hit, 0 where not, NaN where there is no run."""
        return np.where(self.g.rows >= 0, np.isfinite(self.g.take("reached")).astype(float), np.nan)

    @property
    def runs(self) -> Array:
        """[pairs] most seeds at one rate."""
        return (self.g.rows >= 0).sum(-1).max(-1, initial=0)

    def stable_rates(self, name: str, others: list[str]) -> Estimate:
        """log10 of its highest rate that does not diverge over the highest of the others'.

        A grid in which nothing diverges gives a lower bound: its top. A workload on which the bounds do not
        tell which is higher is left out.
        """
        g = self.g
        shared, places = self.places(name, *others)
        if not shared:
            return UNKNOWN
        own, rivals = places[0], places[1:]
        lost = g.take("lost")
        share = np.nan_to_num(mean(lost))
        stable, open_ended = _highest_stable(g.rates, share), np.isinf(lowest_diverging(g.rates, share))
        higher = stable[own] > np.max([stable[p] for p in rivals], axis=0)
        any_open = np.any([open_ended[p] for p in rivals], axis=0)
        places = [p[np.where(higher, ~any_open, ~open_ended[own])] for p in places]
        if not places[0].size:
            return UNKNOWN
        drawn = np.full((g.pairs, RESAMPLES), np.nan)
        asked = np.unique(np.concatenate(places))
        replicates = _share_replicates(lost[asked], self.generator)
        drawn[asked] = _highest_stable(g.rates[asked][:, None], replicates)
        return self._less_the_highest(np.log10(stable), np.log10(drawn), places)

    def usable(self, name: str) -> tuple[list[str], Array, Array, Array]:
        """(workloads, pair numbers, which rates are usable [workloads, rates], replicates of how many
        [workloads, resamples])."""
        shared, (own,) = self.places(name)
        there = ~np.isnan(self.g.rates[own])
        usable = usable_grid(median(self.g.take("gap")), np.nan_to_num(mean(self.hits)))[own] & there
        drawn = np.zeros((self.g.pairs, RESAMPLES))
        for pairs, gaps, success in rate_replicates(self.g, "gap", self.generator):
            drawn[pairs] = usable_grid(gaps, success).sum(-1)
        return shared, own, usable, drawn[own]


def _highest_stable(rates: Array, lost: Array) -> Array:
    """The highest rate below the lowest diverging one; the lowest of the grid where all diverge."""
    limit = lowest_diverging(rates, lost)[..., None]
    stable = np.where(rates < limit, rates, -np.inf).max(-1, initial=-np.inf)
    return np.where(np.isinf(stable), rates[..., 0], stable)


def _share_replicates(flags: Array, generator: np.random.Generator) -> Array:
    """Means over resampled seeds: [pairs, rates, seeds] -> [pairs, resamples, rates]; 0 without runs."""
    flat = flags.reshape(-1, flags.shape[-1])
    out = np.zeros((len(flat), RESAMPLES))
    for n, rows, columns in by_count(~np.isnan(flat)):
        out[rows] = np.take_along_axis(flat[rows], columns, 1) @ weights(picks(n, generator)).T / n
    return out.reshape(*flags.shape[:2], RESAMPLES).swapaxes(1, 2)


def much_slower(steps: Array, gap: Array, other_steps: Array, other_gap: Array, factor: float = 2.0) -> Array:
    """1 where a run takes over `factor` x the steps of another (a miss: for ever), or, where both miss,
    where its gap is over `factor` x the other's; 0 else; NaN where either run is missing."""
    by_gap = np.maximum(gap, LOWEST) > factor * np.maximum(other_gap, LOWEST)
    slower = np.where(np.isinf(steps) & np.isinf(other_steps), by_gap, steps > factor * other_steps)
    return np.where(np.isnan(steps) | np.isnan(other_steps), np.nan, slower.astype(float))
