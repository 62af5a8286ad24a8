"""The optimizer contract, as types.

An optimizer is maths for one run: a frozen dataclass of hyperparameters with three pure functions. It
knows nothing of variables, devices, replicas or lanes; `VariableOptimizer` binds it to `tf.Variable`s.
"""

from typing import Any, Protocol

import tensorflow as tf

# Any tf.nest structure of tensors: parameters, gradients, states.
Structure = Any

# A Python float, or a scalar float64 tensor where one compiled program serves many values.
Scalar = float | tf.Tensor


class Optimizer(Protocol):
    """What every optimizer and every transform offers; nothing inherits from it."""

    @property
    def learning_rates(self) -> tuple[float, float]:
        """Lowest and highest learning rate of the optimizer's own default grid (log-spaced)."""
        ...

    def init(self, params: Structure) -> Structure:
        """State before the first update, made from the parameters' own shapes and dtypes."""
        ...

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        """One update: new parameters and new state.

        Args:
            params: parameters, any `tf.nest` structure of floating tensors.
            grads: gradient at `params`, in the same structure.
            state: what `init` or the last `update` returned.
            lr: learning rate, a Python float or a scalar float64 tensor.
            step: updates done so far, scalar int32: 0 at the first update.
        """
        ...

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        """Parameters to evaluate by: `params` itself, unless the method averages."""
        ...
