"""Ackley's function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._functions import Function
from ._sines import sin_pi
from ._types import Array, Box, Points


@dataclass(frozen=True)
class Ackley(Function):
    """Ackley's function: a nearly flat, rippled plain around one sharp hole, n-D.

    f(x) = -20 exp(-0.2 sqrt(mean x_i^2)) - exp(mean cos(2 pi x_i)) + 20 + e
         = -20 expm1(-0.2 r) - e expm1(-2 mean sin^2(pi x_i)),    r = sqrt(mean x_i^2)

    The second form is the one computed: it is exact to rounding near 0, where the first loses every
    digit below 1e-6 in float32. The minimum is the tip of a cone, f ~ 4 r: the gradient does not
    vanish towards it, and at 0 itself its value here is 0 (the middle of the subdifferential).

    Starts are drawn from [-5, 5] and not from Ackley's [-32.768, 32.768], where the plain is so flat that
    a local method finds the hole from few starts; the default target is inside the hole (the next best
    minimum has f > 2.5), which some starts reach and some do not.

    Source: Ackley, "A Connectionist Machine for Genetic Hillclimbing", Kluwer, 1987 (2-D); n-D: Bäck,
    "Evolutionary Algorithms in Theory and Practice", Oxford, 1996.

    Args:
        dimension: number of coordinates n.
    """

    target: float = 0.1
    steps: int = 500
    dimension: int = 2
    optimum: ClassVar[float] = 0.0

    @property
    def domain(self) -> Box:
        """[-5, 5] in each coordinate."""
        return ((-5.0, 5.0),) * self.dimension

    @property
    def minimizers(self) -> Points:
        """The origin."""
        return ((0.0,) * self.dimension,)

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., n] -> [...]."""
        mean_square = tf.reduce_mean(tf.square(x), axis=-1)
        positive = mean_square > 0
        # The inner `where` keeps 1 / sqrt(0) out of the gradient: a NaN there would survive the outer one.
        radius = tf.where(positive, tf.sqrt(tf.where(positive, mean_square, 1.0)), 0.0)
        ripple = tf.reduce_mean(tf.square(sin_pi(x)), axis=-1)
        return -20.0 * tf.math.expm1(-0.2 * radius) - math.e * tf.math.expm1(-2.0 * ripple)
