"""Roofline: what an update could reach by its arithmetic intensity, and what it does reach."""

from __future__ import annotations

import numpy as np

from ..base.axes import SMALL, Scale, fit_scale, label_axes, log_axis, panel, plain
from ..base.data import listed
from ..base.drawing import Drawing, Panel, optimizer_items
from ..base.frame import Frame
from ..base.theme import Theme
from .base import KernelData

TITLE = "Roofline"
SHORT = "Roofline"
ORDER = 10
ABSENT = "No compiled update was measured."
TABLES = ("kernels",)
APART = 0.9  # of the fastest copy: slower ones get a line


def draw(data: KernelData, theme: Theme) -> Drawing | None:
    """A point per optimizer under the measured ceiling of the copy, at the largest size and in a cache."""
    known = data.arithmetic
    sizes = sorted(known["parameters"].unique())
    shown = [s for s in (sizes[-1:] + [s for s in sizes if 1e5 <= s < (sizes or [0])[-1]][:1]) if s]
    panels = [_panel(data, known[known["parameters"] == size], int(size), theme) for size in shown]
    if not panels:
        return None
    caption = (
        f"{data.where()}, {data.dtype}. Across: operations per byte that the rule must move. Up: operations "
        "per second. The line is the bandwidth of an in-place copy over as many bytes, measured between the "
        "updates' own windows (dotted: the slowest of them); a rule that reads more than it writes "
        "may lie above it. A point on the line is limited by memory alone."
    )
    legend = optimizer_items(data.looks, data.short_optimizers, theme)
    return Drawing(TITLE, tuple(panels), caption, _finding(data), legend)


def _panel(data: KernelData, frame: Frame, size: int, theme: Theme) -> Panel:
    figure, axes = panel(theme, f"{size:,} parameters")
    intensity = (frame["flops"] / frame["bytes_moved"]).to_numpy(float)
    speed = frame["gigaflops_per_second"].to_numpy(float)
    ceiling = frame["copy_gigabytes_per_second"].to_numpy(float)
    low, high = intensity.min() / 1.6, intensity.max() * 1.6
    y = fit_scale([*speed, ceiling.max() * high, ceiling.min() * low], log=True)
    log_axis(axes, "x", low, high)
    log_axis(axes, "y", y.low, y.high)
    ends = np.array([low, high])
    fast, slow = ceiling.max(), ceiling.min()
    axes.plot(ends, ends * fast, color=theme.muted, linewidth=1.0, zorder=2)
    name = f"copy, {fast:.0f} GB/s"
    if slow < APART * fast:
        axes.plot(ends, ends * slow, color=theme.muted, linewidth=1.0, dashes=(2, 2), zorder=2)
        name = f"copy, {slow:.0f} to {fast:.0f} GB/s"
    _name_line(axes, name, low * (high / low) ** 0.6, fast, y, theme)
    for row, x, up in zip(frame.itertuples(), intensity, speed, strict=True):
        look = data.looks[str(row.optimizer)]
        axes.plot(
            [x],
            [up],
            marker=look.marker,
            color=look.colour(theme),
            markersize=5.5,
            markeredgecolor=theme.paper,
            markeredgewidth=0.5,
            zorder=4,
        )
    label_axes(axes, theme, "operations per byte", "GFLOP/s")
    said = [f"{r.optimizer} {r.copy_share:.0%} of copy" for r in frame.itertuples()]
    return Panel(figure, f"Roofline at {size:,} parameters. {listed(said)}.")


def _name_line(axes, text: str, x: float, slope: float, scale: Scale, theme: Theme) -> None:
    axes.annotate(
        plain(text),
        (x, scale.clip([x * slope])[0]),
        xytext=(-4, 7),
        textcoords="offset points",
        ha="right",
        fontsize=SMALL - 0.6,
        color=theme.muted,
    )


def _finding(data: KernelData) -> str:
    part = data.best[data.best["parameters"] == data.large].sort_values("copy_share")
    if part.empty:
        return ""
    low, high = part.iloc[0], part.iloc[-1]
    if len(part) == 1:
        return f"{low.optimizer} reaches {low.copy_share:.0%} of the copy at {data.large:,} parameters."
    return (
        f"At {data.large:,} parameters {high.optimizer} reaches most of the copy, {high.copy_share:.0%}, "
        f"{low.optimizer} least, {low.copy_share:.0%}."
    )
