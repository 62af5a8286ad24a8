"""Gradient accumulation."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._tree import map_leaves, select, zeros_like
from .._types import Optimizer, Scalar, Structure


@dataclass(frozen=True)
class Accumulate:
    """Gradient accumulation: one update for every k gradients, with their mean.

    a_t = a_{t-1} + g_t / k
    at every k-th gradient: the optimizer's update with a_t, then a_t ← 0

    The optimizer counts its own updates: its step is ⌊step / k⌋, and a schedule inside runs k times slower
    than its `steps` say. A schedule around it, `cosine(accumulate(adam))`, counts gradients, as the study's
    budget does. The learning rate of the k-th gradient applies.
    """

    optimizer: Optimizer
    every: int = 4  # k, gradients

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"accumulate needs `every` of at least 1, got {self.every}.")

    @property
    def learning_rates(self) -> tuple[float, float]:
        return self.optimizer.learning_rates

    def init(self, params: Structure) -> Structure:
        return {"gradients": zeros_like(params), "optimizer": self.optimizer.init(params)}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def gathered(total, g):
            return total + g * cast(1 / self.every, g.dtype)

        total = map_leaves(gathered, state["gradients"], grads)
        inner_step = tf.math.floordiv(step, self.every)
        new = self.optimizer.update(params, total, state["optimizer"], lr, inner_step)
        full = tf.equal(tf.math.floormod(step + 1, self.every), 0)
        params, inner = select(full, new, (params, state["optimizer"]))
        return params, {"gradients": select(full, zeros_like(total), total), "optimizer": inner}

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return self.optimizer.eval_params(params, state["optimizer"])
