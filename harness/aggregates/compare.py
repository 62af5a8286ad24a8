"""Aggregates that compare optimizers, on shared seeds and over workloads."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from ..metrics.bootstrap import RESAMPLES, percentile_interval, picks, weights
from ..metrics.order import by_count, mean, median
from ..metrics.paired import ENOUGH_PAIRS, differences, friedman, holm, median_difference, signed_rank
from ..metrics.pooled import interquartile_mean, interquartile_mean_interval, probability_of_improvement, wins
from ..metrics.profiles import speed_up
from ..metrics.success import expected_running_time
from .grid import Array, Cells, Grid, generator_of, grid, table
from .runtime import by_optimizer


def couples(g: Grid) -> tuple[Array, Array]:
    """Every two optimizers of one workload: (pair numbers, pair numbers), in the order of their labels."""
    places = [np.flatnonzero(g.workload == w) for w in np.unique(g.workload)]
    both = [couple for place in places for couple in combinations(place, 2)]
    first, second = np.array(both, int).reshape(-1, 2).T
    return first, second


def score(steps: Array, loss: Array) -> Array:
    """What wins: fewer steps to the target; where neither hits it, the lower loss. Lower is better.

    Args:
        steps: steps to the target, `inf` where missed, NaN where there is no run.
        loss: final loss, `inf` where diverged.

    Returns:
        The same shape: places in the order of all values, equal for equals; `inf` for a run that diverged
        without a hit, NaN where there is no run.
    """
    second = np.where(np.isfinite(steps), 0.0, loss)
    order = np.lexsort((second.ravel(), steps.ravel()))
    one, two = steps.ravel()[order], second.ravel()[order]
    new = np.ones(order.size, bool)
    new[1:] = (one[1:] != one[:-1]) | (two[1:] != two[:-1])
    out = np.empty(order.size)
    out[order] = np.cumsum(new)
    out = out.reshape(steps.shape)
    return np.where(np.isnan(steps) | np.isnan(second), np.nan, np.where(np.isinf(second), np.inf, out))


def paired(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per workload and every two optimizers, each at its cross-fitted rate: differences on shared seeds.

    Two misses, or two diverged runs, are equal. Holm's correction runs over the optimizer pairs of one
    workload and measure.

    Returns:
        workload, optimizer, other, measure (steps_to_target, loss), n (pairs of seeds), value (median of
        optimizer - other: negative where `optimizer` is better), low, high, improvement (share of seeds on
        which `optimizer` is better, ties one half), p_value (signed rank), p_holm, resolved (the interval
        excludes 0 and n is at least 6).
    """
    g, generator = grid(cells), generator_of(generator)
    first, second = couples(g)
    parts = []
    for measure, column in (("steps_to_target", "reached"), ("loss", "level")):
        values = g.held_out(column)
        x, y = values[first], values[second]
        value, low, high = median_difference(x, y, generator)
        gaps = differences(x, y)
        n = (~np.isnan(gaps)).sum(-1)
        p_value = np.array([signed_rank(gap) for gap in gaps], float)
        parts.append(
            table(
                workload=g.workload[first],
                optimizer=g.optimizer[first],
                other=g.optimizer[second],
                measure=np.full(len(first), measure),
                n=n,
                value=value,
                low=low,
                high=high,
                improvement=mean(wins(x, y)),
                p_value=p_value,
                p_holm=_holm_within(g.workload[first], p_value),
                resolved=(n >= ENOUGH_PAIRS) & ((low > 0) | (high < 0)),
            )
        )
    out = pd.concat(parts, ignore_index=True)
    return out.sort_values(["workload", "optimizer", "other"], kind="stable", ignore_index=True)


def _holm_within(groups: Array, p_values: Array) -> Array:
    out = np.full(len(p_values), np.nan)
    for group in np.unique(groups):
        out[groups == group] = holm(p_values[groups == group])
    return out


