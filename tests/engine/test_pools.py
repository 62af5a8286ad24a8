"""Maxima and means of windows, of many lanes: against TensorFlow's, a run at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from harness import pools
from harness.lanes_last import Lifting

LANES = 16
WINDOWS: list[tuple[tuple[int, ...], Any, Any, Any]] = [
    ((3, 8, 8, 4), 2, 2, "VALID"),
    ((2, 7, 9, 3), 2, 2, "VALID"),  # a row and a column that are in no window
    ((2, 7, 9, 3), 2, 2, "SAME"),  # windows with one number or two
    ((2, 8, 6, 3), (2, 3), (2, 3), "SAME"),
    ((2, 9, 8, 2), 3, 2, "SAME"),  # windows that overlap
    ((2, 6, 5, 2), 3, 1, "SAME"),
    ((2, 9, 8, 2), 2, 3, "VALID"),  # numbers between windows
]
EXPLICIT = ((2, 6, 7, 3), 2, 2, [[0, 0], [1, 1], [0, 1], [0, 0]])


def numbers(shape: tuple[int, ...], *, tied: bool) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(LANES, *shape))
    return np.round(drawn.clip(0)) if tied else drawn


def pooled(kind: Any, maps: Any, size: Any, stride: Any, padding: Any) -> list[Any]:
    with tf.GradientTape() as tape:
        tape.watch(maps)
        out = kind(maps, size, stride, padding)
        loss = tf.reduce_sum(
            tf.sin(out + tf.cast(tf.reshape(tf.range(tf.size(out)), tf.shape(out)), out.dtype))
        )
    return [out, tape.gradient(loss, maps)]


def lifted(kind: Any, maps: np.ndarray, *how: Any) -> list[np.ndarray]:
    lifting = Lifting(LANES)

    def last(m: Any) -> Any:
        return lifting(lambda x: pooled(kind, x, *how), [m])

    found = tf.function(last, jit_compile=True, autograph=False)(np.moveaxis(maps, 0, -1))
    assert not lifting.foreign
    return [np.moveaxis(value.numpy(), -1, 0) for value in found]


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("kind", [tf.nn.max_pool2d, tf.nn.avg_pool2d], ids=["max", "mean"])
@pytest.mark.parametrize(("shape", "size", "stride", "padding"), WINDOWS)
def test_lanes_are_runs(kind: Any, shape: Any, size: Any, stride: Any, padding: Any, tied: bool) -> None:
    maps, how = numbers(shape, tied=tied), (size, stride, padding)
    found = lifted(kind, maps, *how)
    for lane in range(LANES):
        for value, right in zip(found, pooled(kind, tf.constant(maps[lane]), *how), strict=True):
            np.testing.assert_allclose(value[lane], right, rtol=1e-12, atol=1e-12)


def test_zeros_that_are_asked_for_by_number() -> None:
    shape, *how = EXPLICIT
    maps = numbers(shape, tied=False) - 9  # what is around must not be the maximum
    found = lifted(tf.nn.max_pool2d, maps, *how)
    for lane in range(LANES):
        for value, right in zip(found, pooled(tf.nn.max_pool2d, tf.constant(maps[lane]), *how), strict=True):
            np.testing.assert_allclose(value[lane], right, rtol=1e-12, atol=1e-12)


def test_a_window_with_nan_keeps_it_to_itself() -> None:
    maps = numbers((1, 4, 4, 1), tied=False)
    maps[:, 0, 1, 1] = np.nan
    _, gradient = lifted(tf.nn.max_pool2d, maps, 2, 2, "VALID")
    assert not np.isnan(gradient[:, 0, 2:, 2:]).any() and (gradient[:, 0, 2:, 2:] != 0).any()


def test_windows_over_channels_and_channels_first_are_not_known() -> None:
    with tf.Graph().as_default():
        maps = tf.zeros([2, 4, 4, 6])
        over = tf.raw_ops.MaxPool(input=maps, ksize=[1, 1, 1, 2], strides=[1, 1, 1, 2], padding="VALID")
        first = tf.raw_ops.AvgPool(
            value=maps, ksize=[1, 1, 2, 2], strides=[1, 1, 2, 2], padding="VALID", data_format="NCHW"
        )
        unknown = tf.raw_ops.MaxPool(
            input=tf.compat.v1.placeholder(tf.float32, [None, 4, 4, 6]),
            ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID",
        )  # fmt: skip
        assert [pools.Windows.of(each.op) for each in (over, first, unknown)] == [None] * 3


def test_windows_of_many_numbers_are_left_to_tensorflow() -> None:
    maps, lifting = numbers((1, 20, 20, 1), tied=False), Lifting(LANES)
    last = tf.function(
        lambda m: lifting(lambda x: tf.nn.max_pool2d(x, 20, 1, "VALID"), [m]),
        jit_compile=True,
        autograph=False,
    )
    np.testing.assert_array_equal(np.ravel(last(np.moveaxis(maps, 0, -1))), maps.max((1, 2, 3, 4)))
    assert lifting.foreign
