"""Look-ahead."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._tree import map_leaves, select
from .._types import Optimizer, Scalar, Structure


@dataclass(frozen=True)
class Lookahead:
    """Look-ahead: every k updates, part of the way from where the last k began to where they ended.

    θ_t = the optimizer's update of θ_{t-1}
    and at every k-th update:
    φ ← φ + a (θ_t − φ)
    θ_t ← φ

    φ, the slow weights, start at θ_0. They are the parameters to evaluate by, as the paper does. The
    optimizer's own state is kept when the weights are set back (the paper's "maintain").

    Source: M. Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019, Algorithm 1.
    """

    optimizer: Optimizer
    sync_period: int = 5  # k, updates
    slow_step_size: float = 0.5  # a, without unit

    def __post_init__(self):
        if self.sync_period < 1:
            raise ValueError(f"lookahead needs a sync_period of at least 1, got {self.sync_period}.")

    @property
    def learning_rates(self) -> tuple[float, float]:
        return self.optimizer.learning_rates

    def init(self, params: Structure) -> Structure:
        return {"slow": tf.nest.map_structure(tf.identity, params), "optimizer": self.optimizer.init(params)}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def pulled(slow, fast):
            return slow + cast(self.slow_step_size, slow.dtype) * (fast - slow)

        params, inner = self.optimizer.update(params, grads, state["optimizer"], lr, step)
        synchronises = tf.equal(tf.math.floormod(step + 1, self.sync_period), 0)
        slow = select(synchronises, map_leaves(pulled, state["slow"], params), state["slow"])
        return select(synchronises, slow, params), {"slow": slow, "optimizer": inner}

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return self.optimizer.eval_params(state["slow"], state["optimizer"])
