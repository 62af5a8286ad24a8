"""AdamW."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._scalars import bias_correction, cast
from ._tree import update_leaves, zeros_like
from ._types import Scalar, Structure


@dataclass(frozen=True)
class Adamw:
    """AdamW: Adam, with weight decay that does not pass through its running means.

    m_t = β₁ m_{t-1} + (1 − β₁) g_t
    v_t = β₂ v_{t-1} + (1 − β₂) g_t²
    m̂_t = m_t / (1 − β₁^t)
    v̂_t = v_t / (1 − β₂^t)
    θ_t = θ_{t-1} − α (m̂_t / (√v̂_t + ε) + λ θ_{t-1})

    The learning rate α has the unit of the parameters. The decay is scaled by the learning rate, schedule
    included, as in Keras, Optax and PyTorch: a step shrinks the parameters by the factor 1 − α λ. (The paper
    scales λ by the schedule's multiplier η_t alone, not by α: its λ is our α λ.) All parameters decay. With
    AMSGrad: `weight_decay(adam(amsgrad=True))`.

    Source: I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, Algorithm 2.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.004
    learning_rates: ClassVar[tuple[float, float]] = (1e-5, 1e0)

    def init(self, params: Structure) -> Structure:
        return {"m": zeros_like(params), "v": zeros_like(params)}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def rule_for_dtype(dtype):
            t = tf.cast(step, dtype) + 1
            beta_1, one_minus_beta_1 = cast(self.beta_1, dtype), cast(1 - self.beta_1, dtype)
            beta_2, one_minus_beta_2 = cast(self.beta_2, dtype), cast(1 - self.beta_2, dtype)
            # As in Adam, both bias corrections are drawn into scalars.
            root = tf.sqrt(bias_correction(self.beta_2, t))
            alpha = cast(lr, dtype) * (root / bias_correction(self.beta_1, t))
            epsilon = cast(self.epsilon, dtype) * root
            decay = cast(lr, dtype) * cast(self.weight_decay, dtype)

            def rule(p, g, m, v):
                m = beta_1 * m + one_minus_beta_1 * g
                v = beta_2 * v + one_minus_beta_2 * tf.square(g)
                return p - alpha * m / (tf.sqrt(v) + epsilon) - decay * p, {"m": m, "v": v}

            return rule

        return update_leaves(rule_for_dtype, params, grads, state)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return params
