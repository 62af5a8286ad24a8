"""Aggregates of tuning: how wide the usable learning rates are, and what random draws from a grid give."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from ..metrics import rates as measure
from ..metrics.bootstrap import RESAMPLES, percentile_interval, picks, quantile_replicates, weights
from ..metrics.order import by_count, mean, median
from .grid import Array, Cells, Grid, generator_of, grid, table
from .prepare import LOWEST

BLOCK = 4_000_000  # replicates held at once


def usable_grid(gaps: Array, success: Array) -> Array:
    """`metrics.rates.usable_rates`, with gaps that are zero for practical purposes taken as equal."""
    return measure.usable_rates(np.maximum(gaps, LOWEST), success)


def rate_replicates(
    g: Grid, column: str, generator: np.random.Generator, resamples: int = RESAMPLES
) -> Iterator[tuple[slice, Array, Array]]:
    """Every rate's median and success in resamples of the seeds, in blocks of pairs.

    Pairs and rates with equally many runs are resampled with the same seeds.

    Yields:
        (pairs, median of `column`, share of hits), each [pairs, resamples, rates]; where there is no run
        the median is NaN and the share 0.
    """
    values, there = g.take(column), g.rows >= 0
    hits = _hit(g)
    counts = np.union1d((~np.isnan(values)).sum(-1), there.sum(-1))
    drawn = {int(n): picks(int(n), generator, resamples) for n in counts if n > 0}
    step = max(1, BLOCK // max(1, g.rates.shape[1] * resamples))

    def replicate(part: Array, statistic: Callable[[Array, Array], Array], empty: float) -> Array:
        flat = part.reshape(-1, part.shape[-1])
        out = np.full((len(flat), resamples), empty)
        for n, rows, columns in by_count(~np.isnan(flat)):
            out[rows] = statistic(np.take_along_axis(flat[rows], columns, 1), drawn[n])
        return out.reshape(len(part), -1, resamples).swapaxes(1, 2)

    for start in range(0, g.pairs, step):
        pairs = slice(start, min(start + step, g.pairs))
        yield (
            pairs,
            replicate(values[pairs], quantile_replicates, np.nan),
            replicate(hits[pairs], lambda v, picked: v @ weights(picked).T / v.shape[-1], 0.0),
        )


def sensitivity(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per workload and optimizer: how wide the usable learning rates are, and where it diverges.

    A rate is usable where its median gap is within 2 x of the optimizer's own best, or where at least half
    of the seeds hit the target; the width is that of the unbroken stretch around the recommended rate.

    Returns:
        workload, optimizer, learning_rate (recommended), n (most seeds at a rate), value (decades; NaN where
        there is no usable rate), low, high, usable_low, usable_high (rates), bounded (grid edges that the
        stretch touches: "", "lowest", "highest", "both": the width is then at least this), highest_stable
        (highest rate below the lowest diverging one), lowest_diverging (half of the seeds; `inf`: none
        does), edge (of the recommended rate).
    """
    g = grid(cells)
    best, count = g.choice.everything, g.count
    success = np.nan_to_num(mean(_hit(g)))
    usable = usable_grid(median(g.take("gap")), success)
    first, last = measure.usable_stretch(usable, best)
    n = (g.rows >= 0).sum(-1).max(-1, initial=0)
    low, high = _width_interval(g, generator_of(generator))
    diverging = measure.lowest_diverging(g.rates, np.nan_to_num(mean(g.take("lost"))))
    stable = np.fmax.reduce(np.where(g.rates < diverging[:, None], g.rates, np.nan), axis=-1, initial=np.nan)
    touched = (first == 0) + 2 * ((last >= 0) & (last == count - 1))
    return table(
        workload=g.workload,
        optimizer=g.optimizer,
        learning_rate=g.chosen_rates(g.choice),
        n=n,
        value=measure.width_in_decades(g.rates, first, last),
        low=np.where(n > 1, low, np.nan),
        high=np.where(n > 1, high, np.nan),
        usable_low=_rate_at(g, first),
        usable_high=_rate_at(g, last),
        bounded=np.array(["", "lowest", "highest", "both"])[touched],
        highest_stable=stable,
        lowest_diverging=diverging,
        edge=np.array([measure.edge(b, c) if b >= 0 else "" for b, c in zip(best, count, strict=True)], str),
    )


def _hit(g: Grid) -> Array:
    """[pairs, rates, seeds] 1 where the target was hit, 0 where not, NaN where there is no run."""
    return np.where(g.rows >= 0, np.isfinite(g.take("reached")).astype(float), np.nan)


def _rate_at(g: Grid, place: Array) -> Array:
    """[pairs] the rate at a place; NaN at -1."""
    if g.rates.shape[1] == 0:
        return np.full(g.pairs, np.nan)
    return np.where(place >= 0, np.take_along_axis(g.rates, np.maximum(place, 0)[:, None], 1)[:, 0], np.nan)


def width_replicates(g: Grid, generator: np.random.Generator) -> Array:
    """[pairs, resamples] usable width in decades around the recommended rate; 0 where none is usable."""
    out = np.zeros((g.pairs, RESAMPLES))
    for pairs, gaps, success in rate_replicates(g, "gap", generator):
        best = np.broadcast_to(g.choice.everything[pairs][:, None], gaps.shape[:2])
        first, last = measure.usable_stretch(usable_grid(gaps, success), best)
        width = measure.width_in_decades(g.rates[pairs][:, None], first, last)
        out[pairs] = np.nan_to_num(width)
    return out


def _width_interval(g: Grid, generator: np.random.Generator) -> tuple[Array, Array]:
    return percentile_interval(width_replicates(g, generator))


def tunability(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per workload and optimizer: what k random draws from its own grid are expected to give at best.

    Returns:
        workload, optimizer, draws (k), n (rates), value (E_k over the rates' median losses; `inf` where k
        draws may all fail), low, high, usable_chance (that at least one of the k rates is usable).
    """
    g = grid(cells)
    loss = median(g.take("loss"))
    usable = usable_grid(median(g.take("gap")), np.nan_to_num(mean(_hit(g)))) & ~np.isnan(loss)
    valid = (~np.isnan(loss)).sum(-1)
    draws = np.arange(1, loss.shape[1] + 1)
    value, low, high = (np.full(loss.shape, np.nan) for _ in range(3))
    for n, rows, columns in by_count(~np.isnan(loss)):
        value[rows, :n] = measure.expected_best(np.take_along_axis(loss[rows], columns, 1))
    several = (g.rows >= 0).sum(-1).max(-1, initial=0) > 1
    for pairs, losses, _ in rate_replicates(g, "loss", generator_of(generator)):
        for n, rows, columns in by_count(~np.isnan(loss[pairs])):
            part = np.take_along_axis(losses[rows], columns[:, None, :], 2)
            ends = percentile_interval(measure.expected_best(part).swapaxes(1, 2))
            at = np.arange(pairs.start, pairs.stop)[rows]
            keep = several[at][:, None]
            low[at, :n], high[at, :n] = (np.where(keep, end, np.nan) for end in ends)
    there = draws <= valid[:, None]
    pair, _ = np.nonzero(there)
    chance = measure.chance_of_usable(usable.sum(-1), valid, draws)
    return table(
        workload=g.workload[pair],
        optimizer=g.optimizer[pair],
        draws=np.broadcast_to(draws, loss.shape)[there],
        n=valid[pair],
        value=value[there],
        low=low[there],
        high=high[there],
        usable_chance=chance[there],
    )
