"""A stranger's workload, made to misbehave on demand: it sleeps, dies or hangs as its seeds begin."""

from __future__ import annotations

import itertools
import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf
from bowls_helper import weights

BEGUN = itertools.count()
FREE = 8  # enough for a tile of four seeds and two programs, fewer than a study of ten seeds


@dataclass(frozen=True)
class Bowl:
    """An elliptic bowl in two coordinates.

    f(x) = x_1^2 + 4 x_2^2

    What it does before a seed begins is in the environment of its process: `BOWL_SLEEP` seconds,
    `BOWL_DIE` and `BOWL_HANG` name the seeds at which the process is killed, or never goes on; a
    process that has begun `FREE` of them waits until there is a file `BOWL_GATE`.
    """

    steps: int = 40
    target: float = 1e-3
    dtype: str = "float32"
    target_metric: ClassVar[str] = "loss"
    optimum: ClassVar[float] = 0.0
    minimizers: ClassVar[tuple[tuple[float, ...], ...]] = ((0.0, 0.0),)
    domain: ClassVar[tuple[tuple[float, float], ...]] = ((-2.0, 2.0), (-2.0, 2.0))

    def init(self, seed):
        if isinstance(seed, int):
            time.sleep(float(os.environ.get("BOWL_SLEEP", 0)))
            if str(seed) in os.environ.get("BOWL_DIE", "").split():
                os.kill(os.getpid(), signal.SIGSEGV)
            if str(seed) in os.environ.get("BOWL_HANG", "").split():
                time.sleep(3600)
            gate, number = os.environ.get("BOWL_GATE"), next(BEGUN)
            # Seed 0 is what a driver plans with, too.
            while gate and seed and number >= FREE and not os.path.exists(gate):  # noqa: PTH110
                time.sleep(0.05)
        return tf.random.stateless_uniform([2], [seed, 7], -2.0, 2.0, tf.as_dtype(self.dtype))

    def batch(self, seed, step):
        return None

    def loss(self, params, batch):
        return tf.reduce_sum(tf.cast(weights(), params.dtype) * tf.square(params), axis=-1)

    def objective(self, params):
        return self.loss(params, None)

    def monitor(self, params):
        return {}

    def evaluate(self, params):
        return {}
