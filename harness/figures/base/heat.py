"""Maps of workload × learning rate, a panel per optimizer: a colour per cell, and a word in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .axes import SMALL, TEXT, Margins, named_axis, number, panel, plain, power, row_names
from .data import ReportData
from .theme import LEVELS, Theme

ROW = 0.22  # inches
WIDTH = 5.3
_LABELS = 1.62
ANNOTATED = 16  # columns; with more, the words no longer fit
TICKS = 9


@dataclass(frozen=True)
class Cell:
    """One cell: `level` in [0, 1) or None (no colour), a word, and whether it is crossed out."""

    level: float | None
    word: str = ""
    lost: bool = False


def heat_panel(
    data: ReportData,
    optimizer: str,
    cells: Mapping[tuple[str, float], Cell],
    ramp: tuple[str, ...],
    texts: tuple[str, ...],
    theme: Theme,
) -> Figure:
    """A map of one optimizer; what is not in `cells` was not run and stays empty.

    Args:
        cells: (workload, learning rate) -> cell.
        ramp: colours from level 0 to level 1.
        texts: colour of the word on each of them.
    """
    workloads = data.workloads
    rates = sorted({rate for _, rate in cells})
    margins = Margins(left=_LABELS, right=0.08, top=0.3, bottom=0.44)
    size = (WIDTH, margins.top + margins.bottom + ROW * max(len(workloads), 1))
    figure, axes = panel(theme, data.short_optimizers.get(optimizer, optimizer), size, margins, grid="")
    FigureCanvasAgg(figure)  # seaborn draws once; without a canvas it would ask pyplot for one
    table = pd.DataFrame(np.nan, index=workloads, columns=rates, dtype=float)
    for (workload, rate), cell in cells.items():
        if cell.level is not None:
            table.loc[workload, rate] = cell.level
    sns.heatmap(
        table,
        vmin=0.0,
        vmax=1.0,
        cmap=ListedColormap(ramp),
        cbar=False,
        linewidths=0.8,
        linecolor=theme.paper,
        xticklabels=False,
        yticklabels=False,
        ax=axes,
    )
    column = {rate: i for i, rate in enumerate(rates)}
    row = {workload: i for i, workload in enumerate(workloads)}
    for (workload, rate), cell in cells.items():
        x, y = column[rate], row[workload]
        if cell.lost:
            _cross_out(axes, x, y, theme)
        if cell.word and len(rates) <= ANNOTATED:
            colour = theme.muted if cell.level is None else texts[int(cell.level * LEVELS)]
            axes.text(
                x + 0.5,
                y + 0.5,
                cell.word,
                ha="center",
                va="center_baseline",
                fontsize=SMALL - 0.4,
                color=colour,
            )
    _axes(axes, data, rates, theme)
    return figure


def _cross_out(axes: Axes, x: int, y: int, theme: Theme) -> None:
    hatch = Rectangle((x, y), 1, 1, fill=False, hatch="////", edgecolor=theme.alarm, linewidth=0, alpha=0.75)
    axes.add_patch(hatch)


def _axes(axes: Axes, data: ReportData, rates: list[float], theme: Theme) -> None:
    axes.set(xlabel="", ylabel="")
    for spine in axes.spines.values():
        spine.set_visible(False)
    names = [data.short(w, 50) for w in data.workloads]
    row_names(axes, names, 28, SMALL, theme.ink, [i + 0.5 for i in range(len(names))])
    shown = columns_named(rates)
    named_axis(axes, "x", [rate_name(rates[i]) for i in shown], [i + 0.5 for i in shown])
    axes.tick_params(axis="x", length=2.0, labelsize=SMALL, rotation=0)
    axes.set_xlabel(plain("learning rate"), color=theme.muted, fontsize=TEXT - 0.1, labelpad=2.0)


def columns_named(rates: list[float]) -> list[int]:
    """Which columns get a tick: whole decades where there are two or more, else evenly; at most `TICKS`."""
    whole = [i for i, r in enumerate(rates) if abs(np.log10(r) - round(np.log10(r))) < 1e-6]
    chosen = whole if len(whole) >= 2 else list(range(len(rates)))
    return chosen[:: max(1, -(-len(chosen) // TICKS))]


def rate_name(rate: float) -> str:
    """`10⁻³` for whole decades, else three digits."""
    exponent = np.log10(rate)
    return power(round(exponent)) if abs(exponent - round(exponent)) < 1e-6 else number(rate)
