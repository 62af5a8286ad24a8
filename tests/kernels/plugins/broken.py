"""An optimizer that XLA cannot compile."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf


@dataclass(frozen=True)
class Broken:
    """Gradient descent through a Python callback."""

    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e0)

    def init(self, params):
        return {}

    def update(self, params, grads, state, lr, step):
        def rule(p, g):
            moved = tf.numpy_function(lambda x, y: x - y, [p, tf.cast(lr, p.dtype) * g], p.dtype)
            return tf.ensure_shape(moved, p.shape)

        return tf.nest.map_structure(rule, params, grads), state

    def eval_params(self, params, state):
        return params
