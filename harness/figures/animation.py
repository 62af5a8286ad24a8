"""The same trajectories, moving: every optimizer starts at once and the clock is in steps."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from .base.contour import Path, ground_panel, grounds, paths
from .base.data import ReportData, plural
from .base.drawing import Drawing, Item, Panel, optimizer_items
from .base.svg import outline, paint
from .base.theme import PAGE, Look, Theme

TITLE = "The trajectories, moving"
SHORT = "Animation"
ORDER = 45
TABLES = ()
ABSENT = "No 2-D workload has its contours and the coordinates of its runs stored."
PANELS = 6
OPTIMIZERS = 6
SECONDS = 10.0
RUNNING = 85.0  # per cent of the loop; the rest holds the last picture
FRAMES = 48  # most places along one path
_RUN = 'class="run" pathLength="1" fill="none"'
REACH = 4000.0  # points of the page; a run that leaves is cut far outside the frame

STYLE = (
    f".run,.head,.clock{{animation-duration:{SECONDS:g}s;animation-iteration-count:infinite;"
    "animation-timing-function:linear}"
    "@media (prefers-reduced-motion:reduce){.run,.head,.clock{animation:none!important}}"
)


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """Up to six 2-D workloads with one run per optimizer as moving SVG; None without any."""
    shown = data.leading(OPTIMIZERS)
    panels, rules = [], []
    every = grounds(data)
    for ground in every:
        runs = [p for p in paths(data, ground.workload, 1) if p.optimizer in shown]
        if not runs or len(panels) == PANELS:
            continue
        figure, axes = ground_panel(data, ground, theme, above=0.14)
        key = f"a{len(panels)}"
        overlay, rule = _overlay(axes, runs, data, key)
        rules.append(rule)
        alt = f"Animated paths on the contours of {ground.workload}; the still figure shows where they end."
        panels.append(Panel(figure, alt, overlay))
    if not panels:
        return None
    out = len(every) - len(panels)
    left = f" {plural(out, 'more workload')} in the still figure only." if out else ""
    caption = (
        "One seed, n = 1 run per optimizer, at its recommended rate, until the target is reached or the "
        f"budget of {data.budgets()} is spent; in every panel {SECONDS * RUNNING / 100:g} seconds are the "
        "longest path. The clock runs with the square root of the step, so that the first moves can be "
        "seen; the bar above each panel shows it. A reader who prefers reduced motion sees the ends." + left
    )
    looks = {o: data.looks[o] for o in shown}
    legend = (
        *optimizer_items(looks, data.short_optimizers, theme),
        Item("start", "hollow", theme.ink, "o"),
        Item("minimum", "marker", theme.ink, "*"),
    )
    style = STYLE + "".join(rules)
    return Drawing(TITLE, tuple(panels), caption, legend=legend, style=style, moving=True)


def _overlay(axes: Axes, runs: list[Path], data: ReportData, key: str) -> tuple[str, str]:
    """(SVG of the moving parts in the figure's points, CSS of their movements)."""
    axes.apply_aspect()
    box = axes.get_window_extent()
    height = 72 * float(axes.figure.get_figheight())  # type: ignore[union-attr]
    frame = (box.x0, height - box.y1, box.width, box.height)
    horizon = max(int(run.step[-1]) for run in runs) or 1
    lines, heads, rules = [], [], []
    for i, run in enumerate(runs):
        keep = _frames(run.step)
        spots = axes.transData.transform(run.points[keep]).clip(-REACH, REACH)
        spots = np.column_stack([spots[:, 0], height - spots[:, 1]])
        when = RUNNING * np.sqrt(run.step[keep] / horizon)
        look, name = data.looks[run.optimizer], f"{key}-{i}"
        lines.append(_track(spots, paint(look.colour(PAGE)), name))
        heads.append(_head(spots[-1], look, name))
        rules.append(_movement(spots, when, name))
    x, y, wide, high = frame
    start = "translate({:.1f}px,{:.1f}px)".format(*spots[0])
    circle = f'<circle r="2.4" style="transform:{start};fill:var(--paper);stroke:var(--ink)"/>'
    clock, rule = _clock(frame, horizon, key)
    rectangle = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"'
    clip = f'<clipPath id="{key}-frame"><rect {rectangle}/></clipPath>'
    moving = f"{''.join(lines)}{circle}{''.join(heads)}"
    return f'{clip}<g clip-path="url(#{key}-frame)">{moving}</g>{clock}', "".join(rules) + rule


def _track(spots: np.ndarray, colour: str, name: str) -> str:
    """The line behind a head, with a halo; both grow with the clock."""
    data = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
    halo = f"stroke:var(--paper);stroke-opacity:.7;stroke-width:2.8;{_run(name)}"
    line = f"stroke:{colour};stroke-width:1.3;{_run(name)}"
    return "".join(f'<path d="{data}" style="{style}" {_RUN}/>' for style in (halo, line))


def _head(end: np.ndarray, look: Look, name: str) -> str:
    """The optimizer's marker; without animation it stands at the end."""
    place = f"transform:translate({end[0]:.1f}px,{end[1]:.1f}px);animation-name:{name}-h"
    style = f"{place};fill:{paint(look.colour(PAGE))};stroke:var(--paper);stroke-width:.7"
    return f'<path class="head" style="{style}" d="{outline(look.marker, 6.2)}"/>'


def _movement(spots: np.ndarray, when: np.ndarray, name: str) -> str:
    """Keyframes of a line and its head at the same moments."""
    length = np.r_[0.0, np.cumsum(np.hypot(*np.diff(spots, axis=0).T))]
    share = length / (length[-1] or 1.0)
    grow = [f"stroke-dashoffset:{1 - s:.4f}" for s in share]
    move = [f"transform:translate({x:.1f}px,{y:.1f}px)" for x, y in spots]
    return _keyframes(f"{name}-l", when, grow) + _keyframes(f"{name}-h", when, move)


def _run(name: str) -> str:
    return f"stroke-dasharray:1 2;animation-name:{name}-l"


def _frames(step: np.ndarray) -> np.ndarray:
    """Indices of at most `FRAMES` recorded points, closer together early on, as the clock is."""
    if len(step) <= FRAMES:
        return np.arange(len(step))
    places = (len(step) - 1) * np.linspace(0, 1, FRAMES) ** 2
    return np.unique(np.rint(places).astype(int))


def _keyframes(name: str, when: np.ndarray, states: list[str]) -> str:
    """CSS keyframes that hold the last state until the loop starts again."""
    frames = "".join(f"{w:.2f}%{{{state}}}" for w, state in zip(when, states, strict=True))
    return f"@keyframes {name}{{{frames}100%{{{states[-1]}}}}}"


def _clock(frame: tuple[float, ...], horizon: int, key: str) -> tuple[str, str]:
    """A bar over the panel that fills as steps go by, with a few steps written on it, and its movement."""
    x, y, width, _ = frame
    top = y - 3.0
    bar = f'd="M{x:.1f} {top:.1f}h{width:.1f}" fill="none"'
    filled = f"stroke:var(--muted);stroke-width:2;stroke-dasharray:1 2;animation-name:{key}-c"
    parts = [
        f'<path {bar} style="stroke:var(--faint);stroke-width:2"/>',
        f'<path class="run" pathLength="1" {bar} style="{filled}"/>',
    ]
    for share, anchor, unit in ((0.05, "middle", ""), (0.25, "middle", ""), (1.0, "end", " steps")):
        style = f"font-size:6px;text-anchor:{anchor};fill:var(--muted)"
        place = x + width * np.sqrt(share)
        text = f"{round(horizon * share):,}{unit}"
        parts.append(f'<text x="{place:.1f}" y="{top - 2.6:.1f}" style="{style}">{text}</text>')
    rule = f"@keyframes {key}-c{{0%{{stroke-dashoffset:1}}{RUNNING:g}%,100%{{stroke-dashoffset:0}}}}"
    return "".join(parts), rule
