"""Success rate, ERT, first hits and runtime distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from harness.metrics import runtime, success

from .references import cocopp_toolsstats

TIMES = hnp.arrays(float, st.integers(1, 12), elements=st.integers(1, 900).map(float) | st.just(np.inf))


@pytest.mark.parametrize("runs", [1, 2, 5, 10, 100])
def test_wilson_is_scipys(runs):
    hits = np.arange(runs + 1)
    low, high = success.wilson_interval(hits, np.full(runs + 1, runs))
    expected = [stats.binomtest(int(k), runs).proportion_ci(method="wilson") for k in hits]
    np.testing.assert_allclose(low, [e.low for e in expected], atol=1e-12)
    np.testing.assert_allclose(high, [e.high for e in expected], atol=1e-12)
    assert low[0] == 0
    assert high[-1] == 1


def test_no_runs_have_no_rate():
    assert np.isnan(success.success_rate(0, 0))
    assert np.isnan(success.wilson_interval(0, 0)).all()


def test_running_time_by_hand():
    assert success.expected_running_time([100, 200, 300, np.inf], np.full(4, 1000)) == pytest.approx(1600 / 3)
    assert success.expected_running_time([np.inf, np.inf], np.full(2, 10)) == np.inf
    assert np.isnan(success.expected_running_time([np.nan], [10]))
    assert success.expected_running_time([5, np.nan], [10, 10]) == 5, "no such run: nothing spent"


@given(TIMES)
def test_running_time_is_cocos(times):
    hit = np.isfinite(times)
    spent = np.where(hit, times, 1000.0)
    expected, share, n = cocopp_toolsstats().sp(spent, issuccessful=hit)
    assert success.expected_running_time(times, np.full(len(times), 1000.0)) == pytest.approx(expected)
    assert success.success_rate(hit.sum(), len(times)) == pytest.approx(share)
    assert n == hit.sum()


def test_running_time_interval_is_that_of_resampled_runs():
    times, budgets = np.array([100.0, 200, 300, np.inf]), np.full(4, 1000.0)
    low, high = success.running_time_interval(times, budgets, np.random.default_rng(3), 200)
    picked = np.random.default_rng(3).integers(0, 4, (200, 4))
    drawn = np.sort(success.expected_running_time(times[picked], budgets[picked]))
    np.testing.assert_allclose([low, high], [drawn[5], drawn[-6]], rtol=1e-12)
    assert high == np.inf or high > low


def test_first_hit_and_first_stay():
    values = np.array([3.0, 1.0, 2.0, 0.5, np.nan, 0.4, 0.3])
    assert runtime.first_hit(values, 1.0) == 1
    assert runtime.first_stay(values, 1.0) == 5, "NaN is outside"
    assert runtime.first_hit(values, 0.1) == np.inf
    assert runtime.first_stay(values, 0.3) == 6
    assert runtime.first_stay(np.array([0.0, 9.0]), 1.0) == np.inf
    assert runtime.first_stay(np.zeros(3), 1.0) == 0


@given(hnp.arrays(float, (3, 12), elements=st.floats(-2, 2)), st.floats(-1, 1))
def test_staying_is_hitting_for_good(values, target):
    hit, stay = runtime.first_hit(values, target), runtime.first_stay(values, target)
    assert (hit <= stay).all()
    for row, t in zip(values, stay, strict=True):
        inside = row <= target
        assert t == np.inf or inside[int(t) :].all()
        assert t == (np.inf if not inside[-1] else 0) or not inside[: 12 if t == np.inf else int(t)].all()


def test_a_test_of_convergence_at_one_step_says_little():
    """A heavy ball passes a convergence test at its first hit and fails it in most of the next 200 steps."""
    x, v, losses = 1.0, 0.0, []
    for _ in range(3000):
        losses.append(x * x)
        v = 0.99 * v - 0.05 * x
        x += v
    hit, stay = (int(f(np.array(losses), 0.05)) for f in (runtime.first_hit, runtime.first_stay))
    outside = np.mean(np.array(losses)[hit + 1 : hit + 201] > 0.05)
    assert losses[hit] <= 0.05
    assert 0.5 <= outside <= 0.9
    assert stay > hit + 100


def test_ecdf_by_hand():
    times = [[1, 5], [np.inf, 5]]
    np.testing.assert_array_equal(runtime.runtime_ecdf(times, [0, 1, 4, 5, 99]), [0, 0.25, 0.25, 0.75, 0.75])
    assert np.isnan(runtime.runtime_ecdf([np.nan], [1])).all()


@given(TIMES, hnp.arrays(float, 5, elements=st.floats(0, 1000)))
def test_ecdf_laws(times, budgets):
    budgets = np.sort(budgets)
    share = runtime.runtime_ecdf(times, budgets)
    assert ((share >= 0) & (share <= 1)).all()
    assert (np.diff(share) >= 0).all()
    np.testing.assert_array_equal(runtime.runtime_ecdf(times[::-1], budgets), share)
    np.testing.assert_allclose(share, [(times <= b).mean() for b in budgets])
