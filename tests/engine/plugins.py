"""Optimizers and workloads of a user's own, each with one fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from workloads.digits_logistic import DigitsLogistic


@dataclass(frozen=True)
class Good:
    """Plain gradient descent, from a file."""

    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e-1)

    def init(self, params: Any) -> Any:
        return ()

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        return tf.nest.map_structure(lambda p, g: p - tf.cast(lr, p.dtype) * g, params, grads), state

    def eval_params(self, params: Any, state: Any) -> Any:
        return params


@dataclass(frozen=True)
class Averages(Good):
    """Evaluates a running mean of the parameters, not what it trains."""

    def init(self, params: Any) -> Any:
        return params

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        params, _ = super().update(params, grads, (), lr, step)
        return params, tf.nest.map_structure(lambda p, mean: 0.9 * mean + 0.1 * p, params, state)

    def eval_params(self, params: Any, state: Any) -> Any:
        return state


@dataclass(frozen=True)
class ByLoss(DigitsLogistic):
    """The shipped regression, its target on the loss of batches."""

    target_metric: ClassVar[str] = "loss"


@dataclass(frozen=True)
class Raises(Good):
    """Raises while it is traced."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        raise RuntimeError("no luck today")


@dataclass(frozen=True)
class Rambles(Good):
    """Raises a sentence of two lines."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        raise RuntimeError("no luck\n  at all")


@dataclass(frozen=True)
class Exits(Good):
    """Tries to end the process."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        raise SystemExit("I quit")


@dataclass(frozen=True)
class WrongShape(Good):
    """Returns parameters of another shape."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        return tf.concat([params, params], 0), state


@dataclass(frozen=True)
class WrongDtype(Good):
    """Returns parameters of another dtype."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        return tf.cast(params, tf.float64), state


@dataclass(frozen=True)
class Nan(Good):
    """Turns everything into NaN at the tenth step."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        return tf.where(step >= 10, tf.constant(np.nan, params.dtype), params * 0.999), state


@dataclass(frozen=True)
class OneAtATime(Good):
    """Uses an operation that has no vectorised form and compiles nowhere."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        moved = tf.numpy_function(
            lambda p, g, r: (p - r * g).astype(p.dtype), [params, grads, lr], params.dtype
        )
        return tf.ensure_shape(moved, params.shape), state


@dataclass(frozen=True)
class Scheduled(Good):
    """Looks its step up in a table: an operation whose place XLA would rather know while compiling."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        share = tf.constant(np.linspace(1.0, 0.5, 10))[tf.cast(step, tf.int32) % 10]
        lr = tf.cast(lr, tf.float64) * share
        return tf.nest.map_structure(lambda p, g: p - tf.cast(lr, p.dtype) * g, params, grads), state
