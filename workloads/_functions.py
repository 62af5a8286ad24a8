"""What the test functions share: a starting point per seed, gradient noise, and the checks of their fields.

A test function's own file says what is its own: the formula (`value`), where it is looked at (`domain`),
and its published answer (`minimizers`, `optimum`). Here `value` is the only piece of behaviour that a
file adds; nothing in `Function` is overridden but defaults.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from . import _streams
from ._fields import check_common
from ._types import Array, Box, Points


@dataclass(frozen=True)
class Function(abc.ABC):
    """A test function f(x), x in R^n, with its starting points and its gradient noise.

    The loss of a step is f(x) + u.x with u ~ N(0, noise^2 I) drawn anew for each (seed, step): the
    gradient is that of f plus u, which has mean zero and standard deviation `noise` in each coordinate.
    Everything is computed in float32 or, where the parameters are float64, in float64.

    Args:
        noise: standard deviation of the gradient noise per coordinate; 0 is the function itself.
        start: fixed starting point; None draws one per seed, uniform in `domain`.
        target: value of f (without noise) to reach.
        steps: budget of updates.
        dtype: of the parameters.
    """

    noise: float = 0.0
    start: tuple[float, ...] | None = None
    target: float = 1e-3
    steps: int = 1000
    dtype: str = "float32"
    target_metric: ClassVar[str] = "loss"
    lowest_dimension: ClassVar[int] = 1

    @property
    @abc.abstractmethod
    def domain(self) -> Box:
        """Lowest and highest value of each coordinate: starting points and contours lie inside."""

    @property
    @abc.abstractmethod
    def minimizers(self) -> Points:
        """Every global minimizer inside the domain."""

    @property
    @abc.abstractmethod
    def optimum(self) -> float:
        """The value of f at its global minimizers."""

    @abc.abstractmethod
    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., n] -> [...], in the dtype of x."""

    def __post_init__(self):
        check_function(self)

    def init(self, seed) -> tf.Tensor:
        """Starting point of `seed`, [n] in `dtype`: `start`, or uniform in the domain."""
        if self.start is not None:
            return tf.constant(self.start, self.dtype)
        low, high = (tf.constant(side, tf.float64) for side in zip(*self.domain, strict=True))
        share = _streams.uniform(_streams.INIT, seed, 0, [len(self.domain)])
        return tf.cast(low + (high - low) * share, self.dtype)

    def batch(self, seed, step) -> tf.Tensor | None:
        """The step's noise u, [n] float32 (float64 for float64); None where there is no noise."""
        if self.noise == 0:
            return None
        return self._noise(_streams.normal(_streams.NOISE, seed, step, [len(self.domain)]))

    def draws(self, seed, steps) -> tf.Tensor:
        """The noise of several steps, [steps, n]."""
        return self._noise(_streams.normal_of_steps(_streams.NOISE, seed, steps, [len(self.domain)]))

    def batch_of(self, draw: tf.Tensor) -> tf.Tensor:
        """A step's noise, as it was drawn."""
        return draw

    def _noise(self, normal: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.noise * normal, "float64" if self.dtype == "float64" else "float32")

    def loss(self, params: Array, batch: tf.Tensor | None) -> tf.Tensor:
        """f(x) + u.x, or f(x) where `batch` is None: a scalar."""
        x = _at_least_float32(params)
        return self.value(x) if batch is None else self.value(x) + tf.reduce_sum(batch * x, axis=-1)

    def objective(self, params: Array) -> tf.Tensor:
        """f(x) without noise, a scalar: what `target` is compared with."""
        return self.value(_at_least_float32(params))

    def monitor(self, params: Array) -> dict[str, tf.Tensor]:
        """Nothing beside the objective."""
        return {}

    def evaluate(self, params: Array) -> dict[str, tf.Tensor]:
        """Nothing beside the objective."""
        return {}


def check_function(function: Function) -> None:
    """Raise a sentence where a field cannot be used; a file with a check of its own calls this after it.

    Raises:
        ValueError: says which field, what it is and what was expected.
    """
    name, size = type(function).__name__, len(function.domain)
    check_common(name, function.dtype, function.steps)
    if size < function.lowest_dimension:
        raise ValueError(f"{name}: {size} coordinates; it takes {function.lowest_dimension} or more.")
    if not (math.isfinite(function.noise) and function.noise >= 0):
        raise ValueError(f"{name}: noise = {function.noise!r}; a standard deviation is 0 or more.")
    if not function.target > function.optimum:
        raise ValueError(
            f"{name}: target = {function.target!r} can never be reached; "
            f"give one above the optimum, {function.optimum!r}."
        )
    if function.start is not None:
        start = tuple(float(coordinate) for coordinate in function.start)
        if len(start) != size:
            raise ValueError(f"{name}: start has {len(start)} coordinates and the function has {size}.")
        object.__setattr__(function, "start", start)  # a list, as YAML gives it, becomes a tuple


def _at_least_float32(params: Array) -> tf.Tensor:
    x = tf.convert_to_tensor(params)
    return tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x
