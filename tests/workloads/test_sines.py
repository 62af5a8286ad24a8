"""Sines of multiples of pi, beside numpy's in float64."""

from __future__ import annotations

import numpy as np
import pytest

from harness.runtime import tensorflow

tf = tensorflow()

from workloads._sines import sin_pi  # noqa: E402

ULP = float(np.finfo(np.float32).eps)


def both(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """sin(pi x) and its derivative."""
    given = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = sin_pi(given)
    return value.numpy(), tape.gradient(value, given).numpy()


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 2 * ULP), (np.float64, 1e-14)])
def test_beside_numpy(dtype: type, error: float) -> None:
    x = np.linspace(-5.12, 5.12, 20_001).astype(dtype)
    value, slope = both(x)
    exact = np.pi * (x.astype(np.float64) - 2 * np.round(x.astype(np.float64) / 2))
    np.testing.assert_allclose(value, np.sin(exact), rtol=0, atol=error)
    np.testing.assert_allclose(slope, np.pi * np.cos(exact), rtol=0, atol=np.pi * error)


def test_relative_error_near_zero() -> None:
    x = np.geomspace(1e-30, 0.25, 1001).astype(np.float32)
    np.testing.assert_allclose(both(x)[0], np.sin(np.pi * x.astype(np.float64)), rtol=4 * ULP)


def test_whole_numbers_and_beyond() -> None:
    value, slope = both(np.array([-3, -2, 0, 1, 2, 1e7, 1e30], np.float32))
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_allclose(slope / np.pi, [-1, 1, 1, -1, 1, 1, 1], rtol=2 * ULP)
    value, slope = both(np.array([np.inf, -np.inf, np.nan], np.float32))
    assert np.isnan(value).all() and np.isnan(slope).all()
