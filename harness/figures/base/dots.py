"""Dot plots: a row per workload, a dot with its interval per optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .axes import SMALL, Margins, Scale, fit_scale, linear_axis, log_axis, panel, plain, row_names
from .data import ReportData
from .frame import Frame
from .theme import Theme

WIDTH = 3.5
_LABELS = 1.3
OPTIMIZERS = 6  # dots in a row


def rows_panel(
    data: ReportData, title: str, workloads: Sequence[str], theme: Theme, pitch: float
) -> tuple[Figure, Axes]:
    """An empty panel with one named row per workload, the first on top; `pitch` inches a row."""
    margins = Margins(left=_LABELS, right=0.14, top=0.3, bottom=0.42)
    size = (WIDTH, margins.top + margins.bottom + pitch * max(len(workloads), 1))
    figure, axes = panel(theme, title, size, margins, grid="x")
    axes.set_ylim(len(workloads) - 0.5, -0.5)
    row_names(axes, [data.short(w, 50) for w in workloads], 24, SMALL - 0.2, theme.ink)
    axes.tick_params(axis="y", pad=6)
    axes.spines["left"].set_visible(False)
    for row in range(1, len(workloads)):
        axes.axhline(row - 0.5, color=theme.faint, linewidth=0.6)
    return figure, axes


def dot_panel(
    data: ReportData,
    frame: Frame,
    title: str,
    unit: str,
    theme: Theme,
    optimizers: Sequence[str],
    share: bool = False,
    log: bool = False,
    floor: float | None = None,
) -> Figure:
    """Dots with intervals; infinite values stand on the right edge as open triangles.

    Args:
        frame: workload, optimizer, value, low, high.
        unit: label of the value axis.
        share: the axis is 0 to 100 %.
        log: logarithmic axis (values > 0).
        floor: smaller values lie on the left edge.
    """
    workloads = [w for w in data.workloads if w in set(frame.workload)]
    frame = frame[frame.optimizer.isin(optimizers)]
    pitch = min(0.16 + 0.055 * len(optimizers), 0.36)
    figure, axes = rows_panel(data, title, workloads, theme, pitch)
    known = frame[["value", "low", "high"]].to_numpy(dtype=float).ravel()
    scale = Scale(0.0, 1.0, False) if share else fit_scale(known if log else [*known, 0.0], floor, log=log)
    if not (log or share) and not (known[np.isfinite(known)] < 0).any():
        scale = Scale(0.0, scale.high if (known[np.isfinite(known)] > 0).any() else 1.0, False)
    if scale.log:
        log_axis(axes, "x", scale.low, scale.high, count=4)
    else:
        linear_axis(axes, "x", min(scale.low, 0.0) if share else scale.low, scale.high, count=4, share=share)
    offset = {
        o: (i - (len(optimizers) - 1) / 2) * 0.72 / max(len(optimizers), 1) for i, o in enumerate(optimizers)
    }
    row = {w: i for i, w in enumerate(workloads)}
    placed = frame.assign(y=frame.workload.map(row).astype(float) + frame.optimizer.map(offset).astype(float))
    _draw_intervals(axes, placed, scale, data, theme)
    _draw_dots(axes, placed, scale, data, theme, [o for o in optimizers if o in set(placed.optimizer)])
    axes.set_ylabel("")
    axes.set_xlabel(plain(unit), color=theme.muted, fontsize=SMALL + 0.4, labelpad=2.0)
    return figure


def _draw_intervals(axes: Axes, placed: Frame, scale: Scale, data: ReportData, theme: Theme) -> None:
    for optimizer, part in placed.groupby("optimizer", sort=False):
        low, high = part.low.to_numpy(dtype=float), part.high.to_numpy(dtype=float)
        known = ~(np.isnan(low) | np.isnan(high))
        axes.hlines(
            part.y[known],
            scale.clip(low[known]),
            scale.clip(high[known]),
            color=data.looks[str(optimizer)].colour(theme),
            linewidth=1.3,
            alpha=0.55,
            zorder=3,
        )


def _draw_dots(
    axes: Axes, placed: Frame, scale: Scale, data: ReportData, theme: Theme, kept: Sequence[str]
) -> None:
    finite = placed[np.isfinite(placed.value)]
    finite = finite.assign(drawn=scale.clip(finite.value))
    shown = [o for o in kept if o in set(finite.optimizer)]
    if shown:
        sns.scatterplot(
            finite,
            x="drawn",
            y="y",
            hue="optimizer",
            style="optimizer",
            hue_order=shown,
            style_order=shown,
            palette={o: data.looks[o].colour(theme) for o in shown},
            markers={o: data.looks[o].marker for o in shown},
            s=24,
            edgecolor=theme.paper,
            linewidth=0.6,
            legend=False,
            zorder=4,
            clip_on=False,
            ax=axes,
        )
    for row in placed[np.isposinf(placed.value)].itertuples():
        axes.plot(
            [scale.high],
            [row.y],
            marker=">",
            markersize=4.5,
            markerfacecolor=theme.paper,
            markeredgecolor=data.looks[row.optimizer].colour(theme),
            markeredgewidth=1.1,
            clip_on=False,
            zorder=5,
        )
