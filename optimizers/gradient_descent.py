"""Gradient descent."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._scalars import cast
from ._tree import update_leaves
from ._types import Scalar, Structure


@dataclass(frozen=True)
class GradientDescent:
    """Gradient descent: a step down the gradient.

    θ_t = θ_{t-1} − α g_t

    The learning rate α has the unit parameter² / loss.

    Source: A. Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées", 1847;
    with noisy gradients H. Robbins and S. Monro, "A stochastic approximation method", 1951.
    """

    learning_rates: ClassVar[tuple[float, float]] = (1e-4, 1e1)

    def init(self, params: Structure) -> Structure:
        return {}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def rule_for_dtype(dtype):
            alpha = cast(lr, dtype)

            def rule(p, g):
                return p - alpha * g, {}

            return rule

        return update_leaves(rule_for_dtype, params, grads, state)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return params
