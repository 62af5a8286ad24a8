"""Aggregates of runs at the recommended rate: initialisation, stability, generalisation; and counts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..metrics.bootstrap import (
    interval,
    percentile_interval,
    picks,
    quantile_interval,
    quantile_replicates,
    weights,
)
from ..metrics.order import median
from ..metrics.spread import log_spread, ranks, weighted_parts
from ..metrics.stability import straightness
from ..metrics.success import success_rate, wilson_interval
from .grid import Array, Cells, Grid, generator_of, grid, table
from .prepare import LOWEST, METRIC, prepare

STATUSES = ("converged", "budget", "diverged", "failed")


def summary(cells: Cells) -> pd.DataFrame:
    """Per workload and optimizer: how many runs there are and how they ended.

    Returns:
        workload, optimizer, n, converged, budget, diverged, failed, seeds, learning_rates (numbers), steps
        (run in all), train_seconds (in all).
    """
    frame = cells.frame if isinstance(cells, Grid) else prepare(cells)
    flags = {s: (frame["status"] == s).to_numpy(int) for s in STATUSES}
    figures = {
        "n": ("n", "sum"),
        **{status: (status, "sum") for status in STATUSES},
        "seeds": ("seed", "nunique"),
        "learning_rates": ("learning_rate", "nunique"),
        "steps": ("steps", "sum"),
        "train_seconds": ("train_seconds", "sum"),
    }
    groups = frame.assign(n=1, **flags).groupby(["workload", "optimizer"], sort=True)
    return groups.agg(**figures).reset_index()


def _long(g: Grid, measures: dict[str, tuple[Array, Array, Array, Array]], rate: bool = True) -> pd.DataFrame:
    """Long form: measure -> (n, value, low, high), each [pairs]; measures without runs are left out."""
    parts = []
    for name, (n, value, low, high) in measures.items():
        part = {"workload": g.workload, "optimizer": g.optimizer}
        part |= {"learning_rate": g.chosen_rates(g.choice)} if rate else {}
        full = table(**part, measure=np.full(g.pairs, name), n=n, value=value, low=low, high=high)
        parts.append(full[np.asarray(n) > 0])
    out = pd.concat(parts, ignore_index=True)
    return out.sort_values(["workload", "optimizer"], kind="stable", ignore_index=True)


def stability(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per workload and optimizer, at the recommended rate: medians over seeds of the path's figures.

    Returns:
        workload, optimizer, learning_rate, measure (path_length, straightness = displacement / path
        length, turn_backs, tail_std), n (runs that have it), value, low, high.
    """
    g, generator = grid(cells), generator_of(generator)
    rows = g.rows_at(g.choice)
    figures = {k: g.take_at(k, rows) for k in ("path_length", "displacement", "turn_backs", "tail_std")}
    figures["straightness"] = straightness(figures.pop("displacement"), figures["path_length"])
    return _long(g, {k: _median(figures[k], generator) for k in sorted(figures)})


def _nothing(g: Grid) -> dict[str, tuple[Array, Array, Array, Array]]:
    """For `_long`: a measure that no pair has."""
    none = np.zeros(g.pairs)
    return {"": (none, none, none, none)}


