"""Decoupled weight decay."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._tree import map_leaves
from .._types import Optimizer, Scalar, Structure


@dataclass(frozen=True)
class WeightDecay:
    """Shrinks the parameters a little before every update, outside the optimizer's running means.

    θ ← (1 − α λ) θ, then the optimizer's update with the gradient at the old θ

    The decay is scaled by the learning rate α that reaches this transform: to let a schedule scale it too,
    put the schedule outside, `cosine(weight_decay(momentum))`. All parameters decay. Where the step does not
    depend on θ itself, this is θ − α λ θ − (step): `weight_decay(adam)` is `adamw`.

    Source: I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, Algorithms 1
    and 2, with λ scaled by α as in Keras, Optax and PyTorch.
    """

    optimizer: Optimizer
    weight_decay: float = 0.004  # λ, without unit

    @property
    def learning_rates(self) -> tuple[float, float]:
        return self.optimizer.learning_rates

    def init(self, params: Structure) -> Structure:
        return self.optimizer.init(params)

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        def decay(p):
            return p - cast(lr, p.dtype) * cast(self.weight_decay, p.dtype) * p

        # Before the update, not after: methods that set the parameters (look-ahead) then set decayed ones.
        return self.optimizer.update(map_leaves(decay, params), grads, state, lr, step)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return self.optimizer.eval_params(params, state)
