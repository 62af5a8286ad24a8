"""A workload of one's own: the smallest eigenvalue of a fixed matrix, by its Rayleigh quotient."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

MATRIX = ((4.0, 1.0, 0.0), (1.0, 3.0, 1.0), (0.0, 1.0, 2.0))
SMALLEST = 3.0 - 3.0**0.5


@dataclass(frozen=True)
class Rayleigh:
    """Rayleigh quotient x'Ax / x'x of a 3 x 3 matrix, whose minimum is its smallest eigenvalue."""

    target: float = 1.269  # the optimum is 1.26795; a number, since files are read without running them
    steps: int = 300
    dtype: str = "float32"
    target_metric: ClassVar[str] = "loss"
    optimum: ClassVar[float] = SMALLEST
    minimizers: ClassVar[tuple[tuple[float, ...], ...]] = ()
    domain: ClassVar[None] = None

    def init(self, seed):
        # Whole numbers, since TensorFlow's uniform floats differ between eager and compiled code.
        whole = tf.random.stateless_uniform([3], [seed, 7], None, None, tf.int32, alg="philox")
        return tf.cast(whole, self.dtype) / 2**31

    def batch(self, seed, step):
        return None

    def loss(self, params, batch):
        matrix = tf.constant(MATRIX, params.dtype)
        return tf.reduce_sum(params * tf.linalg.matvec(matrix, params)) / tf.reduce_sum(params * params)

    def objective(self, params):
        return self.loss(params, None)

    def monitor(self, params):
        return {}

    def evaluate(self, params):
        return {}
