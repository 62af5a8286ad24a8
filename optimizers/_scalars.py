"""Scalar arithmetic on hyperparameters.

A hyperparameter is a Python float or a scalar float64 tensor. Arithmetic on it is done in its own
precision and cast last, so that both give the same bits.
"""

import math

import tensorflow as tf

from ._types import Scalar


def cast(value: Scalar, dtype: tf.DType) -> tf.Tensor:
    """A hyperparameter in the dtype of the arithmetic.

    `tf.cast` alone would take a Python float through float32 on its way to float64.
    """
    if isinstance(value, (tf.Tensor, tf.Variable)):
        return tf.cast(value, dtype)
    return tf.constant(value, dtype)


def log(value: Scalar) -> Scalar:
    """Natural logarithm in the value's own precision; minus infinity at 0."""
    if isinstance(value, (tf.Tensor, tf.Variable)):
        return tf.math.log(value)
    return math.log(value) if value > 0 else -math.inf


def power(base: Scalar, exponent: tf.Tensor) -> tf.Tensor:
    """base^exponent, in the exponent's dtype, for 0 <= base.

    By exp and log: on XLA's CPU backend `tf.pow` is a library call for each lane; exp is vectorised.
    """
    return tf.exp(exponent * cast(log(base), exponent.dtype))


def bias_correction(beta: Scalar, t: tf.Tensor) -> tf.Tensor:
    """1 - beta^t, the weight that a running mean started at zero has gathered after t steps.

    With h = tanh(-t log(beta) / 2) it is 2 h / (1 + h). A subtraction in float32 would lose four of seven
    digits of 1 - 0.999^1; this form and expm1 are both within 3 units in the last place, and tanh is the one
    that XLA vectorises on CPU: a compiled Adam step over lanes takes a quarter less time with it.

    Args:
        beta: decay of the running mean, 0 <= beta < 1.
        t: updates done, this one counted, from 1: a scalar in the dtype of the arithmetic.
    """
    h = tf.tanh(t * cast(-0.5 * log(beta), t.dtype))
    return 2 * h / (1 + h)
