"""The study as an array: [workload-optimizer pairs, rates, seeds], and the rate chosen for every pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from ..metrics.choice import Choice, Chooser, at_choice, by_median, by_running_time, cross_fit
from .prepare import prepare

Array = np.ndarray


@dataclass(frozen=True)
class Grid:
    """Cells by place. Pairs, rates and seeds ascend; each pair has the rates of its own grid.

    Attributes:
        frame: prepared rows.
        workload: [pairs] label.
        optimizer: [pairs] label.
        rates: [pairs, rates] ascending, NaN beyond a pair's own.
        seeds: [seeds].
        rows: [pairs, rates, seeds] row numbers in `frame`, -1 where there is no such cell.
    """

    frame: pd.DataFrame
    workload: Array
    optimizer: Array
    rates: Array
    seeds: Array
    rows: Array
    taken: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)  # columns by place

    @property
    def pairs(self) -> int:
        return len(self.workload)

    @property
    def count(self) -> Array:
        """[pairs] number of rates."""
        return (~np.isnan(self.rates)).sum(-1)

    def take(self, column: str) -> Array:
        """[pairs, rates, seeds] a column, float; NaN where there is no cell. Kept: not to be written to."""
        if column not in self.taken:
            self.taken[column] = self.take_at(column, self.rows)
        return self.taken[column]

    def take_at(self, column: str, rows: Array) -> Array:
        """A column at given rows, float; NaN at -1, and where the frame has no such column."""
        if column not in self.frame or not len(self.frame):
            return np.full(rows.shape, np.nan)
        values = self.frame[column].to_numpy(float)
        return np.where(rows >= 0, values[rows], np.nan)

    @cached_property
    def choice(self) -> Choice:
        """The rate with the lowest expected running time to the target; where no rate reaches it, the one
        with the lowest median loss. Cross-fitted over halves of the seeds."""
        steps, budgets, losses = (self.covered(c) for c in ("reached", "budget", "loss"))
        return self.choose(by_running_time(steps, budgets, losses))

    @cached_property
    def choice_by_loss(self) -> Choice:
        """The rate with the lowest median final loss (on validation data where there are any)."""
        return self.choose(by_median(self.covered("loss")))

    def choose(self, chooser: Chooser) -> Choice:
        """The cross-fitted choice of any chooser."""
        return cross_fit(chooser, len(self.seeds))

    def covered(self, column: str) -> Array:
        """`take`, without the rates that have under half the seeds of their pair's best-covered rate: in a
        run cut half-way, one lucky seed must not win."""
        seeds = (self.rows >= 0).sum(-1)
        enough = 2 * seeds >= seeds.max(-1, keepdims=True, initial=0)
        return np.where(enough[..., None], self.take(column), np.nan)

    def chosen_rates(self, choice: Choice) -> Array:
        """[pairs] the rate chosen on all seeds; NaN where none could be."""
        place = np.maximum(choice.everything, 0)[:, None]
        if self.rates.shape[-1] == 0:
            return np.full(self.pairs, np.nan)
        return np.where(choice.everything >= 0, np.take_along_axis(self.rates, place, 1)[:, 0], np.nan)

    def rows_at(self, choice: Choice) -> Array:
        """[pairs, seeds] rows at the rate chosen on all seeds; -1 where there are none."""
        place = np.maximum(choice.everything, 0)[:, None, None]
        if self.rows.shape[1] == 0:
            return np.full((self.pairs, len(self.seeds)), -1)
        rows = np.take_along_axis(self.rows, place, 1)[:, 0]
        return np.where(choice.everything[:, None] >= 0, rows, -1)

    def held_out(self, column: str, choice: Choice | None = None) -> Array:
        """[pairs, seeds] every seed's value at the rate chosen without it."""
        return at_choice(self.take(column), choice or self.choice)


Cells = pd.DataFrame | Grid  # what every aggregate takes: rows, or rows that are in their places already


def grid(cells: Cells) -> Grid:
    """Cells by place; rows without a learning rate or a seed have none and are left out.

    A grid passes through: make it once where many aggregates are wanted, and its choices are made once too.
    """
    if isinstance(cells, Grid):
        return cells
    frame = prepare(cells)
    known = ~np.isnan(frame["learning_rate"].to_numpy() + frame["seed"].to_numpy())
    frame = frame if known.all() else frame.take(np.flatnonzero(known)).reset_index(drop=True)
    workload, workloads = pd.factorize(frame["workload"])
    optimizer, optimizers = pd.factorize(frame["optimizer"])
    rate = frame["learning_rate"].to_numpy(float)
    new_pair = np.ones(len(frame), bool)
    new_pair[1:] = (workload[1:] != workload[:-1]) | (optimizer[1:] != optimizer[:-1])
    new_rate = new_pair.copy()
    new_rate[1:] |= rate[1:] != rate[:-1]
    pair = np.cumsum(new_pair) - 1
    first = np.flatnonzero(new_pair)
    number = np.cumsum(new_rate)
    place = number - number[first][pair] if len(frame) else number
    seeds, seed = np.unique(frame["seed"].to_numpy(float).astype(np.int64), return_inverse=True)
    shape = (len(first), int(place.max(initial=-1)) + 1)
    rows = np.full((*shape, len(seeds)), -1)
    rows[pair, place, seed] = np.arange(len(frame))
    rates = np.full(shape, np.nan)
    rates[pair, place] = rate
    labels = np.asarray(workloads, str)[workload[first]], np.asarray(optimizers, str)[optimizer[first]]
    return Grid(frame, labels[0], labels[1], rates, seeds, rows)


def generator_of(generator: np.random.Generator | None) -> np.random.Generator:
    """The generator given, or one that starts from 0: a report made twice is the same."""
    return np.random.default_rng(0) if generator is None else generator


def table(**columns: object) -> pd.DataFrame:
    """A frame of equally long columns, one per keyword, in order."""
    return pd.DataFrame({k: pd.Series(np.asarray(v), name=k) for k, v in columns.items()})


def none(*columns: str) -> dict[str, Array]:
    """Empty columns of numbers: what a table has where there is nothing to say."""
    return {name: np.empty(0) for name in columns}
