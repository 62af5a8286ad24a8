"""A learning rate that falls along a cosine."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._types import Optimizer, Scalar, Structure
from ._schedule import budget, half_cosine, ramp, scaled, time


@dataclass(frozen=True)
class Cosine:
    """Schedule: the learning rate falls along half a cosine.

    α_t = α (c + (1 − c) (1 + cos(π min(t / steps, 1))) / 2)

    t counts updates from 0. After `steps` updates the learning rate stays at c α.

    Source: I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    eq. (5), without restarts.
    """

    optimizer: Optimizer
    steps: int | None = None  # updates the schedule spans; None: the study's budget
    final: float = 0.0  # c

    def factor(self, t: tf.Tensor) -> tf.Tensor:
        """What the learning rate is multiplied by after t updates (t: a float scalar)."""
        fall = half_cosine(ramp(t, budget(self.steps, "cosine")))
        return cast(self.final, t.dtype) + cast(1 - self.final, t.dtype) * fall

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
