"""What the schedules share: time as a share of the budget, and the scaled learning rate."""

import math

import tensorflow as tf

from .._scalars import cast
from .._tree import scalar_dtype
from .._types import Scalar, Structure


def budget(steps: int | None, name: str) -> int:
    """The number of updates a schedule spans, or an error that says how to give it."""
    if steps is None:
        raise ValueError(
            f"{name} has no `steps`, the number of updates it spans; a study fills in its budget, "
            f"elsewhere give it: {name}(..., steps=1000)."
        )
    if steps < 1:
        raise ValueError(f"{name} needs `steps` of at least 1, got {steps}.")
    return steps


def scaled(lr: Scalar, factor: tf.Tensor) -> tf.Tensor:
    """lr · factor, in float64 as a learning rate that arrives as a tensor."""
    return cast(lr, tf.float64) * tf.cast(factor, tf.float64)


def time(params: Structure, step: tf.Tensor) -> tf.Tensor:
    """The step in the precision of the schedule's arithmetic: exact to 2^24 steps in float32."""
    return tf.cast(step, scalar_dtype(params))


def ramp(t: tf.Tensor, length: Scalar) -> tf.Tensor:
    """min(t / length, 1): a rise from 0 to 1 over `length` updates, which may be 0."""
    end = cast(length, t.dtype)
    return tf.where(t < end, t / end, tf.ones_like(t))


def half_cosine(progress: tf.Tensor) -> tf.Tensor:
    """(1 + cos(π progress)) / 2 for 0 <= progress <= 1: a fall from 1 to 0.

    As sin²(y) with y = π (1 - progress) / 2, which keeps its digits near 0, by Taylor's series to the last
    place: XLA calls the C library for the cosine of each lane, and a compiled Adam step took twice as long.
    """
    y = (math.pi / 2) * (1 - progress)
    square = y * y
    last = 10 if y.dtype == tf.float64 else 6
    series = tf.ones_like(y)
    # Horner's scheme from the last term: sin(y) = y (1 - y²/(2·3) (1 - y²/(4·5) (1 - ...)))
    for k in range(last, 0, -1):
        series = 1 - square * (1 / (2 * k * (2 * k + 1))) * series
    return tf.square(y * series)
