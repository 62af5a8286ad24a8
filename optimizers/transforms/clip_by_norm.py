"""Clipping by the norm of each tensor."""

from dataclasses import dataclass

import tensorflow as tf

from .._tree import map_leaves
from .._types import Optimizer, Scalar, Structure
from ._clip import shrink


@dataclass(frozen=True)
class ClipByNorm:
    """Shrinks each tensor of the gradient to a norm of at most c, before the optimizer sees it.

    g ← g min(1, c / ‖g‖₂), for every tensor by itself

    Source: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, Algorithm 1, tensor by tensor as `tf.clip_by_norm`.
    """

    optimizer: Optimizer
    max_norm: float = 1.0  # c, in the gradient's unit

    @property
    def learning_rates(self) -> tuple[float, float]:
        return self.optimizer.learning_rates

    def init(self, params: Structure) -> Structure:
        return self.optimizer.init(params)

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def clip(g):
            return g * shrink(self.max_norm, tf.sqrt(tf.reduce_sum(tf.square(g))))

        return self.optimizer.update(params, map_leaves(clip, grads), state, lr, step)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return self.optimizer.eval_params(params, state)
