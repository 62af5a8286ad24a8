"""Gradient descent that walks over the gradients once more, for their norm."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf


@dataclass(frozen=True)
class Planted:
    """Gradient descent, with a second pass planted in it."""

    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e0)

    def init(self, params):
        return {}

    def update(self, params, grads, state, lr, step):
        size = tf.sqrt(sum(tf.reduce_sum(tf.square(g)) for g in tf.nest.flatten(grads)))
        rule = lambda p, g: p - tf.cast(lr, p.dtype) * g / (1 + size)  # noqa: E731
        return tf.nest.map_structure(rule, params, grads), state

    def eval_params(self, params, state):
        return params
