"""Where the optimizers went: paths over the loss contours of the 2-D workloads."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from .base.contour import Path, ground_panel, grounds, paths
from .base.data import ReportData, listed, plural
from .base.drawing import Drawing, Item, Panel, optimizer_items
from .base.theme import Theme

TITLE = "Trajectories over the loss contours"
SHORT = "Trajectories"
ORDER = 40
TABLES = ()
ABSENT = "No 2-D workload has its contours and the coordinates of its runs stored."
RUNS = 6  # lines in a panel
OPTIMIZERS = 5
PANELS = 15


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """A panel per 2-D workload with the paths at each optimizer's recommended rate; None without any."""
    shown = data.leading(OPTIMIZERS)
    seeds = max(1, min(3, RUNS // max(len(shown), 1)))
    panels = []
    ends: dict[str, list[bool]] = {optimizer: [] for optimizer in shown}
    for ground in grounds(data):
        runs = [p for p in paths(data, ground.workload, seeds) if p.optimizer in shown]
        if not runs or len(panels) == PANELS:
            continue
        figure, axes = ground_panel(data, ground, theme)
        for run in runs:
            _draw_path(axes, run, data, theme)
            ends[run.optimizer].append(run.reached)
        panels.append(Panel(figure, _alt(data, ground.workload, runs)))
    if not panels:
        return None
    looks = {o: data.looks[o] for o in shown}
    left = data.fewer(shown)
    if len(panels) == PANELS:
        left += f" The first {PANELS} workloads only."
    caption = (
        "Each line is one run at its optimizer's recommended rate on that workload; the same "
        f"{plural(seeds, 'seed')}, so the same starting points, for every optimizer; n = {len(panels)} "
        f"workloads, budget {data.budgets()}. A path ends where the target is first reached, or with the "
        "run. Bands are evenly spaced in the logarithm of the loss above its lowest value: the stronger "
        "the colour, the lower. Lines join recorded points, not every step; what leaves the domain is cut "
        "at the frame, and long scribbles are drawn fainter." + left
    )
    legend = (
        *optimizer_items(looks, data.short_optimizers, theme),
        Item("start", "hollow", theme.ink, "o"),
        Item("minimum", "marker", theme.ink, "*"),
        Item("end of a run", "marker", theme.muted, "o"),
    )
    told = [f"{data.short_optimizers[o]} {sum(e)} of {len(e)}" for o, e in ends.items() if e]
    finding = f"Of the runs that are drawn, these reach the target: {listed(told)}."
    return Drawing(TITLE, tuple(panels), caption, finding, legend)


def _draw_path(axes: Axes, run: Path, data: ReportData, theme: Theme) -> None:
    look = data.looks[run.optimizer]
    colour = look.colour(theme)
    x, y = run.points.T
    weight = _weight(axes, run)
    axes.plot(x, y, color=theme.paper, linewidth=2.5 * weight, alpha=0.6 * weight, zorder=3)  # a halo
    axes.plot(
        x, y, color=colour, linewidth=1.25 * weight, alpha=weight, zorder=4, dashes=look.dash or (None, None)
    )
    axes.plot(
        x[:1], y[:1], marker="o", markersize=4.6, color=theme.paper, markeredgecolor=theme.ink, zorder=6
    )
    axes.plot(
        x[-1:],
        y[-1:],
        marker=look.marker,
        markersize=5.4,
        color=colour,
        markeredgecolor=theme.paper,
        markeredgewidth=0.7,
        zorder=7,
    )


def _weight(axes: Axes, run: Path) -> float:
    """1 for a path up to four times the panel's diagonal, less for longer ones: a scribble must not hide."""
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    steps = np.diff(((run.points - low) / (high - low)).clip(-0.1, 1.1), axis=0)
    length = float(np.hypot(*steps.T).sum()) / np.sqrt(2)
    return float(np.clip(4 / max(length, 1e-9), 0.35, 1.0))


def _alt(data: ReportData, workload: str, runs: list[Path]) -> str:
    ends = []
    for optimizer in dict.fromkeys(run.optimizer for run in runs):
        mine = [run for run in runs if run.optimizer == optimizer]
        hit = sum(run.reached for run in mine)
        ends.append(f"{optimizer} at rate {mine[0].learning_rate:.3g}: {hit} of {len(mine)} reach the target")
    return f"Paths on the contours of {workload}. {listed(ends)}."
