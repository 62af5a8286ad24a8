"""Runtime distributions: the share of problems solved within a number of steps."""

from __future__ import annotations

from .base.axes import Margins, Scale, label_axes, linear_axis, log_axis, panel, percent
from .base.data import ReportData, listed, span
from .base.drawing import Drawing, Panel, optimizer_items
from .base.lines import draw_lines
from .base.theme import Theme

TITLE = "Share of targets reached against steps: the runtime distribution"
SHORT = "Runtime"
ORDER = 50
ABSENT = "No optimizer has a learning rate to recommend, so there are no runs to count."
TABLES = ("ecdf",)
SIZE = (5.3, 3.1)


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """One panel with a staircase per optimizer; None where there are no runs."""
    frame = data.ecdf
    frame = frame[frame.value.notna()]
    if frame.empty:
        return None
    figure, axes = panel(theme, "All workloads, seeds and targets", SIZE, Margins(left=0.55, right=0.14))
    drawn = frame[frame.steps >= 1].rename(columns={"steps": "step"})
    drawn = drawn if len(drawn) else frame.assign(step=1.0)
    log_axis(axes, "x", 1.0, max(float(drawn.step.max()), 2.0), count=7)
    linear_axis(axes, "y", 0.0, 1.0, share=True)
    draw_lines(axes, drawn, "step", Scale(0.0, 1.0, False), data, theme, markers=False, steps=True)
    for i, optimizer in enumerate(o for o in data.optimizers if o in set(drawn.optimizer)):
        part = drawn[drawn.optimizer == optimizer]
        look = data.looks[optimizer]
        every = max(1, len(part) // 5)
        axes.plot(
            part.step.to_numpy(),
            part.value.to_numpy(),
            linestyle="none",
            marker=look.marker,
            markersize=4.4,
            markevery=(i * every // max(len(data.optimizers), 1) + 1, every),
            color=look.colour(theme),
            markeredgecolor=theme.paper,
            markeredgewidth=0.5,
            zorder=6,
        )
    label_axes(axes, theme, "steps", "share of targets reached", left=0.4)
    final = frame.loc[frame.groupby("optimizer").steps.idxmax()].set_index("optimizer").value
    order = sorted(final.index, key=lambda o: -final[o])
    parts = [f"{data.short_optimizers[o]} {percent(final[o])}" for o in order]
    caption = (
        f"For each optimizer, {span(list(frame.n.unique()), 'triple')} of workload, seed and target (the "
        "targets of a run are log-spaced from its first loss down to the workload's own target), each "
        f"seed at the rate that the other half of the seeds chose; budget {data.budgets()}; bands are 95 % "
        "bootstrap intervals. Higher and further left is better; where a line ends below 100 %, the rest "
        "was never reached."
    )
    finding = f"Within the budget, of all targets are reached: {listed(parts[:6])}."
    alt = f"Share of targets reached by number of steps. At the budget: {listed(parts)}."
    legend = optimizer_items(data.looks, data.short_optimizers, theme)
    return Drawing(TITLE, (Panel(figure, alt),), caption, finding, legend, columns=2)
