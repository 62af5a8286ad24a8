"""The recommendation table: per workload the optimizer, its learning rate, and how sure that is."""

from __future__ import annotations

import math
from typing import Any

from ._output import print_table


def print_recommendations(rows: Any, show: bool = True) -> Any:
    """Recommend per workload, printing a table where `show` is set; gives the frame back."""
    from ..aggregates import recommendations

    best = recommendations(rows)
    if show and len(best):
        header = ["workload", "optimizer", "learning rate", "at target", "result", "runner-up", "sure"]
        print_table("recommended", header, [_row(row) for row in best.to_dict("records")])
    return best


def _row(row: dict[str, Any]) -> list[str]:
    rate = row["learning_rate"]
    return [
        row["workload"],
        row["optimizer"],
        "none" if math.isnan(rate) else f"{rate:.3g}",
        f"{row['success']:.0%} of {row['n']}" if row["n"] else "–",
        _result(row),
        row["runner_up"] or "–",
        "yes" if row["resolved"] else "no",
    ]


def _result(row: dict[str, Any]) -> str:
    """`46 steps (33 to 54)`, or where most runs miss the target `loss 0.0908 (0.0137 to 0.145)`."""
    from ..aggregates.words import number, steps

    if math.isfinite(row["steps_to_target"]):
        return f"{steps(row['steps_to_target'])} {_interval(row['steps_low'], row['steps_high'])}".strip()
    if math.isfinite(row["loss"]):
        return f"loss {number(row['loss'])} {_interval(row['loss_low'], row['loss_high'])}".strip()
    return "diverged" if row["n"] else "every run failed"


def _interval(low: float, high: float) -> str:
    from ..aggregates.words import number

    if math.isnan(low) or math.isnan(high):
        return ""
    return f"({number(low)} to {number(high) if math.isfinite(high) else 'never'})"
