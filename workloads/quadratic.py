"""A convex quadratic of chosen size, condition number and orientation."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from ._functions import Function, check_function
from ._types import Array, Box, Points

ROTATION_SEED = 0
# Up to here a rotation is written as sums: a grid keeps runs of so few coordinates side by side, where a
# product of matrices takes 1.4 times as long (4, 10 and 30 coordinates).
FEW = 32


@functools.cache
def rotation(dimension: int) -> np.ndarray:
    """The orthogonal matrix of `rotated` quadratics, [n, n] float64, the same in every process.

    The Q of the QR decomposition of an n x n matrix of standard normal numbers from
    `numpy.random.default_rng(ROTATION_SEED)`, with the signs that make R's diagonal positive
    (uniform over orthogonal matrices: Mezzadri, Notices of the AMS 54 (5), 2007).
    """
    gaussian = np.random.default_rng(ROTATION_SEED).standard_normal((dimension, dimension))
    q, r = np.linalg.qr(gaussian)
    return q * np.sign(np.diag(r))


@dataclass(frozen=True)
class Quadratic(Function):
    """Convex quadratic with a chosen condition number, along the axes or rotated, n-D.

    f(x) = 1/2 sum_i lambda_i (Q^T x)_i^2
    lambda_i log-spaced from 1 to `condition` (a single coordinate has lambda = 1), Q the identity, or,
    where `rotated`, an orthogonal matrix drawn once from a fixed seed (`rotation`).

    The best constant rate of gradient descent is 2 / (1 + condition), and it then shrinks the error by
    (condition - 1) / (condition + 1) a step (Nesterov, "Introductory Lectures on Convex Optimization",
    2004, theorem 2.1.15); at 2 / condition and above it diverges. Rotation changes nothing for methods
    that are invariant to it (gradient descent, momentum) and takes away what methods with a rate per
    coordinate gain (Adam, RMSprop).

    Args:
        dimension: number of coordinates n.
        condition: largest over smallest eigenvalue, 1 or more.
        rotated: turn the axes.
    """

    target: float = 1e-3
    steps: int = 500
    dimension: int = 2
    condition: float = 100.0
    rotated: bool = False
    optimum: ClassVar[float] = 0.0

    def __post_init__(self):
        if not (math.isfinite(self.condition) and self.condition >= 1):
            raise ValueError(f"Quadratic: condition = {self.condition!r}; a condition number is 1 or more.")
        check_function(self)

    @property
    def domain(self) -> Box:
        """[-1, 1] in each coordinate."""
        return ((-1.0, 1.0),) * self.dimension

    @property
    def minimizers(self) -> Points:
        """The origin."""
        return ((0.0,) * self.dimension,)

    @property
    def eigenvalues(self) -> np.ndarray:
        """The Hessian's eigenvalues, from 1 to `condition`, [n] float64."""
        return np.geomspace(1.0, self.condition, self.dimension)

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., n] -> [...]."""
        if self.rotated:
            matrix = tf.constant(rotation(self.dimension), x.dtype)
            if self.dimension <= FEW:
                x = tf.reduce_sum(x[..., :, None] * matrix, axis=-2)
            else:  # one two-dimensional product: lifted to lanes, it stays one product of all lanes
                x = tf.reshape(tf.matmul(tf.reshape(x, [-1, self.dimension]), matrix), tf.shape(x))
        # A product with the eigenvalues: XLA's CPU backend makes a tree of windows of a sum over many.
        return 0.5 * tf.tensordot(tf.square(x), tf.constant(self.eigenvalues, x.dtype), axes=[[-1], [0]])
