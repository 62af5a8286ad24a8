"""Parameter stability: what a run's path through parameter space looks like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .order import Array


class Stability(NamedTuple):
    """Stability of one run.

    Attributes:
        path_length: sum of the updates' norms.
        displacement: norm of (last - first point).
        straightness: displacement / path length: 1 is a straight line; NaN where nothing moved.
        turn_backs: share of updates, after the first, whose inner product with the one before is negative.
        tail_std: standard deviation of the parameters over the points of the last tenth of the updates (the
            one before them included), as the root mean square over parameters.
    """

    path_length: float
    displacement: float
    straightness: float
    turn_backs: float
    tail_std: float


def stability(points: Array) -> Stability:
    """Stability of a path.

    Args:
        points: [steps + 1, parameters], after 0, 1, 2, ... updates.
    """
    points = np.asarray(points, float)
    updates = np.diff(points, axis=0)
    length = float(np.linalg.norm(updates, axis=1).sum())
    displacement = float(np.linalg.norm(points[-1] - points[0]))
    back = (updates[1:] * updates[:-1]).sum(1) < 0
    tail = points[-max(1, len(updates) // 10) - 1 :]
    return Stability(
        length,
        displacement,
        displacement / length if length > 0 else float("nan"),
        float(back.mean()) if back.size else float("nan"),
        float(np.sqrt(tail.var(0).mean())),
    )


def straightness(displacement: Array, path_length: Array) -> Array:
    """displacement / path length; NaN where nothing moved."""
    moved = np.asarray(path_length, float) > 0
    return np.where(moved, displacement / np.where(moved, path_length, 1.0), np.nan)
