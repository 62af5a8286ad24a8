"""Gradient descent in one pass over memory."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf


@dataclass(frozen=True)
class Planted:
    """Gradient descent, as it should be."""

    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e0)

    def init(self, params):
        return {}

    def update(self, params, grads, state, lr, step):
        rule = lambda p, g: p - tf.cast(lr, p.dtype) * g  # noqa: E731
        return tf.nest.map_structure(rule, params, grads), state

    def eval_params(self, params, state):
        return params
