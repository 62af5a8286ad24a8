"""How the loss falls: median and quartiles over seeds at each optimizer's recommended rate."""

from __future__ import annotations

import numpy as np

from .base.axes import label_axes, log_axis, panel, value_axis
from .base.data import ReportData, listed, plural
from .base.drawing import Drawing, Item, Panel, optimizer_items
from .base.frame import Frame
from .base.lines import draw_lines, mark_failures, mark_level
from .base.theme import Theme

TITLE = "Loss against steps, at each optimizer's recommended rate"
SHORT = "Curves"
ORDER = 30
ABSENT = "No loss curves were stored with these rows."
TABLES = ("loss_curves",)
PANELS = 30


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """A panel per workload; None where no curves were stored."""
    frame = data.loss_curves
    there = set(frame.workload)
    shown = [w for w in data.workloads if w in there][:PANELS]
    panels = []
    for workload in shown:
        part = frame[(frame.workload == workload) & (frame.metric == data.metric(workload))]
        if len(part):
            panels.append(_panel(data, workload, part, theme))
    if not panels:
        return None
    caption = (
        f"Line: median over seeds; band: quartiles, where half of the runs lie ({data.runs(frame.n)}, "
        f"budget {data.budgets()}). Steps are on a log scale and begin at the first recorded one. A cross "
        "on the upper edge: from there on most seeds have diverged. Where the optimum is known, what is "
        "drawn is the loss above it; networks show the validation loss, on which their target is set."
        + data.left_out(shown)
    )
    legend = (
        *optimizer_items(data.looks, data.short_optimizers, theme),
        Item("most seeds diverged", "marker", theme.muted, "x"),
    )
    return Drawing(TITLE, tuple(panels), caption, _finding(data, shown), legend)


def _finding(data: ReportData, shown: list[str]) -> str:
    frame = data.loss_curves
    targets = {w: data.target(w) + data.baseline(w) for w in shown}
    counts = dict.fromkeys(data.optimizers, 0)
    for workload, target in targets.items():
        part = frame[(frame.workload == workload) & (frame.metric == data.metric(workload))]
        ends = part.sort_values("step").groupby("optimizer").value.last()
        for optimizer in ends.index[ends <= target]:
            counts[optimizer] += 1
    order = sorted(data.optimizers, key=lambda o: -counts[o])[:4]
    told = listed([f"{data.short_optimizers[o]} on {counts[o]}" for o in order])
    return f"The median run ends below the target on this many of {plural(len(shown), 'workload')}: {told}."


def _panel(data: ReportData, workload: str, frame: Frame, theme: Theme) -> Panel:
    base = data.baseline(workload)
    shifted = frame.assign(value=frame.value - base, low=frame.low - base, high=frame.high - base)
    later = shifted[shifted.step >= 1]
    later = later if len(later) else shifted.assign(step=1.0)
    scale = data.loss_scale(workload, later[["value", "low"]].to_numpy(dtype=float).ravel())
    figure, axes = panel(theme, data.short(workload, 48))
    log_axis(axes, "x", float(later.step.min()), float(later.step.max()))
    value_axis(axes, "y", scale)
    mark_level(axes, data.target(workload), "target", scale, theme)
    draw_lines(axes, _thinned(later), "step", scale, data, theme, markers=False)
    _mark_ends(axes, later, scale, data, theme)
    lost = later[np.isinf(later.value)].groupby("optimizer").step.min()
    mark_failures(
        axes, [(o, np.array([lost[o]])) for o in data.optimizers if o in lost.index], scale, data, theme
    )
    label_axes(axes, theme, "step", data.loss_name(workload))
    return Panel(figure, _alt(workload, shifted))


def _thinned(frame: Frame, points: int = 160) -> Frame:
    """At most about `points` steps per line, evenly on the log axis: more cannot be told apart."""
    steps = np.sort(frame.step.unique())
    if len(steps) <= points:
        return frame
    places = np.searchsorted(np.log(steps), np.linspace(np.log(steps[0]), np.log(steps[-1]), points))
    kept = np.unique(steps[np.minimum(places, len(steps) - 1)])
    return frame[frame.step.isin(kept)]


def _mark_ends(axes, frame: Frame, scale, data: ReportData, theme: Theme) -> None:
    """The optimizer's marker at the end of its line, so that colour is not the only key."""
    for optimizer in data.optimizers:
        part = frame[(frame.optimizer == optimizer) & np.isfinite(frame.value)]
        if part.empty:
            continue
        last = part.loc[part.step.idxmax()]
        look = data.looks[optimizer]
        axes.plot(
            [last.step],
            scale.clip([last.value]),
            marker=look.marker,
            markersize=5,
            color=look.colour(theme),
            markeredgecolor=theme.paper,
            markeredgewidth=0.6,
            clip_on=False,
            zorder=6,
        )


def _alt(workload: str, frame: Frame) -> str:
    parts = []
    for optimizer, part in frame.groupby("optimizer", sort=False):
        last = part.loc[part.step.idxmax()]
        value = f"ends at {last.value:.3g}" if np.isfinite(last.value) else "diverges"
        parts.append(f"{optimizer} at rate {last.learning_rate:.3g} {value}")
    return f"Median loss by step on {workload}: {listed(parts)}."
