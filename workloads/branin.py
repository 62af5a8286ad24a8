"""Branin's function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._functions import Function
from ._types import Array, Box, Points

A, B, C, R = 1.0, 5.1 / (4.0 * math.pi**2), 5.0 / math.pi, 6.0
S, T = 10.0, 1.0 / (8.0 * math.pi)


@dataclass(frozen=True)
class Branin(Function):
    """Branin's function: three equal minima along a parabola, 2-D.

    f(x, y) = a (y - b x^2 + c x - r)^2 + s (1 - t) cos x + s
    a = 1, b = 5.1 / (4 pi^2), c = 5 / pi, r = 6, s = 10, t = 1 / (8 pi)

    At a minimum the square is zero and cos x = -1, so f = s t = 5 / (4 pi).

    Source: Branin, "Widely convergent method for finding multiple solutions of simultaneous nonlinear
    equations", IBM Journal of Research and Development 16 (5), 1972; constants and domain: Dixon and Szegö,
    "The global optimization problem: an introduction", 1978.
    """

    target: float = 0.3989
    steps: int = 300
    domain: ClassVar[Box] = ((-5.0, 10.0), (0.0, 15.0))
    minimizers: ClassVar[Points] = (
        (-3.141592653589793, 12.275),
        (3.141592653589793, 2.275),
        (9.42477796076938, 2.475),
    )
    optimum: ClassVar[float] = 0.3978873577297384

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., 2] -> [...]."""
        x, y = x[..., 0], x[..., 1]
        return A * tf.square(y - B * x * x + C * x - R) + S * (1.0 - T) * tf.cos(x) + S
