"""Initialisation sensitivity and parameter stability, on made data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.metrics import bootstrap, spread
from harness.metrics.stability import stability, straightness


def test_log_spread():
    gaps = 10.0 ** np.array([[-4, -3, -2, -1, 0], [-2, -2, -2, -2, -2]])
    np.testing.assert_allclose(spread.log_spread(gaps), [2, 0])
    assert spread.log_spread(np.array([1.0, 1, np.inf, np.inf])) == np.inf
    assert np.isnan(spread.log_spread(np.array([1.0, np.inf, np.inf, np.inf, np.inf])))
    assert spread.log_spread(np.array([0.0, 1e-30, 1e-20])) == 0, "all zero for practical purposes"


def planted(seed: float, optimizer: float, rate: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """[settings, seeds] of 4 optimizers x 6 rates x 30 seeds with given standard deviations."""
    generator = np.random.default_rng(0)

    def effect(size: int, sd: float) -> np.ndarray:
        values = generator.normal(size=size)
        return sd * (values - values.mean()) / values.std()

    owner = np.repeat(np.arange(4), 6)
    nested = np.concatenate([effect(6, rate) for _ in range(4)])
    values = effect(4, optimizer)[owner][:, None] + nested[:, None] + effect(30, seed)[None, :]
    return values + noise * generator.normal(size=values.shape), owner


def test_variance_parts_of_a_planted_model():
    values, owner = planted(seed=1.0, optimizer=2.0, rate=3.0, noise=0.0)
    np.testing.assert_allclose(spread.variance_parts(values, owner), [1 / 14, 4 / 14, 9 / 14, 0], atol=1e-12)


def test_variance_parts_with_noise():
    values, owner = planted(seed=1.0, optimizer=2.0, rate=3.0, noise=4.0)
    np.testing.assert_allclose(spread.variance_parts(values, owner), np.array([1, 4, 9, 16]) / 30, atol=0.06)


def test_nothing_varies_and_nothing_fails_silently():
    assert np.isnan(spread.variance_parts(np.ones((3, 4)), np.zeros(3))).all()
    with pytest.raises(ValueError, match="rank them first"):
        spread.variance_parts(np.array([[np.inf, 1.0]]), np.zeros(1))


@given(hnp.arrays(float, (5, 4), elements=st.integers(-9, 9).map(float)), st.permutations(range(5)))
def test_variance_parts_laws(values, order):
    owner = np.array([0, 0, 1, 1, 1])
    parts = np.array(spread.variance_parts(values, owner))
    if values.std() == 0:
        return
    assert parts.sum() == pytest.approx(1)
    assert (parts > -1e-9).all()
    np.testing.assert_allclose(spread.variance_parts(values[order], owner[order]), parts, atol=1e-9)
    np.testing.assert_allclose(spread.variance_parts(3 * values + 7, owner), parts, atol=1e-9)


def test_resampled_parts_are_those_of_the_resampled_table():
    values, owner = planted(1.0, 2.0, 3.0, 1.0)
    picked = bootstrap.picks(30, np.random.default_rng(0), 5)
    found = spread.weighted_parts(values, owner, bootstrap.weights(picked))
    for k in range(5):
        np.testing.assert_allclose(found[:, k], spread.variance_parts(values[:, picked[k]], owner), atol=1e-9)


def test_ranks_tie_the_failures():
    ranks = spread.ranks(np.array([[3.0, np.inf], [1.0, np.inf]]))
    np.testing.assert_array_equal(ranks, [[2, 3.5], [1, 3.5]])


def test_a_straight_line():
    found = stability(np.linspace(0, 1, 101)[:, None] * np.array([3.0, 4.0]))
    assert found.path_length == pytest.approx(5)
    assert found.displacement == pytest.approx(5)
    assert found.straightness == pytest.approx(1)
    assert found.turn_backs == 0
    assert found.tail_std == pytest.approx(np.sqrt((9 + 16) / 2) * np.arange(11).std() / 100)


def test_a_circle():
    angle = np.linspace(0, 2 * np.pi, 101)
    found = stability(np.stack([np.cos(angle), np.sin(angle)], -1))
    assert found.path_length == pytest.approx(200 * np.sin(np.pi / 100))
    assert found.displacement == pytest.approx(0, abs=1e-12)
    assert found.straightness == pytest.approx(0, abs=1e-12)
    assert found.turn_backs == 0


def test_a_zig_zag():
    x = np.tile([0.0, 1.0], 50)
    found = stability(np.stack([x, np.arange(100) * 0.1], -1))
    assert found.turn_backs == 1, "1 x -1 + 0.1 x 0.1 is negative"
    assert found.path_length == pytest.approx(99 * np.sqrt(1.01))
    assert found.straightness < 0.2
    gentle = stability(np.stack([x, np.arange(100) * 2.0], -1))
    assert gentle.turn_backs == 0


def test_a_run_that_does_not_move_and_one_without_updates():
    still = stability(np.ones((11, 3)))
    assert (still.path_length, still.turn_backs, still.tail_std) == (0, 0, 0)
    assert np.isnan(still.straightness)
    assert np.isnan(stability(np.ones((1, 3))).turn_backs)
    np.testing.assert_array_equal(straightness(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan])


@given(hnp.arrays(float, (12, 3), elements=st.floats(-5, 5)))
def test_stability_laws(points):
    found = stability(points)
    assert found.displacement <= found.path_length + 1e-9
    assert 0 <= found.turn_backs <= 1
    shifted = stability(points + 100.0)
    np.testing.assert_allclose(shifted.path_length, found.path_length, atol=1e-9)
    np.testing.assert_allclose(stability(points[::-1]).path_length, found.path_length, atol=1e-9)
