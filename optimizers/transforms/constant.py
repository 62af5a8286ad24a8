"""A constant learning rate."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._types import Optimizer, Scalar, Structure
from ._schedule import scaled, time


@dataclass(frozen=True)
class Constant:
    """Schedule: the learning rate times one constant.

    α_t = c α

    Alone it changes the unit of a grid; inside `switch` it gives the two optimizers different rates:
    `switch(adam, constant(gradient_descent, scale=100.0), at=500)`.
    """

    optimizer: Optimizer
    scale: float = 1.0  # c

    def factor(self, t: tf.Tensor) -> tf.Tensor:
        """What the learning rate is multiplied by after t updates (t: a float scalar)."""
        return cast(self.scale, t.dtype)

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
