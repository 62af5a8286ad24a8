"""Nadam."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._scalars import bias_correction, cast, power
from ._tree import scalar_dtype, update_leaves, zeros_like
from ._types import Scalar, Structure


@dataclass(frozen=True)
class Nadam:
    """Nadam: Adam with Nesterov's momentum.

    μ_t = β₁ (1 − ½ 0.96^(t ψ))
    m_t = β₁ m_{t-1} + (1 − β₁) g_t
    v_t = β₂ v_{t-1} + (1 − β₂) g_t²
    m̂_t = μ_{t+1} m_t / (1 − Π_{i≤t+1} μ_i) + (1 − μ_t) g_t / (1 − Π_{i≤t} μ_i)
    v̂_t = v_t / (1 − β₂^t)
    θ_t = θ_{t-1} − α m̂_t / (√v̂_t + ε)

    The learning rate α has the unit of the parameters. ψ is `momentum_decay`: 0.004 (= 1 / 250) in the paper
    and in PyTorch; Keras has ψ = 1, with which this is Keras' Nadam. Optax holds μ at β₁, which is the limit
    of a large ψ.

    Source: T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, Algorithm 2; m_t
    with the constant β₁ as in Keras and PyTorch.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    momentum_decay: float = 0.004
    learning_rates: ClassVar[tuple[float, float]] = (1e-5, 1e0)

    def init(self, params: Structure) -> Structure:
        # product = Π_{i≤t} μ_i, one scalar for all parameters.
        product = tf.ones([], scalar_dtype(params))
        return {"m": zeros_like(params), "v": zeros_like(params), "product": product}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        dtype = state["product"].dtype
        psi = cast(self.momentum_decay, dtype)
        t = tf.cast(step, dtype) + 1
        mu = cast(self.beta_1, dtype) * (1 - 0.5 * power(0.96, t * psi))
        mu_next = cast(self.beta_1, dtype) * (1 - 0.5 * power(0.96, (t + 1) * psi))
        product = state["product"] * mu
        # α m̂ / (√v̂ + ε), the corrections drawn into scalars.
        root = tf.sqrt(bias_correction(self.beta_2, t))
        alpha = cast(lr, dtype) * root
        of_mean = alpha * mu_next / (1 - product * mu_next)
        of_gradient = alpha * (1 - mu) / (1 - product)
        epsilon = cast(self.epsilon, dtype) * root

        def rule_for_dtype(dtype):
            beta_1, one_minus_beta_1 = cast(self.beta_1, dtype), cast(1 - self.beta_1, dtype)
            beta_2, one_minus_beta_2 = cast(self.beta_2, dtype), cast(1 - self.beta_2, dtype)
            scale_m, scale_g, eps = (cast(x, dtype) for x in (of_mean, of_gradient, epsilon))

            def rule(p, g, m, v):
                m = beta_1 * m + one_minus_beta_1 * g
                v = beta_2 * v + one_minus_beta_2 * tf.square(g)
                return p - (scale_m * m + scale_g * g) / (tf.sqrt(v) + eps), {"m": m, "v": v}

            return rule

        slots = {"m": state["m"], "v": state["v"]}
        params, slots = update_leaves(rule_for_dtype, params, grads, slots)
        return params, {**slots, "product": product}

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return params
