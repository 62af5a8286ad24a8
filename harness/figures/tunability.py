"""Tunability: how good the best of k random learning rates is expected to be."""

from __future__ import annotations

import numpy as np

from .base.axes import label_axes, linear_axis, panel, percent, value_axis
from .base.data import ReportData, listed
from .base.drawing import Drawing, Panel, optimizer_items
from .base.frame import Frame
from .base.lines import draw_lines, mark_level
from .base.theme import Theme

TITLE = "Tunability: expected best loss after k random learning rates"
SHORT = "Tunability"
ORDER = 85
ABSENT = "This needs two or more learning rates of an optimizer."
TABLES = ("tunability",)
PANELS = 15
MARKED = 30


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """A panel per workload; None where every optimizer has one rate only."""
    frame = data.tunability
    if frame.empty or frame.draws.max() < 2:
        return None
    there = set(frame.workload)
    shown = [w for w in data.workloads if w in there][:PANELS]
    panels = [_panel(data, w, frame[frame.workload == w], theme) for w in shown]
    caption = (
        "The expected lowest median loss among k learning rates drawn at random, without repetition, from "
        f"the optimizer's own grid ({data.runs(frame.n)} rates, {data.seeds()}, budget {data.budgets()}); "
        "bands are 95 % bootstrap intervals over seeds. A line begins where k draws can no longer all "
        "fail. A flat line needs no tuning, a steep one does. Where the optimum is known, what is drawn "
        "is the loss above it." + data.left_out(shown)
    )
    legend = optimizer_items(data.looks, data.short_optimizers, theme)
    return Drawing(TITLE, tuple(panels), caption, _finding(data, frame), legend)


def _panel(data: ReportData, workload: str, frame: Frame, theme: Theme) -> Panel:
    base = data.baseline(workload)
    shifted = frame.assign(value=frame.value - base, low=frame.low - base, high=frame.high - base)
    scale = data.loss_scale(workload, shifted[["value", "low"]].to_numpy(dtype=float).ravel())
    figure, axes = panel(theme, data.short(workload, 48))
    draws = float(shifted.draws.max())
    linear_axis(axes, "x", 1.0, max(draws, 2.0), count=6)
    value_axis(axes, "y", scale)
    mark_level(axes, data.target(workload), "target", scale, theme)
    draw_lines(axes, shifted, "draws", scale, data, theme, markers=draws <= MARKED)
    label_axes(axes, theme, "learning rates tried (k)", data.loss_name(workload))
    return Panel(figure, _alt(workload, shifted))


def _alt(workload: str, frame: Frame) -> str:
    parts = []
    for optimizer, part in frame.groupby("optimizer", sort=False):
        at = part[part.draws == min(3, part.draws.max())].iloc[0]
        value = f"{at.value:.3g}" if np.isfinite(at.value) else "may fail"
        parts.append(f"{optimizer} {value}")
    return f"Expected best loss after 3 random learning rates on {workload}: {listed(parts)}."


def _finding(data: ReportData, frame: Frame) -> str:
    """Chance that three random rates hold a usable one."""
    three = frame[frame.draws == 3].groupby("optimizer").usable_chance.mean()
    if len(three) < 2:
        return ""
    order = sorted(three.index, key=lambda o: (-three[o], o))
    said = [f"{data.short_optimizers[o]} {percent(three[o])}" for o in order[:6]]
    return (
        "Chance that three random rates from its grid hold a usable one, mean over workloads: "
        f"{listed(said)}."
    )
