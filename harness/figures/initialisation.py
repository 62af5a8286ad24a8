"""What the seed alone changes: spread, failures, and its part of the variance."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from .base.axes import SMALL, linear_axis, percent, plain
from .base.data import ReportData, listed, plural
from .base.dots import OPTIMIZERS, dot_panel, rows_panel
from .base.drawing import Drawing, Item, Panel, optimizer_items
from .base.frame import Frame
from .base.theme import Theme

TITLE = "Sensitivity to initialisation"
SHORT = "Initialisation"
ORDER = 60
ABSENT = "This needs two or more seeds at a recommended learning rate."
TABLES = ("initialisation",)
PARTS = ("seed_part", "optimizer_part", "rate_part", "rest_part")


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """Spread over seeds, share of seeds that miss, parts of the variance; None with a single seed."""
    frame = data.initialisation
    spread = frame[(frame.measure == "spread") & frame.value.notna()]
    if spread.empty:
        return None
    shown = data.leading(OPTIMIZERS)
    panels = [
        Panel(
            dot_panel(data, spread, "Spread of the final loss", "interquartile range, decades", theme, shown),
            _alt("Interquartile range over seeds of the logarithm of the final loss, in decades", spread),
        )
    ]
    missed = frame[frame.measure == "missed"]
    if len(missed):
        figure = dot_panel(
            data, missed, "Seeds that miss the target", "share of seeds", theme, shown, share=True
        )
        panels.append(Panel(figure, _alt("Share of seeds that miss the target", missed)))
    parts = frame[frame.measure.isin(PARTS)]
    if parts.value.notna().any():
        panels.append(Panel(_parts(data, parts, theme), _parts_alt(parts)))
    caption = (
        f"At each optimizer's recommended rate; n = {plural(int(spread.n.max()), 'seed')}, budget "
        f"{data.budgets()}. Left: one decade means that the upper quartile of seeds ends with ten times "
        "the loss (above the optimum) of the lower; an open triangle on the edge: over a quarter of the "
        "seeds fail. Middle: Wilson intervals. Right: shares of the variance of the runs' ranks by loss, "
        "over all learning rates: what the starting point, the optimizer and the rate each explain alone. "
        "Lines are 95 % intervals."
    )
    caption += data.fewer(shown)
    legend = [*optimizer_items({o: data.looks[o] for o in shown}, data.short_optimizers, theme)]
    if len(panels) == 3:
        legend += [Item(text, "patch", colour) for text, colour in zip(_NAMES, _colours(theme), strict=True)]
    return Drawing(TITLE, tuple(panels), caption, _finding(data, spread), tuple(legend))


_NAMES = ("seed", "optimizer", "learning rate", "interactions and luck")


def _colours(theme: Theme) -> tuple[str, ...]:
    return theme.alarms[6], theme.ramp[9], theme.ramp[4], theme.faint


def _parts(data: ReportData, parts: Frame, theme: Theme) -> Figure:
    """Stacked bars of the variance parts, a row per workload."""
    table = parts.pivot_table(index="workload", columns="measure", values="value")
    workloads = [w for w in data.workloads if w in table.index]
    shown = len(data.leading(OPTIMIZERS))
    figure, axes = rows_panel(
        data, "What decides a run's rank", workloads, theme, min(0.16 + 0.055 * shown, 0.36)
    )
    left = pd.Series(0.0, index=workloads)
    for part, colour in zip(PARTS, _colours(theme), strict=True):
        width = table[part].reindex(workloads).fillna(0.0) if part in table else left * 0
        axes.barh(range(len(workloads)), width, left=left, height=0.62, color=colour, zorder=3)
        left = left + width
    linear_axis(axes, "x", 0.0, 1.0, count=4, share=True)
    axes.set_xlabel(plain("share of the variance"), color=theme.muted, fontsize=SMALL + 0.4, labelpad=2.0)
    return figure


def _parts_alt(parts: Frame) -> str:
    seed = parts[parts.measure == "seed_part"]
    said = [f"{r.workload} {percent(r.value)}" for r in seed.itertuples()]
    return f"The seed's share of the variance of ranks: {listed(said)}."


def _alt(what: str, frame: Frame) -> str:
    medians = frame.groupby("optimizer").value.median()
    return f"{what}. Medians over workloads: " + listed([f"{o} {v:.2g}" for o, v in medians.items()]) + "."


def _finding(data: ReportData, spread: Frame) -> str:
    medians = spread.groupby("optimizer").value.median()
    if len(medians) < 2:
        return ""
    order = sorted(medians.index, key=lambda o: (medians[o], o))
    parts = [f"{data.short_optimizers[o]} {medians[o]:.1f}" for o in order[:6]]
    return f"Median spread over workloads, in decades of final loss: {listed(parts)}."
