"""Medians and quantiles with failures, and the batched bootstrap, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.metrics import bootstrap, order

VALUES = st.floats(-1e6, 1e6) | st.just(np.inf)


def groups(low: int = 1) -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=low, max_side=7)
    return hnp.arrays(float, shapes, elements=VALUES)


@given(hnp.arrays(float, st.integers(1, 9), elements=st.floats(-1e6, 1e6)), st.floats(0, 1))
def test_quantile_is_numpys_where_nothing_fails(values, q):
    np.testing.assert_allclose(order.quantile(values, q), np.quantile(values, q), rtol=1e-12, atol=1e-9)


@given(hnp.arrays(float, st.integers(1, 9), elements=VALUES), st.integers(0, 4), st.floats(0, 1))
def test_missing_runs_change_nothing(values, missing, q):
    padded = np.append(values, np.full(missing, np.nan))
    np.testing.assert_array_equal(order.quantile(padded, q), order.quantile(values, q))


def test_failures_are_the_worst_values():
    assert order.median(np.array([1.0, 2.0, np.inf])) == 2.0
    assert order.median(np.array([1.0, np.inf, np.inf])) == np.inf
    assert order.median(np.array([1.0, np.inf])) == np.inf, "half of the runs failed"
    assert np.isnan(order.median(np.array([np.nan, np.nan])))
    assert np.isnan(order.median(np.empty(0)))


def test_blend_never_makes_nan():
    ends = np.array([-np.inf, -1.0, 0.0, 2.0, np.inf])
    lower, upper = np.meshgrid(ends, ends)
    keep = lower <= upper
    for fraction in (0.0, 0.25, 0.5):
        out = order.blend(lower[keep], upper[keep], fraction)
        assert not np.isnan(out).any()
        assert (out >= lower[keep]).all()
        assert (out <= upper[keep]).all()


def test_mean_leaves_missing_runs_out():
    np.testing.assert_array_equal(order.mean(np.array([[1.0, np.nan, 3.0], [np.nan] * 3])), [2.0, np.nan])


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_by_count_finds_every_run_once(present):
    found = np.zeros_like(present)
    for n, rows, columns in order.by_count(present):
        assert (present[rows].sum(1) == n).all()
        assert (np.diff(columns, axis=1) > 0).all(), "runs stay in their order"
        found[rows[:, None], columns] = True
    np.testing.assert_array_equal(found, present)


@given(groups(), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.integers(0, 99))
def test_quantile_replicates_are_those_of_sorted_resamples(values, q, seed):
    picked = bootstrap.picks(values.shape[1], np.random.default_rng(seed), 20)
    expected = order.quantile(values[:, picked], q)
    np.testing.assert_array_equal(bootstrap.quantile_replicates(values, picked, q), expected)


def test_quantile_replicates_of_many_runs():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(3, 300))  # more runs than an int8 counts
    picked = bootstrap.picks(300, generator, 50)
    expected = np.median(values[:, picked], axis=-1)
    np.testing.assert_allclose(bootstrap.quantile_replicates(values, picked), expected, rtol=1e-12)


def test_weights_count_the_picks():
    picked = np.array([[0, 0, 2], [1, 1, 1]])
    np.testing.assert_array_equal(bootstrap.weights(picked), [[2, 0, 1], [0, 3, 0]])


def test_percentile_interval_takes_order_statistics():
    replicates = np.random.default_rng(0).permutation(1000).astype(float)
    assert bootstrap.percentile_interval(replicates) == (25.0, 974.0)
    assert bootstrap.percentile_interval(replicates, 0.5) == (250.0, 749.0)


def test_the_interval_of_a_median_covers_it():
    """Normal runs: the bootstrap's 95 % is 90 to 97 % for 10 seeds (it is approximate at small n)."""
    values = np.random.default_rng(1).normal(size=(2000, 10))
    low, high = bootstrap.quantile_interval(values, np.random.default_rng(2))
    assert 0.90 < np.mean((low <= 0) & (high >= 0)) < 0.97


@pytest.mark.parametrize("runs", [0, 1])
def test_one_run_has_no_interval(runs):
    values = np.where(np.arange(3) < runs, 1.0, np.nan)
    low, high = bootstrap.quantile_interval(values, np.random.default_rng(0))
    assert np.isnan(low)
    assert np.isnan(high)


@given(groups(2), st.randoms(use_true_random=False))
def test_the_order_of_groups_does_not_matter(values, random):
    order_ = list(range(len(values)))
    random.shuffle(order_)
    low, high = bootstrap.quantile_interval(values, np.random.default_rng(0), resamples=50)
    again = bootstrap.quantile_interval(values[order_], np.random.default_rng(0), resamples=50)
    np.testing.assert_array_equal(again, (low[order_], high[order_]))
