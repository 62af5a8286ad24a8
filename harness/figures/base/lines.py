"""Lines of a small panel: medians by seaborn, bands around them, failures on the upper edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from .axes import SMALL, Scale, plain
from .data import ReportData
from .frame import Frame
from .theme import Theme


def draw_lines(
    axes: Axes,
    frame: Frame,
    x: str,
    scale: Scale,
    data: ReportData,
    theme: Theme,
    markers: bool = True,
    steps: bool = False,
) -> None:
    """One line per optimizer of `frame`, with the band `low` to `high`; what is outside lies on the edge.

    Args:
        frame: columns optimizer, `x`, value, low, high; an infinite or unknown value breaks the line.
        markers: draw the optimizer's marker at every point.
        steps: draw as a staircase.
    """
    shown = [o for o in data.optimizers if o in set(frame.optimizer)]
    if not shown:
        return
    style: dict[str, Any] = {"drawstyle": "steps-post"} if steps else {}
    style["dashes"] = {o: data.looks[o].dash or "" for o in shown}
    # Lines lie under bands only where there are few: many bands become fog, so they fade with their number.
    fade = 0.17 if len(shown) <= 4 else 0.09
    parts = []
    for optimizer in shown:
        part = frame[frame.optimizer == optimizer].sort_values(x)
        value = part.value.to_numpy(dtype=float)
        drawn = np.where(np.isfinite(value), scale.clip(value), np.nan)
        band(axes, part, x, scale, data.looks[optimizer].colour(theme), fade, steps)
        parts.append(part.assign(drawn=drawn, piece=_pieces(drawn)))
    lines: Frame = pd.concat(parts)
    lines = lines[lines.drawn.notna()]
    if lines.empty:
        return
    kept = [o for o in shown if o in set(lines.optimizer)]
    broken = lines.groupby("optimizer").piece.nunique().max() > 1  # units cost seaborn a pass per piece
    sns.lineplot(
        lines[[x, "drawn", "optimizer", "piece"]],
        x=x,
        y="drawn",
        hue="optimizer",
        style="optimizer",
        units="piece" if broken else None,
        hue_order=kept,
        style_order=kept,
        palette={o: data.looks[o].colour(theme) for o in kept},
        markers={o: data.looks[o].marker for o in kept} if markers else False,
        markersize=4.2,
        markeredgewidth=0.5,
        markeredgecolor=theme.paper,
        linewidth=1.35,
        estimator=None,
        errorbar=None,
        legend=False,
        ax=axes,
        **style,
    )
    axes.set(xlabel="", ylabel="")


def _pieces(drawn: np.ndarray) -> np.ndarray:
    """Numbers of the unbroken pieces of a line: a gap in the data is a gap in the line."""
    return np.cumsum(np.isnan(drawn))


def band(
    axes: Axes, part: Frame, x: str, scale: Scale, colour: str, alpha: float, steps: bool = False
) -> None:
    """The band from `low` to `high`, cut at the scale's edges; none where an end is unknown."""
    low, high = part.low.to_numpy(dtype=float), part.high.to_numpy(dtype=float)
    known = ~(np.isnan(low) | np.isnan(high)) & ~(np.isinf(low) & np.isinf(high))
    if known.sum() < 2:
        return
    endless = np.isinf(high)
    beside = endless | np.r_[endless[1:], False] | np.r_[False, endless[:-1]]
    # A band without an upper end covers the panel: drawn fainter, or it would hide the others.
    for where, strength in ((known & ~endless, alpha), (known & beside, alpha * 0.35)):
        if where.any():
            axes.fill_between(
                part[x].to_numpy(dtype=float),
                scale.clip(low),
                scale.clip(high),
                where=where.tolist(),
                color=colour,
                alpha=strength,
                linewidth=0,
                step="post" if steps else None,
            )


def mark_failures(
    axes: Axes, places: Sequence[tuple[str, np.ndarray]], scale: Scale, data: ReportData, theme: Theme
) -> None:
    """Crosses at the upper edge, one row per optimizer, where the median run diverged or failed.

    Args:
        places: (optimizer, x positions).
    """
    rows = [(o, x) for o, x in places if len(x)]
    for row, (optimizer, x) in enumerate(rows):
        y = scale.inside(0.985 - 0.042 * row)
        axes.plot(
            x,
            np.full(len(x), y),
            linestyle="none",
            marker="x",
            markersize=3.6,
            markeredgewidth=1.1,
            color=data.looks[optimizer].colour(theme),
            clip_on=False,
            zorder=6,
        )


def mark_level(axes: Axes, value: float, text: str, scale: Scale, theme: Theme) -> None:
    """A thin dotted line across the panel with its name at the left end, where it lies inside the scale."""
    if not scale.low <= value <= scale.high:
        return
    axes.axhline(value, color=theme.muted, linewidth=0.8, dashes=(1.5, 1.8), zorder=1.5)
    axes.annotate(
        plain(text),
        (0.0, value),
        xycoords=("axes fraction", "data"),
        xytext=(3, 1.5),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=SMALL - 0.6,
        color=theme.muted,
        zorder=1.6,
    )
