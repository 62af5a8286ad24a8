"""Where runs start: against scipy, and each seed looked at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize

from harness.runtime import tensorflow

tf = tensorflow()

from harness.starts import StartingPoints  # noqa: E402


class Noisy:
    """Rosenbrock's function from a point of each seed's own; its loss is a seed's constant above it."""

    target_metric = "loss"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def init(self, seed: int) -> dict[str, Any]:
        self.asked.append(seed)
        return {"x": np.array([0.5 * seed, -1.0, 2.0])}

    def batch(self, seed: Any, step: Any) -> Any:
        return tf.cast(seed, tf.float64) * 10

    def loss(self, params: Any, batch: Any) -> Any:
        return self.objective(params) + batch

    def objective(self, params: Any) -> Any:
        x = params["x"]
        return tf.reduce_sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_values_losses_and_gradients_of_seeds() -> None:
    workload = Noisy()
    points = StartingPoints(workload, tf.float64)
    found = points.of([3, 1], lambda value: np.array([value / 2, value / 4]))
    at = [np.array([1.5, -1.0, 2.0]), np.array([0.5, -1.0, 2.0])]
    np.testing.assert_array_equal(found.params["x"], at)
    values = np.array([scipy.optimize.rosen(x) for x in at])
    np.testing.assert_allclose(found.values, values, rtol=1e-14)
    np.testing.assert_allclose(found.losses, values + np.array([30, 10]), rtol=1e-14)
    slopes = [np.linalg.norm(scipy.optimize.rosen_der(x)) for x in at]
    np.testing.assert_allclose(found.gradients, slopes, rtol=1e-14)
    np.testing.assert_allclose(found.targets, [values / 2, values / 4], rtol=1e-14)


def test_a_seed_is_looked_at_once() -> None:
    workload = Noisy()
    points = StartingPoints(workload, tf.float64)
    assert not points.knows([3])
    points.of([3, 1], lambda value: np.array([value]))
    assert points.knows([1, 3]) and not points.knows([1, 2])
    points.of([1, 2, 3], lambda value: np.array([value]))
    assert workload.asked == [3, 1, 2]


class Measured(Noisy):
    target_metric = "distance"

    def monitor(self, params: Any) -> dict[str, Any]:
        return {"distance": tf.norm(params["x"])}


def test_a_target_on_a_metric_is_compared_with_the_metric() -> None:
    found = StartingPoints(Measured(), tf.float64).of([0], lambda value: np.array([value]))
    assert found.values[0] == pytest.approx(np.sqrt(5))
    assert found.losses[0] == pytest.approx(scipy.optimize.rosen([0.0, -1.0, 2.0]))


class Mean(Noisy):
    def batch(self, seed: Any, step: Any) -> Any:
        return tf.range(7.0, dtype=tf.float64)

    def loss(self, params: Any, batch: Any) -> Any:
        return tf.reduce_mean(batch * tf.reduce_sum(params["x"] ** 2))


def test_a_batch_in_parts_of_which_some_examples_are_not_used() -> None:
    points = StartingPoints(Mean(), tf.float64, [(0, 4, 2 / 3), (4, 2, 1 / 3)])
    found = points.of([2], lambda value: np.array([value]))
    x, mean = np.array([1.0, -1.0, 2.0]), np.mean(range(6))
    assert found.losses[0] == pytest.approx(mean * x @ x, rel=1e-14)
    assert found.gradients[0] == pytest.approx(np.linalg.norm(2 * mean * x), rel=1e-14)