def _median(values: Array, generator: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    return (~np.isnan(values)).sum(-1), median(values), *quantile_interval(values, generator)


def generalisation(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """Per workload and optimizer: train, validation and test figures, and the gap test - train.

    The rate is chosen by the median validation loss (never by test data), and every seed is reported at the
    rate that the other half of the seeds chose.

    Returns:
        workload, optimizer, learning_rate, measure (train_X, validation_X, test_X, gap_X for X = loss,
        accuracy, ...), n, value (median), low, high; no rows for workloads without such metrics.
    """
    g, generator = grid(cells), generator_of(generator)
    names = [c for c in g.frame.columns if c.startswith(METRIC)]
    values = {c.removeprefix(METRIC): g.held_out(c, g.choice_by_loss) for c in names}
    for test in [n for n in values if n.startswith("test_")]:
        kind = test.removeprefix("test_")
        if f"train_{kind}" in values:
            values[f"gap_{kind}"] = generalisation_gap(values[test], values[f"train_{kind}"])
    chosen = {
        k: v for k, v in values.items() if k.partition("_")[0] in ("train", "validation", "test", "gap")
    }
    empty = np.zeros(g.pairs)
    out = _long(
        g, {k: _median(v, generator) for k, v in chosen.items()} or {"": (empty, empty, empty, empty)}
    )
    rate = dict(zip(zip(g.workload, g.optimizer, strict=True), g.chosen_rates(g.choice_by_loss), strict=True))
    pairs = zip(out["workload"], out["optimizer"], strict=True)
    return out.assign(learning_rate=np.array([rate[p] for p in pairs], float))


def generalisation_gap(test: Array, train: Array) -> Array:
    """test - train; NaN where a run was lost: it has no gap."""
    known = np.isfinite(test) & np.isfinite(train)
    return np.where(known, np.where(known, test, 0) - np.where(known, train, 0), np.nan)


def initialisation(cells: Cells, *, generator: np.random.Generator | None = None) -> pd.DataFrame:
    """What the seed alone changes, at the recommended rate, and its part of the variance.

    Returns:
        workload, optimizer, measure, n, value, low, high, with these measures: spread (interquartile range
        over seeds of log10 of the loss above the optimum, decades); missed, diverged (share of seeds, with
        Wilson intervals); and per workload, with optimizer "": seed_part, optimizer_part, rate_part,
        rest_part (shares of the variance of the runs' ranks by loss, failures tied as the worst, over
        settings that have all seeds; n = runs).
    """
    g, generator = grid(cells), generator_of(generator)
    rows = g.rows_at(g.choice)
    gaps = g.take_at("gap", rows)
    n = (rows >= 0).sum(-1)
    shares = {"missed": np.isinf(g.take_at("reached", rows)), "diverged": g.take_at("diverged", rows) == 1}
    low, high = interval([gaps], _spread_replicates, generator)
    known = (~np.isnan(gaps)).sum(-1)
    figures = {"spread": (known, np.where(known > 1, log_spread(gaps), np.nan), low, high)}
    for name, flags in shares.items():
        hits = (flags & (rows >= 0)).sum(-1)
        figures[name] = (n, success_rate(hits, n), *wilson_interval(hits, n))
    parts = [_parts_of(g, w, generator) for w in np.unique(g.workload)]
    return pd.concat([_long(g, figures, rate=False), *parts], ignore_index=True)


def _spread_replicates(gaps: Array, picked: Array) -> Array:
    logs = np.log10(np.maximum(gaps, LOWEST))
    low, high = (quantile_replicates(logs, picked, q) for q in (0.25, 0.75))
    # Both quartiles failed: the spread is unknown, and nothing is narrower than `inf` without inventing it.
    return np.where(np.isinf(high), np.inf, high - np.where(np.isinf(low), 0.0, low))


def _parts_of(g: Grid, workload: str, generator: np.random.Generator) -> pd.DataFrame:
    """The variance parts of one workload; no rows where it has under two seeds or settings."""
    pairs = np.flatnonzero(g.workload == workload)
    values = g.take("gap")[pairs]
    seeds = (~np.isnan(values)).any((0, 1))
    values = values[..., seeds]
    full = (~np.isnan(values)).all(-1) & (values.shape[-1] > 1)
    settings = values[full]
    names = ["seed_part", "optimizer_part", "rate_part", "rest_part"]
    if len(settings) < 2:
        return _long(g, _nothing(g), rate=False)
    owner = np.broadcast_to(g.optimizer[pairs][:, None], full.shape)[full]
    ranked = ranks(settings)
    once = np.ones((1, settings.shape[1]))
    value = weighted_parts(ranked, owner, once)[:, 0]
    drawn = weighted_parts(ranked, owner, weights(picks(settings.shape[1], generator)))
    low, high = percentile_interval(np.where(np.isnan(drawn), value[:, None], drawn))
    label = {"workload": np.full(4, workload), "optimizer": np.full(4, ""), "measure": np.array(names)}
    return table(**label, n=np.full(4, settings.size), value=value, low=low, high=high)
