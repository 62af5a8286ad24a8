"""Aggregates: frame -> frame. Rows of a study in, tidy figures out, each with n and an interval.

What all of them share. `cells` is the frame of a results folder, whole or cut half-way; `value`, `low` and
`high` are a figure and its 95 % interval. NaN is "unknown" (one run has no interval); `inf` is "never" (a
missed target, a diverged loss): failures count as the worst value and are never averaged, and missing rows
are not replaced. Rates are chosen by cross-fitting (`best_rates` says how). The order of rows does not
matter, and a report made twice is the same. Where many are called, prepare once:
`cells = prepare(with_optimum(cells, study))`.
"""

from .best import best_rates, recommendations
from .compare import improvement, overall, paired, ranks
from .curves import loss_curves
from .grid import Grid, grid
from .prepare import prepare, with_optimum
from .rates import divergence, learning_rate_curve, steps_heatmap
from .runs import generalisation, initialisation, stability, summary
from .runtime import algoperf, ecdf, profile
from .tuning import sensitivity, tunability

__all__ = [
    "Grid",
    "algoperf",
    "best_rates",
    "divergence",
    "ecdf",
    "generalisation",
    "grid",
    "improvement",
    "initialisation",
    "learning_rate_curve",
    "loss_curves",
    "overall",
    "paired",
    "prepare",
    "profile",
    "ranks",
    "recommendations",
    "sensitivity",
    "stability",
    "steps_heatmap",
    "summary",
    "tunability",
    "with_optimum",
]
