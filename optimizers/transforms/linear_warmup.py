"""A linear warm-up of the learning rate."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._types import Optimizer, Scalar, Structure
from ._schedule import budget, ramp, scaled, time


@dataclass(frozen=True)
class LinearWarmup:
    """Schedule: the learning rate rises along a line, then stays.

    α_t = α (c + (1 − c) min(t / (w · steps), 1))

    t counts updates from 0, so with c = 0 the first update moves nothing. The warm-up lasts the share w of
    `steps`: `linear_warmup(adam, warmup=1.0, steps=100)` is one of 100 updates.

    Source: P. Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2.
    """

    optimizer: Optimizer
    steps: int | None = None  # updates the schedule spans; None: the study's budget
    warmup: float = 0.1  # w, a share of `steps`
    initial: float = 0.0  # c

    def factor(self, t: tf.Tensor) -> tf.Tensor:
        """What the learning rate is multiplied by after t updates (t: a float scalar)."""
        rise = ramp(t, self.warmup * budget(self.steps, "linear_warmup"))
        return cast(self.initial, t.dtype) + cast(1 - self.initial, t.dtype) * rise

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