def improvement(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Over workloads: the probability that one optimizer beats another, each at its cross-fitted rate.

    A run wins by fewer steps to the target, or, where neither hits it, by the lower loss; ties count half.

    Returns:
        optimizer, other, n (workloads that both ran with a shared seed), value (mean over workloads of the
        share of shared seeds on which `optimizer` wins), low, high (bootstrap over seeds), unpaired (every
        seed against every other: U / (n_x n_y)).
    """
    g, generator = grid(cells), generator_of(generator)
    values = score(g.held_out("reached"), g.held_out("level"))
    first, second = couples(g)
    won = wins(values[first], values[second])
    shares, drawn = mean(won), np.zeros((len(won), RESAMPLES))
    for n, rows, columns in by_count(~np.isnan(won)):
        drawn[rows] = np.take_along_axis(won[rows], columns, 1) @ weights(picks(n, generator)).T / n
    unpaired = [_unpaired(values[i], values[j]) for i, j in zip(first, second, strict=True)]
    labels = np.array([g.optimizer[first], g.optimizer[second]]).T.reshape(-1, 2)
    couple, code = np.unique(labels, axis=0, return_inverse=True)
    parts = []
    for c, (one, other) in enumerate(couple):
        at = np.flatnonzero((code.ravel() == c) & ~np.isnan(shares))
        ends = (np.nan, np.nan)
        if ((~np.isnan(won[at])).sum(-1) > 1).any():
            ends = tuple(float(end) for end in percentile_interval(drawn[at].mean(0)))
        value, apart = (float(np.asarray(v)[at].mean()) if len(at) else np.nan for v in (shares, unpaired))
        parts.append((one, other, len(at), value, *ends, apart))
    names = ["optimizer", "other", "n", "value", "low", "high", "unpaired"]
    return _framed(parts, names)


def _framed(rows: list[tuple], names: list[str]) -> pd.DataFrame:
    """Rows as a frame, whose columns have their types even where there are no rows."""
    text = ("optimizer", "other", "measure", "reference")
    out = pd.DataFrame(rows, columns=pd.Index(names))
    return out if rows else out.astype({name: str if name in text else float for name in names})


def _unpaired(x: Array, y: Array) -> float:
    """U / (n_x n_y) of one workload; NaN where either has no runs."""
    runs = [v[~np.isnan(v)] for v in (x, y)]
    return probability_of_improvement(*([v] for v in runs)) if all(v.size for v in runs) else np.nan


def ranks(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Over the workloads that all optimizers ran: mean ranks, Friedman's test, the critical difference.

    On each workload optimizers are ranked by cross-fitted expected running time, then by median loss.

    Returns:
        optimizer, n (workloads), value (mean rank, 1 is best), low, high (bootstrap over workloads),
        critical_difference, statistic, p_value; best first.
    """
    g, generator = grid(cells), generator_of(generator)
    ert = expected_running_time(g.held_out("reached"), g.held_out("budget"))
    values = score(ert, median(g.held_out("level")))
    optimizers, _, place = by_optimizer(g, values)
    ran = by_optimizer(g, np.where(np.isnan(ert), np.inf, 0.0))[2] == 0
    place = place[:, ran.all(0)].T  # [workloads, optimizers]
    result = friedman(place)
    n, k = place.shape
    low, high = np.full(k, np.nan), np.full(k, np.nan)
    if n > 1:
        drawn = weights(picks(n, generator)) @ np.array([friedman(row[None]).ranks for row in place]) / n
        low, high = percentile_interval(drawn.T)
    out = table(
        optimizer=optimizers,
        n=np.full(k, n),
        value=result.ranks,
        low=low,
        high=high,
        critical_difference=np.full(k, result.critical),
        statistic=np.full(k, result.statistic),
        p_value=np.full(k, result.p_value),
    )
    return out.sort_values(["value", "optimizer"], kind="stable", ignore_index=True)


def overall(
    cells: Cells, *, reference: str | None = None, generator: np.random.Generator | None = None
) -> pd.DataFrame:
    """Per optimizer, over all workloads, at cross-fitted rates: share of the budget spent, and speed-up.

    Args:
        cells: the cells frame.
        reference: optimizer that the speed-up is over; default: gradient_descent, or the first label.
        generator: where resamples come from; default: seeded with 0.

    Returns:
        optimizer, measure, n, value, low, high, reference: budget_share (interquartile mean over workloads
        and seeds of steps to the target / budget, a miss is 1; n = runs; bootstrap over seeds within each
        workload) and speed_up (geometric mean of the ratio of expected running times over the workloads
        that both hit; n = such workloads; bootstrap over workloads).
    """
    g, generator = grid(cells), generator_of(generator)
    steps, budgets = g.held_out("reached"), g.held_out("budget")
    spent = np.where(np.isinf(steps), 1.0, steps / budgets)
    optimizers, _, times = by_optimizer(g, expected_running_time(steps, budgets))
    default = "gradient_descent" if "gradient_descent" in optimizers else next(iter(optimizers), "")
    reference = reference or str(default)
    rows = []
    for k, name in enumerate(optimizers):
        runs = [s[~np.isnan(s)] for s in spent[g.optimizer == name]]
        pooled = np.concatenate(runs)
        ends = interquartile_mean_interval(runs, generator)
        rows.append((name, "budget_share", pooled.size, float(interquartile_mean(pooled)), *ends, ""))
        if reference in optimizers and name != reference:
            base = times[list(optimizers).index(reference)]
            rows.append((name, "speed_up", *_speed_up(base, times[k], generator), reference))
    names = ["optimizer", "measure", "n", "value", "low", "high", "reference"]
    return _framed(rows, names)


def _speed_up(base: Array, times: Array, generator: np.random.Generator) -> tuple[int, float, float, float]:
    """(n, value, low, high) of the speed-up, workloads resampled."""
    value, n = speed_up(base, times)
    if n < 2:
        return n, value, float("nan"), float("nan")
    both = np.isfinite(base) & np.isfinite(times) & (base > 0) & (times > 0)
    logs = np.log(base[both] / times[both])
    low, high = percentile_interval(np.exp(weights(picks(n, generator)) @ logs / n))
    return n, value, float(low), float(high)
