"""Performance profile: on how many workloads an optimizer is within a factor of the fastest."""

from __future__ import annotations

from .base.axes import Margins, Scale, label_axes, linear_axis, log_axis, panel, percent
from .base.data import ReportData, listed, plural
from .base.drawing import Drawing, Panel, optimizer_items
from .base.lines import draw_lines
from .base.theme import Theme

TITLE = "Share of workloads within a factor of the fastest: the performance profile"
SHORT = "Profile"
ORDER = 55
ABSENT = "No optimizer reached the target of any workload, so there is no fastest one to compare with."
TABLES = ("profile", "algoperf")
SIZE = (5.3, 3.1)


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """One panel with a staircase per optimizer; None where nobody reached any target."""
    frame = data.profile
    if frame.empty or not (frame.value > 0).any():
        return None
    figure, axes = panel(theme, "All workloads", SIZE, Margins(left=0.55, right=0.14))
    last = float(frame.tau.max())
    log_axis(axes, "x", 1.0, last, count=7)
    linear_axis(axes, "y", 0.0, 1.0, share=True)
    draw_lines(axes, frame, "tau", Scale(0.0, 1.0, False), data, theme, markers=False, steps=True)
    for optimizer in data.optimizers:
        part = frame[frame.optimizer == optimizer]
        look = data.looks[optimizer]
        if len(part):
            axes.plot(
                [part.tau.iloc[0], part.tau.iloc[-1]],
                [part.value.iloc[0], part.value.iloc[-1]],
                linestyle="none",
                marker=look.marker,
                markersize=5,
                color=look.colour(theme),
                markeredgecolor=theme.paper,
                markeredgewidth=0.6,
                clip_on=False,
                zorder=6,
            )
    label_axes(
        axes, theme, "τ: expected steps ÷ those of the fastest optimizer", "share of workloads", left=0.4
    )
    first = frame[frame.tau == frame.tau.min()].set_index("optimizer").value
    order = sorted(first.index, key=lambda o: -first[o])
    parts = [f"{data.short_optimizers[o]} on {percent(first[o])}" for o in order]
    caption = (
        f"ρ(τ) after Dolan and Moré over n = {plural(int(frame.n.max()), 'workload')}: the share on which "
        "an optimizer's expected number of steps to the target is at most τ times that of the fastest. "
        "The left end says how often it is the fastest, the right end how often it gets there at all "
        f"within {last:g} times. Each seed at the rate that the other half of the seeds chose "
        f"({data.seeds()}, budget {data.budgets()}); bands are 95 % bootstrap intervals over seeds."
    )
    finding = f"Fastest: {listed(parts[:6])} of the workloads."
    alt = f"Performance profile. {finding}"
    legend = optimizer_items(data.looks, data.short_optimizers, theme)
    return Drawing(TITLE, (Panel(figure, alt),), caption, finding, legend, columns=2)
