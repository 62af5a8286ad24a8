"""Final loss against the learning rate: where each optimizer works, and how well."""

from __future__ import annotations

import numpy as np

from .base.axes import label_axes, log_axis, panel, value_axis
from .base.data import ReportData, listed
from .base.drawing import Drawing, Item, Panel, optimizer_items
from .base.frame import Frame
from .base.lines import draw_lines, mark_failures, mark_level
from .base.theme import Theme

TITLE = "Final loss against the learning rate"
SHORT = "Learning rates"
ORDER = 10
ABSENT = "There are no finished runs yet."
TABLES = ("learning_rate_curve", "sensitivity")
PANELS = 30
MARKED = 30  # rates; with more, markers would hide their line


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """A panel per workload: median and interval of the final loss by learning rate and optimizer."""
    frame = data.learning_rate_curve
    shown = data.workloads[:PANELS]
    panels = [_panel(data, w, frame[frame.workload == w], theme) for w in shown]
    if not panels:
        return None
    caption = (
        f"Median over seeds at the end of the run ({data.runs(frame.n)} per point, budget "
        f"{data.budgets()}) with its 95 % bootstrap interval; the ringed point is the recommended rate, "
        "which has the lowest expected number of steps to the target and need not have the lowest loss. "
        "Crosses on the upper edge mark rates at which most seeds diverged or failed: no loss is invented "
        "for them. Lower and wider is better. Where the optimum is known, what is drawn is the loss above "
        "it. Losses under a thousandth of the target lie on the lower edge." + data.left_out(shown)
    )
    legend = (
        *optimizer_items(data.looks, data.short_optimizers, theme),
        Item("most seeds diverged", "marker", theme.muted, "x"),
        Item("recommended", "hollow", theme.ink, "o"),
    )
    return Drawing(TITLE, tuple(panels), caption, _finding(data), legend)


def _panel(data: ReportData, workload: str, frame: Frame, theme: Theme) -> Panel:
    base = data.baseline(workload)
    shifted = frame.assign(value=frame.value - base, low=frame.low - base, high=frame.high - base)
    scale = data.loss_scale(workload, shifted[["value", "low"]].to_numpy(dtype=float).ravel())
    figure, axes = panel(theme, data.short(workload, 48))
    rates = frame.learning_rate.to_numpy(dtype=float)
    log_axis(axes, "x", rates.min() / 1.5, rates.max() * 1.5)
    value_axis(axes, "y", scale)
    mark_level(axes, data.target(workload), "target", scale, theme)
    most = shifted.groupby("optimizer").size().max()
    draw_lines(axes, shifted, "learning_rate", scale, data, theme, markers=bool(most <= MARKED))
    lost = shifted[np.isinf(shifted.value)]
    places = [(o, lost.learning_rate[lost.optimizer == o].to_numpy()) for o in data.optimizers]
    mark_failures(axes, places, scale, data, theme)
    for row in shifted[shifted.chosen & np.isfinite(shifted.value)].itertuples():
        axes.plot(
            [row.learning_rate],
            scale.clip([row.value]),
            marker="o",
            markersize=8.5,
            markerfacecolor="none",
            markeredgecolor=data.looks[row.optimizer].colour(theme),
            markeredgewidth=1.2,
            zorder=7,
            clip_on=False,
        )
    label_axes(axes, theme, "learning rate", data.loss_name(workload))
    return Panel(figure, _alt(workload, shifted))


def _alt(workload: str, frame: Frame) -> str:
    parts = []
    for row in frame[frame.chosen].itertuples():
        value = f"{row.value:.3g}" if np.isfinite(row.value) else "no finite loss"
        parts.append(f"{row.optimizer} is best at {row.learning_rate:.3g} with {value}")
    return f"Final loss by learning rate on {workload}. {listed(parts) or 'No rate gave a finite loss'}."


def _finding(data: ReportData) -> str:
    """Which optimizer forgives a wrong learning rate most."""
    known = data.sensitivity.dropna(subset="value")
    if known.optimizer.nunique() < 2:
        return ""
    width = known.groupby("optimizer").value.median()
    ranked = sorted(width.index, key=lambda o: (-width[o], o))
    first, last = ranked[0], ranked[-1]
    if width[first] - width[last] < 0.25:
        return (
            "No optimizer forgives a wrong rate clearly more than the others: medians of "
            f"{width[last]:.1f} to {width[first]:.1f} usable decades."
        )
    return (
        f"{data.short_optimizers[first]} forgives a wrong learning rate most: a median of "
        f"{width[first]:.1f} usable decades over workloads, {data.short_optimizers[last]} least with "
        f"{width[last]:.1f}."
    )
