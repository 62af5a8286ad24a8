"""One optimizer first, another from a step on."""

from dataclasses import dataclass

import tensorflow as tf

from .._tree import select
from .._types import Optimizer, Scalar, Structure


@dataclass(frozen=True)
class Switch:
    """Hybrid: one optimizer for the first updates, then another.

    θ_t = first's update for t ≤ at, second's after

    The second starts afresh: its state is made from the parameters at the switch and its steps are counted
    from there, as if training began at that point. Both get the same learning rate; to give them different
    ones, wrap one: `switch(adam, constant(gradient_descent, scale=100.0), at=500)`. A schedule inside counts
    its own optimizer's updates; a schedule around the switch counts all.

    Both updates are computed at every step and one is taken, since lanes of one program may stand on
    different sides of the switch: a step costs as much as a step of each.

    Source: N. Keskar and R. Socher, "Improving generalization performance by switching from Adam to SGD",
    2017, with a switch at a given step.
    """

    first: Optimizer
    second: Optimizer
    at: int = 100  # updates done by the first

    def __post_init__(self):
        if self.at < 0:
            raise ValueError(f"switch needs `at` of at least 0, got {self.at}.")

    @property
    def learning_rates(self) -> tuple[float, float]:
        low, high = zip(self.first.learning_rates, self.second.learning_rates, strict=True)
        return min(low), max(high)

    def init(self, params: Structure) -> Structure:
        # 0 while the first is at work, then 1: eval_params is not told the step.
        return {
            "first": self.first.init(params),
            "second": self.second.init(params),
            "switched": tf.zeros([], tf.float32),
        }

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        is_first = step < self.at
        by_first = self.first.update(params, grads, state["first"], lr, step)
        start = select(step <= self.at, self.second.init(params), state["second"])
        since = tf.maximum(step - self.at, 0)
        by_second = self.second.update(params, grads, start, lr, since)
        return select(is_first, by_first[0], by_second[0]), {
            "first": select(is_first, by_first[1], state["first"]),
            "second": select(is_first, start, by_second[1]),
            "switched": tf.cast(tf.logical_not(is_first), tf.float32),
        }

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        by_first = self.first.eval_params(params, state["first"])
        by_second = self.second.eval_params(params, state["second"])
        return select(state["switched"] > 0, by_second, by_first)
