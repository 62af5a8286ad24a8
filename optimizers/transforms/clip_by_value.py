"""Clipping by value."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._tree import map_leaves
from .._types import Optimizer, Scalar, Structure


@dataclass(frozen=True)
class ClipByValue:
    """Clips every component of the gradient to [−c, c] before the optimizer sees it.

    g ← min(max(g, −c), c)

    Source: T. Mikolov, "Statistical language models based on neural networks", PhD thesis, 2012.
    """

    optimizer: Optimizer
    max_value: float = 1.0  # c, in the gradient's unit

    @property
    def learning_rates(self) -> tuple[float, float]:
        return self.optimizer.learning_rates

    def init(self, params: Structure) -> Structure:
        return self.optimizer.init(params)

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def clip(g):
            limit = cast(self.max_value, g.dtype)
            return tf.minimum(tf.maximum(g, -limit), limit)

        return self.optimizer.update(params, map_leaves(clip, grads), state, lr, step)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return self.optimizer.eval_params(params, state)
