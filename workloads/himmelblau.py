"""Himmelblau's function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._functions import Function
from ._types import Array, Box, Points


@dataclass(frozen=True)
class Himmelblau(Function):
    """Himmelblau's function: four equal minima, so the start decides which is found, 2-D.

    f(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2

    Source: Himmelblau, "Applied Nonlinear Programming", McGraw-Hill, 1972.
    """

    target: float = 1e-3
    steps: int = 300
    domain: ClassVar[Box] = ((-5.0, 5.0), (-5.0, 5.0))
    minimizers: ClassVar[Points] = (
        (3.0, 2.0),
        (-2.805118086952745, 3.131312518250573),
        (-3.779310253377747, -3.283185991286170),
        (3.584428340330492, -1.848126526964404),
    )
    optimum: ClassVar[float] = 0.0

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., 2] -> [...]."""
        x, y = x[..., 0], x[..., 1]
        return tf.square(x * x + y - 11.0) + tf.square(x + y * y - 7.0)
