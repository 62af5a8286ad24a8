"""What a side does in a round."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import ROUND_SECONDS, mean, runs
from benchmarks.sides import Round


@pytest.mark.parametrize(("seconds", "count"), [(0.04, 3), (0.1, 1), (7.0, 1)])
def test_a_round_is_as_many_runs_as_take_long_enough(seconds: float, count: int) -> None:
    asked: list[str] = []

    def side(method: str) -> Round:
        asked.append(method)
        return Round(seconds, 10)

    assert runs(side) == [Round(seconds, 10)] * count
    assert asked == ["run"] * count and count * seconds >= ROUND_SECONDS


def test_it_is_worth_one_of_them_on_average() -> None:
    assert mean([Round(1.0, 10, 0.5), Round(2.0, 10, 0.25)]) == Round(1.5, 10, 0.375)
