"""An optimizer and a workload that a split batch cannot serve, and say so."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf


@dataclass(frozen=True)
class PerExample:
    """Descent that would clip every example's gradient."""

    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e-1)
    per_example_gradients: ClassVar[bool] = True

    def init(self, params: Any) -> Any:
        return ()

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        return tf.nest.map_structure(lambda p, g: p - tf.cast(lr, p.dtype) * g, params, grads), state

    def eval_params(self, params: Any, state: Any) -> Any:
        return params


@dataclass(frozen=True)
class Spread:
    """The mean square distance from a batch of points, less their variance: no mean over examples.

    Where the environment's `SPREAD_SLEEP` is set, planning aside, each start takes that many seconds.
    """

    equal_parts: ClassVar[bool] = True
    batch_size: int = 10
    target: float = 0.1
    steps: int = 20
    dtype: str = "float64"
    target_metric: ClassVar[str] = "loss"
    domain: ClassVar[None] = None
    minimizers: ClassVar[tuple[Any, ...]] = ()
    optimum: ClassVar[None] = None

    def init(self, seed: Any) -> tf.Tensor:
        time.sleep(float(os.environ.get("SPREAD_SLEEP", "0")))
        return tf.cast(tf.fill([3], tf.cast(seed, tf.float32) + 1.0), self.dtype)

    def batch(self, seed: Any, step: Any) -> tf.Tensor:
        rows = tf.reshape(tf.range(3 * self.batch_size), [self.batch_size, 3])
        return tf.sin(tf.cast(rows * (seed + 2) + step, self.dtype))

    def loss(self, params: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(params - batch)) - tf.math.reduce_variance(batch)

    def objective(self, params: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(params))

    def monitor(self, params: tf.Tensor) -> dict[str, tf.Tensor]:
        return {}

    def evaluate(self, params: tf.Tensor) -> dict[str, tf.Tensor]:
        return {}
