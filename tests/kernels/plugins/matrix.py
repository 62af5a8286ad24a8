"""An optimizer whose work is matrix products."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf


@dataclass(frozen=True)
class Whitened:
    """Gradient descent along G (GᵀG), for matrices."""

    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e0)

    def init(self, params):
        return {}

    def update(self, params, grads, state, lr, step):
        def rule(p, g):
            return p - tf.cast(lr, p.dtype) * tf.matmul(g, tf.matmul(g, g, transpose_a=True))

        return tf.nest.map_structure(rule, params, grads), state

    def eval_params(self, params, state):
        return params
