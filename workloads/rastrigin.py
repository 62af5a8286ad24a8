"""Rastrigin's function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._functions import Function
from ._sines import sin_pi
from ._types import Array, Box, Points


@dataclass(frozen=True)
class Rastrigin(Function):
    """Rastrigin's function: a bowl with a local minimum near every lattice point, n-D.

    f(x) = sum_i [x_i^2 + 10 (1 - cos(2 pi x_i))] = sum_i [x_i^2 + 20 sin^2(pi x_i)]

    The second form is the one computed: it does not subtract nearly equal numbers at the minimum.
    Every point of the integer lattice has a local minimum near it, with f close to its squared length:
    0, 0.995, 1.990, 3.980, ... The default target counts the lowest minimum and, in 2-D, the eight around
    it, 9 of the 121 in the domain: a local method reaches it from some starts, or by hopping at a large
    rate. Give target = 0.9 for the global basin alone.

    Source: Rastrigin, "Systems of extremal control", Nauka, 1974 (2-D); n-D and domain: Mühlenbein,
    Schomisch and Born, "The parallel genetic algorithm as function optimizer", Parallel Computing 17, 1991.

    Args:
        dimension: number of coordinates n.
    """

    target: float = 2.0
    steps: int = 1000
    dimension: int = 2
    optimum: ClassVar[float] = 0.0

    @property
    def domain(self) -> Box:
        """[-5.12, 5.12] in each coordinate."""
        return ((-5.12, 5.12),) * self.dimension

    @property
    def minimizers(self) -> Points:
        """The origin."""
        return ((0.0,) * self.dimension,)

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., n] -> [...]."""
        return tf.reduce_sum(tf.square(x) + 20.0 * tf.square(sin_pi(x)), axis=-1)
