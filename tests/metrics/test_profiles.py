"""Performance profiles and the AlgoPerf score, against the published competition results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.metrics import profiles

TABLE = Path(__file__).parents[1] / "data" / "algoperf_times.csv"
SCORED = 8
TIMES = hnp.arrays(
    float,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(1, 1e4) | st.just(np.inf) | st.just(np.nan),
)


def published() -> tuple[np.ndarray, list[int | None], np.ndarray]:
    """(times, base of each column, published scores)."""
    frame = pd.read_csv(TABLE)
    names = [c for c in frame.columns if c not in ("submission", "published_score")]
    scored = names[:SCORED]
    base = [None] * SCORED
    base += [max((s for s in scored if n.startswith(s)), key=len) for n in names[SCORED:]]
    places = [None if b is None else scored.index(b) for b in base]
    return frame[names].to_numpy(float), places, frame["published_score"].to_numpy(float)


def test_algoperfs_published_scores_exactly_integrated():
    """To 0.0015, in the four decimals that were published: what 100 points leave of a staircase."""
    times, base, scores = published()
    apart = np.abs(profiles.profile_score(profiles.algoperf_ratios(times, base)) - scores)
    assert np.round(apart, 4).max() <= 0.0015


def test_algoperfs_published_scores_by_their_trapezoid():
    times, base, scores = published()
    found = profiles.profile_score_trapezoid(profiles.algoperf_ratios(times, base))
    np.testing.assert_array_equal(np.round(found, 4), scores)


def test_the_scores_need_every_rule():
    """Without the held-out variants (rules 1 and 3) the table scores otherwise."""
    times, base, scores = published()
    plain = profiles.algoperf_ratios(times[:, :SCORED], base[:SCORED])
    assert np.abs(profiles.profile_score(plain) - scores).max() > 0.05


def test_each_rule_by_hand():
    base = [None, 0]
    inf = np.inf
    ratios = profiles.algoperf_ratios(np.array([[1.0, 1.0], [2.0, 1.0]]), base)
    np.testing.assert_array_equal(ratios, [[1], [2]])
    # (1) missed base: its variant's time, the fastest, no longer counts against the other's
    ratios = profiles.algoperf_ratios(np.array([[inf, 1.0], [2.0, 9.0]]), base)
    np.testing.assert_array_equal(ratios, [[inf], [1]])
    # (2) and (3): over 4 x the fastest on the variant makes its base a miss
    ratios = profiles.algoperf_ratios(np.array([[1.0, 1.0], [2.0, 4.1]]), base)
    np.testing.assert_array_equal(ratios, [[1], [inf]])
    # not submitted is a miss
    ratios = profiles.algoperf_ratios(np.array([[np.nan, 1.0], [2.0, 4.0]]), base)
    np.testing.assert_array_equal(ratios, [[inf], [1]])


def test_profile_by_hand():
    ratios = profiles.performance_ratios(np.array([[10.0, 20, np.inf], [20.0, 10, np.nan]]))
    np.testing.assert_array_equal(ratios, [[1, 2, np.inf], [2, 1, np.inf]])
    share = profiles.performance_profile(ratios, [1.0, 1.9, 2.0])
    np.testing.assert_allclose(share, [[1 / 3, 1 / 3, 2 / 3], [1 / 3, 1 / 3, 2 / 3]])
    np.testing.assert_allclose(profiles.profile_score(ratios), [(1 + 2 / 3) / 3] * 2)


def test_a_target_that_holds_at_the_start():
    ratios = profiles.performance_ratios(np.array([[0.0], [0.0], [3.0]]))
    np.testing.assert_array_equal(ratios[:, 0], [1, 1, np.inf])


@given(TIMES)
def test_profile_laws(times):
    ratios = profiles.performance_ratios(times)
    hit = np.isfinite(times)
    assert (ratios >= 1).all()
    np.testing.assert_array_equal(np.isfinite(ratios), hit)
    assert (ratios.min(0)[hit.any(0)] == 1).all(), "somebody is the fastest"
    score = profiles.profile_score(ratios)
    assert ((score >= 0) & (score <= 1)).all()
    taus = np.linspace(1, 4, 4001)
    integral = np.trapezoid(profiles.performance_profile(ratios, taus), taus) / 3
    np.testing.assert_allclose(score, integral, atol=5e-4)
    np.testing.assert_allclose(profiles.profile_score(ratios[:, ::-1]), score)
    np.testing.assert_allclose(profiles.performance_ratios(2 * times), ratios)


def test_study_times():
    times = np.array([[5.0, 3.0], [np.inf, np.nan], [np.inf, 9.0]])
    assert profiles.study_times(times) == 9
    assert profiles.study_times(times[:2]) == np.inf
    assert np.isnan(profiles.study_times(np.full((2, 2), np.nan)))


def test_speed_up_is_a_geometric_mean_over_what_both_hit():
    value, n = profiles.speed_up([100, 100, np.inf], [50, 200, 10])
    assert value == pytest.approx(1.0)
    assert n == 2
    value, n = profiles.speed_up([np.inf], [1])
    assert np.isnan(value)
    assert n == 0
