"""Lion."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._scalars import cast
from ._tree import update_leaves, zeros_like
from ._types import Scalar, Structure


@dataclass(frozen=True)
class Lion:
    """Lion: steps of one size, along the sign of a mean of gradients.

    c_t = β₁ m_{t-1} + (1 − β₁) g_t
    θ_t = θ_{t-1} − α (sign(c_t) + λ θ_{t-1})
    m_t = β₂ m_{t-1} + (1 − β₂) g_t

    The learning rate α has the unit of the parameters: without decay every step moves every parameter by α.
    The decay is scaled by the learning rate: a step shrinks the parameters by the factor 1 − α λ.

    Source: X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, Algorithm 2.
    """

    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0
    learning_rates: ClassVar[tuple[float, float]] = (1e-6, 1e-1)

    def init(self, params: Structure) -> Structure:
        return {"m": zeros_like(params)}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def rule_for_dtype(dtype):
            alpha = cast(lr, dtype)
            beta_1, one_minus_beta_1 = cast(self.beta_1, dtype), cast(1 - self.beta_1, dtype)
            beta_2, one_minus_beta_2 = cast(self.beta_2, dtype), cast(1 - self.beta_2, dtype)
            decay = cast(self.weight_decay, dtype)

            def rule(p, g, m):
                c = beta_1 * m + one_minus_beta_1 * g
                m = beta_2 * m + one_minus_beta_2 * g
                return p - alpha * (tf.sign(c) + decay * p), {"m": m}

            return rule

        return update_leaves(rule_for_dtype, params, grads, state)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return params
