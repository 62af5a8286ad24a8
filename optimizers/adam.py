"""Adam and AMSGrad."""

from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from ._scalars import bias_correction, cast
from ._tree import update_leaves, zeros_like
from ._types import Scalar, Structure


@dataclass(frozen=True)
class Adam:
    """Adam: running mean of the gradient over the root of its running mean square.

    m_t = β₁ m_{t-1} + (1 − β₁) g_t
    v_t = β₂ v_{t-1} + (1 − β₂) g_t²
    m̂_t = m_t / (1 − β₁^t)
    v̂_t = v_t / (1 − β₂^t)
    θ_t = θ_{t-1} − α m̂_t / (√v̂_t + ε)
    With `amsgrad`, v_t in v̂_t is replaced by the largest so far, u_t = max(u_{t-1}, v_t).

    The learning rate α has the unit of the parameters: a step is at most about α. ε is the paper's, added
    to √v̂, as in Optax and PyTorch; Keras adds its ε to √v (the paper's "ε hat"), which weighs
    1 / √(1 − β₂^t) times more in early steps. AMSGrad's paper corrects no bias; like Keras and PyTorch we
    take the maximum over v and then correct it (Optax: the maximum over v̂). The default ε is Keras' 1e-7
    (the paper: 1e-8).

    Source: D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1;
    S. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018, Algorithm 2.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False
    learning_rates: ClassVar[tuple[float, float]] = (1e-5, 1e0)

    def init(self, params: Structure) -> Structure:
        names = ("m", "v", "v_max") if self.amsgrad else ("m", "v")
        return {name: zeros_like(params) for name in names}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def rule_for_dtype(dtype):
            t = tf.cast(step, dtype) + 1
            beta_1, one_minus_beta_1 = cast(self.beta_1, dtype), cast(1 - self.beta_1, dtype)
            beta_2, one_minus_beta_2 = cast(self.beta_2, dtype), cast(1 - self.beta_2, dtype)
            # α m̂ / (√v̂ + ε) with both corrections drawn into scalars: two elementwise passes fewer.
            root = tf.sqrt(bias_correction(self.beta_2, t))
            alpha = cast(lr, dtype) * (root / bias_correction(self.beta_1, t))
            epsilon = cast(self.epsilon, dtype) * root

            def rule(p, g, m, v, v_max: Any = None):
                m = beta_1 * m + one_minus_beta_1 * g
                v = beta_2 * v + one_minus_beta_2 * tf.square(g)
                if not self.amsgrad:
                    return p - alpha * m / (tf.sqrt(v) + epsilon), {"m": m, "v": v}
                v_max = tf.maximum(v_max, v)
                return p - alpha * m / (tf.sqrt(v_max) + epsilon), {"m": m, "v": v, "v_max": v_max}

            return rule

        return update_leaves(rule_for_dtype, params, grads, state)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return params
