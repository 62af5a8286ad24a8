"""Which optimizer, at which learning rate: the answer, with its error bars and its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..metrics.bootstrap import quantile_interval
from ..metrics.order import median
from ..metrics.paired import ENOUGH_PAIRS, median_difference
from ..metrics.rates import edge
from ..metrics.success import expected_running_time, running_time_interval, success_rate, wilson_interval
from . import words
from .grid import Array, Cells, Grid, generator_of, grid, table


def best_rates(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per workload and optimizer: the learning rate to use and what it gives.

    The rate has the lowest expected running time to the target among those that reach it in at least half
    of the seeds, or, where none does, the lowest median loss. The rate named was chosen on all seeds;
    the figures are cross-fitted: every seed is
    reported at the rate that the other half of the seeds chose.

    Args:
        cells: the cells frame.
        generator: where resamples come from; default: seeded with 0.

    Returns:
        workload, optimizer, learning_rate (NaN: every rate fails), n, success and its Wilson interval,
        steps_to_target (median, `inf` where most miss), ert, loss (median, `inf` where most fail), each
        with _low and _high; loss_metric; edge ("", "lowest", "highest", "only"); cross_fitted.
    """
    return _best_rates(grid(cells), generator_of(generator))


def _best_rates(g: Grid, generator: np.random.Generator) -> pd.DataFrame:
    steps, budgets, loss = (g.held_out(c) for c in ("reached", "budget", "loss"))
    n, hits = (~np.isnan(steps)).sum(-1), np.isfinite(steps).sum(-1)
    success = wilson_interval(hits, n)
    steps_ends = quantile_interval(steps, generator)
    ert_ends = running_time_interval(steps, budgets, generator)
    loss_ends = quantile_interval(loss, generator)
    any_row = g.rows.max((1, 2), initial=-1)
    names = g.frame["loss_metric"].to_numpy(str)
    edges = [edge(b, c) if b >= 0 else "" for b, c in zip(g.choice.everything, g.count, strict=True)]
    return table(
        workload=g.workload,
        optimizer=g.optimizer,
        learning_rate=g.chosen_rates(g.choice),
        n=n,
        success=success_rate(hits, n),
        success_low=success[0],
        success_high=success[1],
        steps_to_target=median(steps),
        steps_low=steps_ends[0],
        steps_high=steps_ends[1],
        ert=expected_running_time(steps, budgets),
        ert_low=ert_ends[0],
        ert_high=ert_ends[1],
        loss=median(loss),
        loss_low=loss_ends[0],
        loss_high=loss_ends[1],
        loss_metric=names[any_row] if len(names) else np.empty(0, str),
        edge=np.array(edges, str),
        cross_fitted=g.choice.crossed,
    )


def recommendations(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per workload: the best optimizer at its best rate, the runner-up, and whether they can be told apart.

    Optimizers that reach the target in at least half of the seeds are ranked by their cross-fitted expected
    running time, the others after them by their median loss. The advantage is the median over shared
    seeds of (runner-up - best), in steps to the target, or in loss
    where the best one misses the target in most seeds. It is resolved where its interval lies above 0 and
    there are at least 6 pairs of seeds.

    Args:
        cells: the cells frame.
        generator: where resamples come from; default: seeded with 0.

    Returns:
        The columns of `best_rates`, and runner_up ("" where there is none), runner_up_learning_rate,
        runner_up_success, advantage, advantage_low, advantage_high, advantage_measure, pairs, resolved, why
        (sentences).
    """
    generator = generator_of(generator)
    g = grid(cells)
    best = _best_rates(g, generator)
    ert = np.where(2 * best["success"] >= 1, best["ert"], np.inf)
    order = np.lexsort((g.optimizer, best["loss"], ert, g.workload))
    is_first = np.ones(len(order), bool)
    is_first[1:] = g.workload[order][1:] != g.workload[order][:-1]
    place = np.flatnonzero(is_first)
    after = np.minimum(place + 1, len(order) - 1)  # itself, where it is the last
    has_second = (after > place) & (g.workload[order[after]] == g.workload[order[place]])
    second = order[after]
    out = best.iloc[order[place]].reset_index(drop=True)
    duel = _duel(g, order[place], second, best, generator)
    other = best.iloc[second].reset_index(drop=True)
    out["runner_up"] = np.where(has_second, other["optimizer"].to_numpy(str), "")
    out["runner_up_learning_rate"] = np.where(has_second, other["learning_rate"], np.nan)
    out["runner_up_success"] = np.where(has_second, other["success"], np.nan)
    for name, values in duel.items():
        out[name] = values
    none = ~has_second
    out.loc[none, ["advantage", "advantage_low", "advantage_high"]] = np.nan
    out.loc[none, "pairs"] = 0
    out["resolved"] = (out["pairs"] >= ENOUGH_PAIRS) & (out["advantage_low"] > 0)
    out["why"] = np.array([words.why(row) for row in out.to_dict("records")], str)
    return out


def _duel(
    g: Grid, best: Array, second: Array, figures: pd.DataFrame, generator: np.random.Generator
) -> dict[str, Array]:
    """Paired difference second - best, by steps where the best one's median run hits, else by loss."""
    by_steps = np.isfinite(figures["steps_to_target"].to_numpy()[best])
    steps, loss = g.held_out("reached"), g.held_out("level")
    mine, theirs = (np.where(by_steps[:, None], steps[i], loss[i]) for i in (best, second))
    value, low, high = median_difference(theirs, mine, generator)
    return {
        "advantage": value,
        "advantage_low": low,
        "advantage_high": high,
        "advantage_measure": np.where(by_steps, "steps_to_target", "loss"),
        "pairs": (~np.isnan(mine) & ~np.isnan(theirs)).sum(-1),
    }
