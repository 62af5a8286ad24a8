"""Clipping by the norm of the whole gradient."""

from dataclasses import dataclass

import tensorflow as tf

from .._tree import map_leaves, scalar_dtype
from .._types import Optimizer, Scalar, Structure
from ._clip import shrink


@dataclass(frozen=True)
class ClipByGlobalNorm:
    """Shrinks the whole gradient to a norm of at most c, before the optimizer sees it.

    g ← g min(1, c / ‖g‖₂), ‖g‖₂ over all tensors: the direction stays

    Source: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, Algorithm 1.
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
        # In the widest precision needed: a float32 sum would round the factor of a float64 tensor.
        dtype = scalar_dtype(grads)
        squares = [tf.reduce_sum(tf.square(tf.cast(g, dtype))) for g in tf.nest.flatten(grads)]
        factor = shrink(self.max_norm, tf.sqrt(tf.add_n(squares)))
        grads = map_leaves(lambda g: g * tf.cast(factor, g.dtype), grads)
        return self.optimizer.update(params, grads, state, lr, step)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return self.optimizer.eval_params(params, state)
