"""Adagrad."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._roots import root
from ._scalars import cast
from ._tree import map_leaves, update_leaves
from ._types import Scalar, Structure


@dataclass(frozen=True)
class Adagrad:
    """Adagrad: the gradient over the root of the sum of all its squares.

    G_0 = initial accumulator
    G_t = G_{t-1} + g_t²
    θ_t = θ_{t-1} − α g_t / √(G_t + ε)

    The learning rate α has the unit of the parameters. The paper starts G at 0 and adds its δ to the root;
    the start at 0.1 and ε inside the root are those of Keras and Optax.

    Source: J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12, 2011, Figure 1 with diagonal matrices (composite mirror descent).
    """

    initial_accumulator: float = 0.1
    epsilon: float = 1e-7
    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e1)

    def init(self, params: Structure) -> Structure:
        def initial(p):
            return tf.zeros_like(p) + cast(self.initial_accumulator, p.dtype)

        return {"accumulator": map_leaves(initial, params)}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def rule_for_dtype(dtype):
            alpha = cast(lr, dtype)
            epsilon = cast(self.epsilon, dtype)

            def rule(p, g, accumulator):
                accumulator = accumulator + tf.square(g)
                return p - alpha * g / root(accumulator + epsilon), {"accumulator": accumulator}

            return rule

        return update_leaves(rule_for_dtype, params, grads, state)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return params
