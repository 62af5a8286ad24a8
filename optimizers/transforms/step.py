"""A learning rate that falls in steps."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._types import Optimizer, Scalar, Structure
from ._schedule import budget, scaled, time


@dataclass(frozen=True)
class Step:
    """Schedule: the learning rate falls by one factor at each of a few boundaries.

    α_t = α c^k, k the number of boundaries b with t ≥ b · steps

    t counts updates from 0; the boundaries are shares of `steps`, rounded to whole updates. The defaults are
    those with which residual networks were trained, two falls by ten.

    Source: K. He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.
    """

    optimizer: Optimizer
    steps: int | None = None  # updates the schedule spans; None: the study's budget
    boundaries: tuple[float, ...] = (0.5, 0.75)  # shares of `steps`
    scale: float = 0.1  # c

    def factor(self, t: tf.Tensor) -> tf.Tensor:
        """What the learning rate is multiplied by after t updates (t: a float scalar)."""
        steps = budget(self.steps, "step")
        factor = tf.ones_like(t)
        for boundary in self.boundaries:
            factor = tf.where(t < round(boundary * steps), factor, factor * cast(self.scale, t.dtype))
        return factor

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
