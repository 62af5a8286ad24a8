"""RMSprop."""

from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from ._roots import root
from ._scalars import cast
from ._tree import update_leaves, zeros_like
from ._types import Scalar, Structure


@dataclass(frozen=True)
class Rmsprop:
    """RMSprop: the gradient over the root of its running mean square.

    v_t = ρ v_{t-1} + (1 − ρ) g_t²
    b_t = μ b_{t-1} + α g_t / √(v_t + ε)
    θ_t = θ_{t-1} − b_t
    With `centered`, the variance in place of the mean square:
    a_t = ρ a_{t-1} + (1 − ρ) g_t
    b_t = μ b_{t-1} + α g_t / √(v_t − a_t² + ε)

    The learning rate α has the unit of the parameters. ε lies inside the root and the learning rate
    inside the momentum, as in Keras and Optax. v_t − a_t² is held at 0 from below: by rounding it falls
    below −ε where gradients are large and steady, and Keras and Optax then return NaN. The momentum slot is
    there at μ = 0 too, since one compiled program serves all values of μ; it then stays as it is, and costs
    no time where μ is a number.

    Source: T. Tieleman and G. Hinton, "Lecture 6.5: rmsprop", Coursera, 2012; centred and with momentum
    A. Graves, "Generating sequences with recurrent neural networks", 2013, eqs. (38)-(41).
    """

    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False
    learning_rates: ClassVar[tuple[float, float]] = (1e-5, 1e0)

    def init(self, params: Structure) -> Structure:
        names = ("v", "b", "a") if self.centered else ("v", "b")
        return {name: zeros_like(params) for name in names}

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        without_momentum = isinstance(self.momentum, (int, float)) and self.momentum == 0

        def rule_for_dtype(dtype):
            alpha = cast(lr, dtype)
            rho, one_minus_rho = cast(self.rho, dtype), cast(1 - self.rho, dtype)
            mu = cast(self.momentum, dtype)
            epsilon = cast(self.epsilon, dtype)

            def rule(p, g, v, b, a: Any = None):
                v = rho * v + one_minus_rho * tf.square(g)
                spread = v
                if self.centered:
                    a = rho * a + one_minus_rho * g
                    spread = tf.maximum(v - tf.square(a), 0)
                step_taken = alpha * g / root(spread + epsilon)
                if not without_momentum:
                    step_taken = mu * b + step_taken
                    b = tf.where(tf.equal(mu, 0), b, step_taken)
                slots = {"v": v, "b": b, "a": a} if self.centered else {"v": v, "b": b}
                return p - step_taken, slots

            return rule

        return update_leaves(rule_for_dtype, params, grads, state)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return params
