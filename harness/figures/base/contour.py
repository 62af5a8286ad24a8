"""The ground that trajectories run over, and where the runs are on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .axes import Margins, label_axes, linear_axis, panel
from .data import ReportData
from .frame import Frame
from .theme import LEVELS, Theme

SIZE = (3.5, 3.3)


@dataclass(frozen=True)
class Ground:
    """A 2-D workload's loss on a grid: x [nx], y [ny], z [ny, nx]; minimizers [m, 2]."""

    workload: str
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    minimizers: np.ndarray


@dataclass(frozen=True)
class Path:
    """One run: step [t], points [t, 2]; `reached` and `diverged` from its row."""

    optimizer: str
    seed: int
    learning_rate: float
    step: np.ndarray
    points: np.ndarray
    reached: bool
    diverged: bool


def grounds(data: ReportData) -> list[Ground]:
    """Every 2-D workload whose contour grid was stored, in the study's order."""
    rows = {row["workload"]: row for row in data.contours.to_dict("records")}
    out = []
    for workload in data.workloads:
        if workload not in rows:
            continue
        row = rows[workload]
        x, y = np.asarray(row["x"], dtype=float), np.asarray(row["y"], dtype=float)
        z = np.asarray(row["z"], dtype=float).reshape(len(y), len(x))
        best = row["minimizers"]
        known = [np.asarray(m, dtype=float) for m in best] if best is not None else []
        flat = np.array([m for m in known if m.shape == (2,)]).reshape(-1, 2)
        out.append(Ground(workload, x, y, z, flat))
    return out


def paths(data: ReportData, workload: str, seeds: int) -> list[Path]:
    """Runs of a workload at each optimizer's recommended rate, on the first seeds that all of them share."""
    cells = data.recommended[data.recommended.workload == workload]
    chosen = []
    for optimizer in data.optimizers:
        rate = data.chosen.get((workload, optimizer))
        if rate is not None:
            chosen.append(cells[(cells.optimizer == optimizer) & (cells.learning_rate == rate)])
    if not chosen:
        return []
    rows: Frame = pd.concat(chosen)
    rows = rows[rows.status != "failed"].merge(data.points, on="cell_id", how="inner")
    if rows.empty:
        return []
    counts = rows.groupby("seed").optimizer.nunique()
    # The seeds that most optimizers have, lowest first: the same starting points for all.
    first = sorted(counts.index, key=lambda s: (-counts[s], s))[:seeds]
    out = []
    for row in rows[rows.seed.isin(first)].itertuples():
        points = np.column_stack([np.asarray(row.x, dtype=float), np.asarray(row.y, dtype=float)])
        good = np.asarray(np.isfinite(points).all(1) & (np.abs(points) < 1e9).all(1))
        end = len(good) if good.all() else int(good.argmin())
        if np.isfinite(row.reached):  # what follows the first hit only hides it
            end = min(end, int(np.searchsorted(np.asarray(row.step), row.reached)) + 1)
        if end:
            step = np.asarray(row.step)[:end]
            hit, lost = row.status == "converged", row.status == "diverged"
            out.append(Path(row.optimizer, row.seed, row.learning_rate, step, points[:end], hit, lost))
    return sorted(out, key=lambda p: (data.optimizers.index(p.optimizer), p.seed))


def ground_panel(data: ReportData, ground: Ground, theme: Theme, above: float = 0.0) -> tuple[Figure, Axes]:
    """A panel with the loss as bands, evenly spaced in the logarithm of (loss − lowest loss).

    Args:
        above: inches to leave free between title and axes.
    """
    margins = Margins(left=0.42, right=0.08, top=0.3 + above, bottom=0.42)
    size = (SIZE[0], SIZE[1] + above)
    figure, axes = panel(theme, data.short(ground.workload, 48), size, margins, grid="")
    axes.contourf(ground.x, ground.y, ground.z, levels=levels(ground), colors=theme.terrain, extend="both")
    linear_axis(axes, "x", float(ground.x.min()), float(ground.x.max()), count=5)
    linear_axis(axes, "y", float(ground.y.min()), float(ground.y.max()), count=5)
    label_axes(axes, theme, "x", "y", left=0.3)
    ratio = np.ptp(ground.y) / max(float(np.ptp(ground.x)), 1e-12)
    if 0.5 < ratio < 2:
        axes.set_aspect("equal", adjustable="box")
    if len(ground.minimizers):
        axes.plot(
            *ground.minimizers.T,
            linestyle="none",
            marker="*",
            markersize=9,
            color=theme.ink,
            markeredgecolor=theme.paper,
            markeredgewidth=0.8,
            zorder=9,
            clip_on=False,
        )
    return figure, axes


def levels(ground: Ground) -> list[float]:
    """`LEVELS` − 1 losses, log-spaced above the lowest, over what the grid shows but its flattest 2 %."""
    finite = ground.z[np.isfinite(ground.z)]
    if not finite.size:
        return [float(i) for i in range(LEVELS - 1)]
    lowest, highest = float(finite.min()), float(finite.max())
    gap = highest - lowest
    if gap <= 0:
        return [lowest + 1e-9 * (i - LEVELS / 2) for i in range(LEVELS - 1)]
    near = float(np.quantile(finite, 0.02)) - lowest
    start = math.log10(max(near, gap * 1e-4))
    return [lowest + 10**e for e in np.linspace(start, math.log10(gap), LEVELS)[:-1]]
