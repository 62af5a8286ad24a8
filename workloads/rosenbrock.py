"""Rosenbrock's valley."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._functions import Function
from ._types import Array, Box, Points


@dataclass(frozen=True)
class Rosenbrock(Function):
    """Rosenbrock's curved valley: easy to find, slow to follow, n-D.

    f(x) = sum_{i<n} [100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2]

    The minimum is at (1, ..., 1). From 4 coordinates on there is a second, local one near
    (-1, 1, ..., 1) with f close to 4 (Shang and Qiu, Evolutionary Computation 14 (1), 2006). The default
    budget is for 2 coordinates; 10 want about 4,000 steps.

    Source: Rosenbrock, "An automatic method for finding the greatest or least value of a function", The
    Computer Journal 3 (3), 1960; n-D and domain: De Jong's function 2 (dissertation, 1975).

    Args:
        dimension: number of coordinates n, 2 or more.
    """

    target: float = 1e-3
    steps: int = 2000
    dimension: int = 2
    optimum: ClassVar[float] = 0.0
    lowest_dimension: ClassVar[int] = 2

    @property
    def domain(self) -> Box:
        """[-2.048, 2.048] in each coordinate."""
        return ((-2.048, 2.048),) * self.dimension

    @property
    def minimizers(self) -> Points:
        """(1, ..., 1)."""
        return ((1.0,) * self.dimension,)

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., n] -> [...]."""
        here, following = x[..., :-1], x[..., 1:]
        return tf.reduce_sum(100.0 * tf.square(following - tf.square(here)) + tf.square(1.0 - here), axis=-1)
