"""Momentum, as Polyak's heavy ball or as Nesterov's accelerated gradient."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._scalars import cast
from ._tree import update_leaves, zeros_like
from ._types import Scalar, Structure


@dataclass(frozen=True)
class Momentum:
    """Gradient descent with a velocity that remembers earlier steps (heavy ball, or Nesterov's).

    Heavy ball:
        v_t = μ v_{t-1} − α g_t
        θ_t = θ_{t-1} + v_t
    With `nesterov`, where θ stands for the point at which the gradient is taken:
        v_t = μ v_{t-1} − α g_t
        θ_t = θ_{t-1} + μ v_t − α g_t

    The learning rate α has the unit parameter² / loss. It is inside the velocity, as in the papers and in
    Keras; Optax and PyTorch have it outside. Both are the same as long as the learning rate is constant.

    Source: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964, eq. (9);
    Y. Nesterov, 1983, in the form of I. Sutskever et al., "On the importance of initialization and
    momentum in deep learning", 2013, eqs. (1)-(4).
    """

    momentum: float = 0.9
    nesterov: bool = False
    learning_rates: ClassVar[tuple[float, float]] = (1e-5, 1e0)

    def init(self, params: Structure) -> Structure:
        return {"v": zeros_like(params)}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def rule_for_dtype(dtype):
            alpha = cast(lr, dtype)
            mu = cast(self.momentum, dtype)

            def rule(p, g, v):
                v = mu * v - alpha * g
                p = p + mu * v - alpha * g if self.nesterov else p + v
                return p, {"v": v}

            return rule

        return update_leaves(rule_for_dtype, params, grads, state)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return params
