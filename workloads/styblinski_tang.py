"""The function of Styblinski and Tang."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from ._functions import Function, check_function
from ._types import Array, Box, Points

LOWEST_AT = -2.903534027771177  # the lowest root of 4 x^3 - 32 x + 5
LOWEST = -39.16616570377141  # f there, one coordinate
TARGET_OF_TWO = -78.3


@dataclass(frozen=True)
class StyblinskiTang(Function):
    """The function of Styblinski and Tang: 2^n minima of which one is the lowest, n-D.

    f(x) = 1/2 sum_i (x_i^4 - 16 x_i^2 + 5 x_i)

    A coordinate is lowest at -2.9035 (f = -39.166) and has a second minimum at 2.7468 (f = -25.029). The
    default target is inside the global basin: a method that stays in the basin of its start reaches it
    from a quarter of the starts in 2-D.

    Source: Styblinski and Tang, "Experiments in nonconvex optimization: stochastic approximation with
    function smoothing and simulated annealing", Neural Networks 3 (4), 1990.

    Args:
        dimension: number of coordinates n. The default target is that of two; another n needs its own.
    """

    target: float = -78.3
    steps: int = 300
    dimension: int = 2

    def __post_init__(self):
        if self.dimension != 2 and self.target == TARGET_OF_TWO:
            raise ValueError(
                f"StyblinskiTang: the default target, {TARGET_OF_TWO}, is for 2 coordinates; with "
                f"{self.dimension} the optimum is {self.optimum:.6g}, give a target a little above it."
            )
        check_function(self)

    @property
    def domain(self) -> Box:
        """[-5, 5] in each coordinate."""
        return ((-5.0, 5.0),) * self.dimension

    @property
    def minimizers(self) -> Points:
        """(-2.9035, ..., -2.9035)."""
        return ((LOWEST_AT,) * self.dimension,)

    @property
    def optimum(self) -> float:
        """-39.166 for each coordinate."""
        return LOWEST * self.dimension

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., n] -> [...]."""
        square = tf.square(x)
        return 0.5 * tf.reduce_sum(square * (square - 16.0) + 5.0 * x, axis=-1)
