"""Checks of the fields that every workload has."""

from __future__ import annotations

DTYPES = ("float32", "float64", "bfloat16")


def check_common(name: str, dtype: str, steps: int) -> None:
    """Check the dtype of the parameters and the budget.

    Args:
        name: the workload's, for the sentence.
        dtype: one of `DTYPES`.
        steps: updates, 1 or more.

    Raises:
        ValueError: says which field, what it is and what was expected.
    """
    if dtype not in DTYPES:
        raise ValueError(f"{name}: dtype = {dtype!r}; it is one of {', '.join(DTYPES)}.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"{name}: steps = {steps!r}; the budget is a whole number of updates, 1 or more.")
