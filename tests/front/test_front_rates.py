"""Learning rates: ranges, lists, text, rounding."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.rates import decades, log_range, parse_rates

calm = settings(deadline=None)  # a shared machine may pause for longer than any deadline
positive = st.floats(min_value=1e-12, max_value=1e6)


def test_a_range_has_its_ends_and_even_steps_between():
    assert parse_rates("1e-4:1e0:5") == (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    assert parse_rates("1e-4:1e0:9")[1] == 0.000316227766017  # 10^-3.5 to twelve digits
    assert parse_rates("0.1:0.1:1") == (0.1,)


def test_one_grid_written_in_several_ways_is_one_grid():
    ways = [
        "1e-4:1e-2:5",
        {"low": 1e-4, "high": 0.01, "points": 5},
        {"low": 1e-4, "high": 0.01, "points_per_decade": 2},
        {"low": 1e-4, "high": 0.01},
        [1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2],
        "0.0001, 0.000316227766017, 0.001, 0.00316227766017, 0.01",
        ["1e-4", "3.16227766017e-4", "1e-3", "3.16227766017e-3", "1e-2"],
    ]
    assert len({parse_rates(way) for way in ways}) == 1


def test_one_number_is_a_list_of_one():
    assert parse_rates(0.1) == parse_rates("0.1") == parse_rates([0.1]) == (0.1,)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1e-4:1e0", "cannot be read from '1e-4:1e0': write a list, low:high:points"),
        ("1e-4:1e0:9:2", "cannot be read"),
        ("1e-4:1e0:many", "cannot be read"),
        ("1e-4:1e0:2.5", "cannot be read"),
        ("", "no learning rates"),
        (",", "no learning rates"),
        ([], "no learning rates"),
        ("a:1:3", "a learning rate must be a number, not 'a'"),
        ("1e0:1e-4:9", "out of order: low 1 is above high 0.0001"),
        ("1e-4:1e0:0", "a range takes 1 to 10,000 points, not 0"),
        ("1e-4:1e0:10001", "a range takes 1 to 10,000 points, not 10,001"),
        ("1e-4:1e0:1", "1 points from 0.0001 to 1 is no range"),
        ("1:1:3", "3 points from 1 to 1 is no range"),
        ("0:1:3", "must be finite and above 0, not 0"),
        ("-1:1:3", "must be finite and above 0, not -1"),
        ("nan", "must be finite and above 0, not nan"),
        ("0.1,inf", "must be finite and above 0, not inf"),
        ([0.1, -0.1], "must be finite and above 0, not -0.1"),
        ([0.1, float("nan")], "must be finite and above 0, not nan"),
        ([0.1, 0.0], "must be finite and above 0, not 0"),
        ([0.1, True], "must be a number, not True"),
        ([0.1, None], "must be a number, not None"),
        ([[0.1]], "must be a number, not [0.1]"),
        ([0.1, 0.2, 0.1], "the learning rate 0.1 is given twice"),
        ([0.1, 0.1 + 1e-15], "the learning rate 0.1 is given twice"),
        ({"low": 0.1}, "needs both low and high"),
        ({"low": 0.1, "hihg": 1}, "unknown key in a range of learning rates 'hihg': did you mean 'high'?"),
        ({"low": 1, "high": 0.1}, "out of order"),
        (
            {"low": 0.1, "high": 1, "points": 3, "points_per_decade": 3},
            "points or points_per_decade, not both",
        ),
        ({"low": 0.1, "high": 1, "points": 2.5}, "points must be a whole number, not 2.5"),
        ({"low": 0.1, "high": 1, "points": float("nan")}, "must be a finite number, not nan"),
        ({"low": 0.1, "high": 1, "points": float("inf")}, "must be a finite number, not inf"),
        ({"low": 0.1, "high": 1, "points": "3"}, "must be a finite number, not '3'"),
        ({"low": 0.1, "high": 1, "points": True}, "must be a finite number, not True"),
        ({"low": 0.1, "high": 1, "points_per_decade": 0}, "points_per_decade must be above 0, not 0"),
        ({"low": 0.1, "high": 1, "points_per_decade": -2}, "points_per_decade must be above 0, not -2"),
        ({"low": 0, "high": 1}, "must be finite and above 0, not 0"),
        ({"low": 0.1, "high": float("inf")}, "must be finite and above 0, not inf"),
        (True, "cannot be read from True"),
        (3 + 4j, "cannot be read"),
    ],
)
def test_what_is_no_grid_of_rates_is_one_sentence(value, words):
    with pytest.raises(ValueError) as error:
        parse_rates(value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@calm
@given(positive, positive, st.integers(2, 60))
def test_ranges_rise_keep_their_ends_and_their_number(a, b, points):
    low, high = sorted((a, b))
    if high < low * 1.001:
        high = low * 1.1
    rates = log_range(low, high, points)
    assert len(rates) == points
    assert list(rates) == sorted(set(rates))
    assert rates[0] == pytest.approx(low, rel=1e-11)
    assert rates[-1] == pytest.approx(high, rel=1e-11)
    if points > 2:
        ratios = [math.log(y / x) for x, y in itertools.pairwise(rates)]
        assert max(ratios) == pytest.approx(min(ratios), rel=1e-6, abs=1e-10)


@calm
@given(st.integers(-9, 3), st.integers(1, 9), st.integers(1, 8))
def test_points_per_decade_give_every_power_of_ten(first, count, per_decade):
    rates = decades(float(f"1e{first}"), float(f"1e{first + count}"), per_decade)
    assert len(rates) == count * per_decade + 1
    assert {float(f"1e{e}") for e in range(first, first + count + 1)} <= set(rates)
    finer = decades(float(f"1e{first}"), float(f"1e{first + count}"), 2 * per_decade)
    assert set(rates) <= set(finer)


@calm
@given(st.lists(positive, min_size=1, max_size=8, unique_by=lambda x: f"{x:.11g}"))
def test_a_list_as_text_is_the_same_list(rates):
    assert parse_rates(", ".join(map(repr, rates))) == parse_rates(rates)
