"""An exponentially falling learning rate."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import power
from .._types import Optimizer, Scalar, Structure
from ._schedule import budget, scaled, time


@dataclass(frozen=True)
class Exponential:
    """Schedule: the learning rate falls by the same share at every update.

    α_t = α c^(t / steps)

    t counts updates from 0. After `steps` updates the learning rate is α c; it falls on from there.
    """

    optimizer: Optimizer
    steps: int | None = None  # updates the schedule spans; None: the study's budget
    final: float = 0.01  # c, above 0

    def factor(self, t: tf.Tensor) -> tf.Tensor:
        """What the learning rate is multiplied by after t updates (t: a float scalar)."""
        return power(self.final, t / budget(self.steps, "exponential"))

    @property
    def learning_rates(self) -> tuple[float, float]:
        return self.optimizer.learning_rates

    def init(self, params: Structure) -> Structure:
        return self.optimizer.init(params)

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        rate = scaled(lr, self.factor(time(params, step)))
        return self.optimizer.update(params, grads, state, rate, step)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return self.optimizer.eval_params(params, state)
