"""An optimizer of one's own: sign descent with a momentum that forgets."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf


@dataclass(frozen=True)
class SignMomentum:
    """Steps of one size along the sign of a running mean of gradients."""

    beta: float = 0.9  # a float: traced, so that all its values share one compiled program
    learning_rates: ClassVar[tuple[float, float]] = (1e-4, 1e0)

    def init(self, params):
        return tf.nest.map_structure(tf.zeros_like, params)

    def update(self, params, grads, state, lr, step):
        # Numbers may be Python floats or tensors: arithmetic in float64 first, the parameter's dtype last.
        rate, beta = (tf.convert_to_tensor(value, tf.float64) for value in (lr, self.beta))

        def blend(m, g):
            return tf.cast(beta, m.dtype) * m + tf.cast(1 - beta, m.dtype) * g

        mean = tf.nest.map_structure(blend, state, grads)
        return tf.nest.map_structure(lambda p, m: p - tf.cast(rate, p.dtype) * tf.sign(m), params, mean), mean

    def eval_params(self, params, state):
        return params
