"""Values that are known while tracing, against what TensorFlow comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from harness import static


def traced(fn: Callable[..., Any]) -> Any:
    """The values of a list of tensors of a graph, [2] int32 being given."""
    found: list[Any] = []
    tf.function(lambda given: found.extend(map(static.value, fn(given))), autograph=False)(
        tf.constant([1, 2])
    )
    return found


def test_whole_numbers_that_tensorflow_does_not_look_for() -> None:
    def summed_over(_: Any) -> list[Any]:
        shape, begin, end, strides = (tf.constant(x) for x in ([4, 8, 16], [0], [-2], [1]))
        cut = tf.raw_ops.StridedSlice(input=shape, begin=begin, end=end, strides=strides)
        over = tf.raw_ops.BroadcastGradientArgs(s0=cut, s1=tf.constant([1]))[1]
        assert tf.get_static_value(over) is None
        return [over, tf.concat([over, [2, 1]], 0)]

    over, more = traced(summed_over)
    np.testing.assert_array_equal(over, [0])
    np.testing.assert_array_equal(more, [0, 2, 1])


def test_what_depends_on_what_is_given_is_not_known() -> None:
    def unknown(given: Any) -> list[Any]:
        drawn = tf.random.uniform([2], maxval=9, dtype=tf.int32)
        return [given, given * 2, tf.concat([given, [1]], 0), drawn + 1, tf.sin(tf.constant([0.5]))]

    assert traced(unknown) == [None] * 5


def test_each_operation_is_made_once() -> None:
    def doubled(_: Any) -> list[Any]:
        number = tf.raw_ops.BroadcastGradientArgs(s0=tf.constant([2, 3]), s1=tf.constant([3]))[1]
        for _ in range(60):  # in 2**60 steps, if not
            number = number + number
        return [number]

    np.testing.assert_array_equal(traced(doubled)[0], [0])
