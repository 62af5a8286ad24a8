"""Beale's function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._functions import Function
from ._types import Array, Box, Points


@dataclass(frozen=True)
class Beale(Function):
    """Beale's function: a flat plateau around one bent valley, with steep corners, 2-D.

    f(x, y) = (1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2

    The gradient's norm reaches 2e5 at the corners. Many starts with x < 0 run away along y = 1, where f
    falls towards 0.452 as x goes to minus infinity: those seeds do not reach the target.

    Source: Beale, "On an iterative method for finding a local minimum of a function of more than one
    variable", Princeton, 1958; Moré, Garbow and Hillstrom, ACM TOMS 7 (1), 1981, problem 5.
    """

    target: float = 1e-3
    steps: int = 1000
    domain: ClassVar[Box] = ((-4.5, 4.5), (-4.5, 4.5))
    minimizers: ClassVar[Points] = ((3.0, 0.5),)
    optimum: ClassVar[float] = 0.0

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., 2] -> [...]."""
        x, y = x[..., 0], x[..., 1]
        first = 1.5 - x * (1.0 - y)
        second = 2.25 - x * (1.0 - y * y)
        third = 2.625 - x * (1.0 - y * y * y)
        return tf.square(first) + tf.square(second) + tf.square(third)
