"""Learning rates: usable width, edges, tunability; the cross-fitted choice of a rate."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.metrics import choice, rates

GRID = np.array([1e-3, 1e-2, 1e-1, 1.0])


@given(hnp.arrays(float, st.integers(1, 6), elements=st.integers(-9, 9).map(float)))
def test_expected_best_is_the_mean_over_all_draws(values):
    n = len(values)
    expected = [np.mean([min(draw) for draw in combinations(values, k)]) for k in range(1, n + 1)]
    np.testing.assert_allclose(rates.expected_best(values), expected, rtol=1e-12, atol=1e-12)


def test_expected_best_by_its_formula():
    values = np.sort(np.random.default_rng(0).normal(size=40))
    for k in (1, 7, 40):
        formula = sum(v * comb(40 - i, k - 1) for i, v in enumerate(values, 1)) / comb(40, k)
        assert rates.expected_best(values)[k - 1] == pytest.approx(formula, rel=1e-10)
    assert rates.expected_best(values)[0] == pytest.approx(values.mean())
    assert rates.expected_best(values)[-1] == pytest.approx(values.min())


def test_expected_best_with_failures():
    found = rates.expected_best(np.array([np.inf, 1.0, 3.0]))
    assert found[0] == np.inf
    assert found[1] == pytest.approx((1 + 1 + 3) / 3), "two draws cannot both be the one that fails"
    assert found[2] == 1
    assert rates.expected_best(np.array([np.inf, np.inf])).tolist() == [np.inf, np.inf]


@given(st.integers(1, 6), st.data())
def test_chance_of_usable_is_counted_out(count, data):
    usable = data.draw(st.integers(0, count))
    draws = np.arange(1, count + 2)
    found = rates.chance_of_usable(usable, count, draws)
    for k in draws[:-1]:
        hits = [min(draw) < usable for draw in combinations(range(count), k)]
        assert found[k - 1] == pytest.approx(np.mean(hits))
    assert np.isnan(found[-1]), "more draws than rates"


def test_usable_rates():
    gaps = np.array([8.0, 1.0, 2.0, np.inf])
    hits = np.array([0.0, 0.1, 0.0, 0.5])
    assert rates.usable_rates(gaps, hits).tolist() == [False, True, True, True]
    assert rates.usable_rates(np.full(2, np.inf), np.zeros(2)).tolist() == [False, False]
    assert rates.usable_rates(np.array([np.nan, 1.0]), np.zeros(2)).tolist() == [False, True]


def test_the_stretch_is_unbroken_around_the_best():
    usable = np.array([True, False, True, True, False, True])
    assert rates.usable_stretch(usable, np.array(3)) == (2, 3)
    assert rates.usable_stretch(usable, np.array(0)) == (0, 0)
    assert rates.usable_stretch(usable, np.array(1)) == (-1, -1)
    assert rates.usable_stretch(usable, np.array(-1)) == (-1, -1)
    assert rates.usable_stretch(np.ones(6, bool), np.array(2)) == (0, 5)


@given(hnp.arrays(bool, (4, 6)), hnp.arrays(int, 4, elements=st.integers(0, 5)))
def test_the_stretch_by_walking(usable, best):
    first, last = rates.usable_stretch(usable, best)
    for row, b, f, t in zip(usable, best, first, last, strict=True):
        low = high = b
        while low > 0 and row[low - 1]:
            low -= 1
        while high < 5 and row[high + 1]:
            high += 1
        assert (f, t) == ((low, high) if row[b] else (-1, -1))


def test_width_edges_and_divergence():
    assert rates.width_in_decades(GRID, np.array(0), np.array(2)) == pytest.approx(2)
    assert rates.width_in_decades(GRID, np.array(1), np.array(1)) == 0
    assert np.isnan(rates.width_in_decades(GRID, np.array(-1), np.array(-1)))
    assert rates.lowest_diverging(GRID, [0, 0.4, 0.5, 1]) == 1e-1
    assert rates.lowest_diverging(GRID, np.zeros(4)) == np.inf
    assert [rates.edge(b, 3) for b in range(3)] == ["lowest", "", "highest"]
    assert rates.edge(0, 1) == "only"


def test_no_gain_from_noise_alone():
    """40 equal rates: the best looks better than it is; the figure from the seeds that did not choose does
    not. Over 300 studies the mean is 0 within three standard errors."""
    values = np.random.default_rng(0).normal(size=(300, 40, 10))
    chosen = choice.cross_fit(choice.by_median(values), 10)
    held_out = choice.at_choice(values, chosen).mean(1)
    same_seeds = np.median(np.take_along_axis(values, chosen.everything[:, None, None], 1)[:, 0], -1)
    assert abs(held_out.mean()) < 3 * held_out.std() / np.sqrt(300)
    assert same_seeds.mean() < -0.6


def test_a_planted_best_rate_is_found():
    steps = 100.0 * 10 ** np.abs(np.arange(9) - 5)[:, None] + np.arange(10)
    chosen = choice.cross_fit(choice.by_running_time(steps, np.full((9, 10), 1e9), steps), 10)
    assert chosen.everything == 5
    assert (chosen.per_seed == 5).all()
    assert chosen.crossed
    np.testing.assert_array_equal(choice.at_choice(steps, chosen), steps[5])


def test_a_rate_that_hits_beats_one_with_a_lower_loss():
    inf = np.inf
    steps = np.array([[inf, inf, inf, inf], [90.0, 95.0, inf, inf]])
    loss = np.array([[0.1] * 4, [0.2] * 4])
    assert choice.by_running_time(steps, np.full((2, 4), 100.0), loss)(np.ones(4, bool)) == 1
    lucky = np.array([[inf, inf, inf, inf], [90.0, inf, inf, inf]])  # one hit of four is luck, not a rate
    missed = np.full((2, 4), inf)
    for rarely in (lucky, missed):
        assert choice.by_running_time(rarely, np.full((2, 4), 100.0), loss)(np.ones(4, bool)) == 0


def test_ties_go_to_the_lower_rate():
    assert choice.by_median(np.ones((4, 3)))(np.ones(3, bool)) == 0


def test_a_choice_that_cannot_be_made():
    failed = choice.cross_fit(choice.by_median(np.full((3, 4), np.inf)), 4)
    assert failed.everything == -1
    assert not failed.crossed
    assert np.isnan(choice.at_choice(np.full((3, 4), np.inf), failed)).all()
    one = choice.cross_fit(choice.by_median(np.array([[2.0], [1.0]])), 1)
    assert (one.everything, one.per_seed.tolist(), one.crossed) == (1, [1], False)
    half = np.array([[1.0, np.nan, 2.0, np.nan]])  # the second half of the seeds has no runs
    assert choice.cross_fit(choice.by_median(half), 4).per_seed.tolist() == [0, 0, 0, 0]


def test_no_seed_is_reported_at_a_rate_that_it_chose():
    """Change one seed: the rate that it is reported at does not change."""
    values = np.random.default_rng(0).normal(size=(6, 8))
    before = choice.cross_fit(choice.by_median(values), 8).per_seed
    for seed in range(8):
        values[:, seed] = np.random.default_rng(seed).normal(size=6) * 100
        after = choice.cross_fit(choice.by_median(values), 8).per_seed
        assert after[seed] == before[seed]
        before = after
