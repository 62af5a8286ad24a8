"""Interquartile mean and probability of improvement, against rliable and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import rliable.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from harness.metrics import pooled

FINITE = st.integers(-5, 5).map(float)  # many ties
TABLES = hnp.arrays(float, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6), elements=FINITE)


@pytest.mark.parametrize(
    ("values", "expected"), [([[1, 2], [2, 2], [1, 1], [2, 1]], 1.5), ([[1, 1], [2, 2], [3, 3]], 2.0)]
)
def test_interquartile_mean_of_rliables_vectors(values, expected):
    assert pooled.interquartile_mean(np.ravel(values)) == expected


@given(TABLES)
def test_interquartile_mean_is_rliables_and_scipys(values):
    found = pooled.interquartile_mean(values.ravel())
    assert found == pytest.approx(rliable.metrics.aggregate_iqm(values))
    assert found == pytest.approx(stats.trim_mean(values, 0.25, axis=None))
    assert values.min() <= found <= values.max()


def test_interquartile_mean_of_failures():
    assert pooled.interquartile_mean(np.array([1.0, 1, 1, np.inf])) == 1, "a quarter may fail"
    assert pooled.interquartile_mean(np.array([1.0, 1, np.inf, np.inf])) == np.inf
    assert np.isnan(pooled.interquartile_mean(np.empty(0)))
    with pytest.raises(ValueError, match="leave missing runs out"):
        pooled.interquartile_mean(np.array([np.nan]))


def test_the_stratified_interval_keeps_workloads_apart():
    """Two workloads without spread: nothing varies, though the pooled values do."""
    low, high = pooled.interquartile_mean_interval([np.ones(4), np.full(4, 3.0)], np.random.default_rng(0))
    assert low == high == 2.0
    low, high = pooled.interquartile_mean_interval(
        [np.array([1.0]), np.array([2.0])], np.random.default_rng(0)
    )
    assert np.isnan(low)
    assert np.isnan(high)


def test_the_stratified_interval_ignores_the_order_of_runs():
    values = [np.arange(9.0), np.array([5.0, 1.0, 7.0])]
    one = pooled.interquartile_mean_interval(values, np.random.default_rng(0))
    other = pooled.interquartile_mean_interval([v[::-1] for v in values], np.random.default_rng(0))
    assert one == other


@given(TABLES, st.integers(0, 99))
def test_probability_of_improvement_is_rliables(x, seed):
    y = np.random.default_rng(seed).integers(-5, 6, (4, x.shape[1])).astype(float)
    found = pooled.probability_of_improvement(list(x.T), list(y.T))
    assert found == pytest.approx(rliable.metrics.probability_of_improvement(-x, -y))
    assert found == pytest.approx(1 - pooled.probability_of_improvement(list(y.T), list(x.T)))


def test_probability_of_improvement_is_mann_whitneys():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=8), generator.normal(0.5, 1, 11)
    u = stats.mannwhitneyu(x, y).statistic
    assert pooled.probability_of_improvement([x], [y]) == pytest.approx(1 - u / 88)


def test_wins():
    x = np.array([1.0, 2, np.inf, np.inf, np.nan])
    y = np.array([2.0, 2, np.inf, 1, 1])
    np.testing.assert_array_equal(pooled.wins(x, y), [1, 0.5, 0.5, 0, np.nan])


def test_pairing_sees_what_independent_runs_hide():
    x = np.arange(10.0)
    assert pooled.paired_improvement([x], [x + 0.1]) == 1
    assert pooled.probability_of_improvement([x], [x + 0.1]) == 0.55
    low, high = pooled.improvement_interval([x], [x + 0.1], np.random.default_rng(0), paired=True)
    assert low == high == 1
    low, high = pooled.improvement_interval([x], [x + 0.1], np.random.default_rng(0))
    assert low < 0.5 < high


def test_improvement_interval_of_single_runs():
    assert np.isnan(pooled.improvement_interval([np.ones(1)], [np.ones(1)], np.random.default_rng(0))).all()
    assert np.isnan(pooled.probability_of_improvement([], []))
