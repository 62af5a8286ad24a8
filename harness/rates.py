"""Learning rates: lists, log-spaced ranges, and the text `1e-4:1e0:9`.

Rates are rounded to twelve significant digits, so that one grid written in two ways is one grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .sentences import unknown

RANGE_KEYS = ("low", "high", "points", "points_per_decade")
POINTS_PER_DECADE = 2  # of an optimizer's own default range
MOST_POINTS = 10_000
HOW = "write a list, low:high:points as 1e-4:1e0:9, or {low, high, points_per_decade}"


def parse_rates(value: Any) -> tuple[float, ...]:
    """Learning rates of a list, of a mapping with `low` and `high`, or of a text.

    Raises:
        ValueError: with a sentence; not a rate, empty, out of order, or given twice.
    """
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (rate(value),)
    if not isinstance(value, Sequence):
        raise ValueError(f"learning rates cannot be read from {value!r}: {HOW}")
    return _distinct([rate(v) for v in value])


def log_range(low: float, high: float, points: int) -> tuple[float, ...]:
    """`points` rates from `low` to `high`, both included, evenly spaced in their logarithm."""
    if low > high:
        raise ValueError(f"the range is out of order: low {low:g} is above high {high:g}")
    if not 1 <= points <= MOST_POINTS:
        raise ValueError(f"a range takes 1 to {MOST_POINTS:,} points, not {points:,}")
    if (points == 1) != (low == high):
        raise ValueError(f"{points} points from {low:g} to {high:g} is no range: it takes 2 points or more")
    if points == 1:
        return (rate(low),)
    start, stop = math.log10(low), math.log10(high)
    exponents = [start + (stop - start) * i / (points - 1) for i in range(1, points - 1)]
    return _distinct([rate(low), *(rate(10.0**e) for e in exponents), rate(high)])


def decades(low: float, high: float, points_per_decade: float) -> tuple[float, ...]:
    """Rates from `low` to `high` with about `points_per_decade` in each power of ten."""
    if low > high:
        raise ValueError(f"the range is out of order: low {low:g} is above high {high:g}")
    if not (math.isfinite(points_per_decade) and points_per_decade > 0):
        raise ValueError(f"points_per_decade must be above 0, not {points_per_decade:g}")
    if low == high:
        return (rate(low),)
    return log_range(low, high, max(2, round((math.log10(high) - math.log10(low)) * points_per_decade) + 1))


def rate(value: Any) -> float:
    """One learning rate: finite, above zero, to twelve significant digits."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"a learning rate must be a number, not {value!r}: {HOW}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a learning rate must be a number, not {value!r}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"a learning rate must be finite and above 0, not {value:g}")
    return float(f"{value:.12g}")


def _from_text(text: str) -> tuple[float, ...]:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) == 1:
        return _distinct([rate(part) for part in text.split(",") if part.strip()])
    if len(parts) != 3 or not parts[2].isdecimal():
        raise ValueError(f"learning rates cannot be read from '{text}': {HOW}")
    return log_range(rate(parts[0]), rate(parts[1]), int(parts[2]))


def _from_mapping(value: Mapping[Any, Any]) -> tuple[float, ...]:
    for key in value:
        if key not in RANGE_KEYS:
            raise ValueError(unknown("key in a range of learning rates", str(key), RANGE_KEYS))
    if not {"low", "high"} <= set(value):
        raise ValueError(f"a range of learning rates needs both low and high: {HOW}")
    if "points" in value and "points_per_decade" in value:
        raise ValueError("a range of learning rates takes points or points_per_decade, not both")
    low, high = rate(value["low"]), rate(value["high"])
    number = value.get("points", value.get("points_per_decade", POINTS_PER_DECADE))
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"the number of points must be a finite number, not {number!r}")
    if "points" not in value:
        return decades(low, high, number)
    if number != int(number):
        raise ValueError(f"points must be a whole number, not {number!r}")
    return log_range(low, high, int(number))


def _distinct(rates: list[float]) -> tuple[float, ...]:
    if not rates:
        raise ValueError("no learning rates: give at least one")
    seen: set[float] = set()
    for each in rates:
        if each in seen:
            raise ValueError(f"the learning rate {each:g} is given twice")
        seen.add(each)
    return tuple(rates)
