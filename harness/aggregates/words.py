"""Figures as words: the sentences of recommendations and claims are built from these and from numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..sentences import plural


def number(value: float) -> str:
    """Three significant digits, with a minus sign and never `-0`; `infinite`, `unknown`."""
    if np.isnan(value):
        return "unknown"
    if np.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    text = f"{abs(value):,.0f}" if abs(value) >= 1000 or value == round(value) else f"{abs(value):.3g}"
    return f"−{text}" if value < 0 else text


def between(low: float, high: float) -> str:
    """`(95 % interval 1.2 to 3.4)`, or that there is none."""
    if np.isnan(low) or np.isnan(high):
        return "(no interval: one run)"
    return f"(95 % interval {number(low)} to {number(high)})"


def share(value: float) -> str:
    """`12 %`."""
    return "unknown" if np.isnan(value) else f"{100 * value:.0f} %"


def share_between(low: float, high: float) -> str:
    """`(95 % interval 10 % to 20 %)`."""
    if np.isnan(low) or np.isnan(high):
        return "(no interval: one run)"
    return f"(95 % interval {share(low)} to {share(high)})"


def steps(count: float) -> str:
    """`1 step`, `12.5 steps`."""
    return f"{number(count)} step" + ("" if count == 1 else "s")


def why(row: Mapping[str, Any], beside: bool = False) -> str:
    """The reason for a recommendation, from a row of `recommendations`.

    Args:
        beside: the figures stand beside the sentence, which need not repeat them.
    """
    if np.isnan(row["learning_rate"]):
        return "No learning rate gave a finite loss: nothing to recommend."
    result = "" if beside and np.isfinite(row["steps_to_target"]) else _result(row)
    return " ".join(filter(None, [result, _against(row), _edge(row), _caveat(row)]))


def _result(row: Mapping[str, Any]) -> str:
    hits = round(row["success"] * row["n"]) if row["n"] else 0
    who = f"{row['optimizer']} at {number(row['learning_rate'])}"
    reached = f"{who} reached the target in {hits} of {plural(row['n'], 'seed')}"
    if np.isfinite(row["steps_to_target"]):
        span = between(row["steps_low"], row["steps_high"])
        return f"{reached}, after a median of {steps(row['steps_to_target'])} {span}."
    name = row["loss_metric"].replace("_", " ")
    span = between(row["loss_low"], row["loss_high"])
    return f"{reached}; its median {name} is {number(row['loss'])} {span}."


def _against(row: Mapping[str, Any]) -> str:
    if not row["runner_up"]:
        return "No other optimizer was run here."
    if np.isnan(row["runner_up_learning_rate"]):
        return f"{row['runner_up']} gave no finite loss at any rate."
    who = f"{row['runner_up']} at {number(row['runner_up_learning_rate'])}"
    if row["pairs"] == 0:
        return f"The runner-up, {who}, shares no seed with it: not compared."
    value, span = row["advantage"], between(row["advantage_low"], row["advantage_high"])
    verdict = "a resolved difference" if row["resolved"] else "not resolved"
    pairs = plural(row["pairs"], "shared seed")
    if row["advantage_measure"] == "loss":
        how = "higher" if value >= 0 else "lower"
        if value == 0:
            return f"The runner-up, {who}, has as low a loss in the median {span} on {pairs}: {verdict}."
        if value < 0:
            span = between(-row["advantage_high"], -row["advantage_low"])
        return f"The runner-up, {who}, has a loss {how} by {number(abs(value))} {span} on {pairs}: {verdict}."
    who = f"{who} (target reached in {share(row['runner_up_success'])} of its seeds)"
    if np.isinf(value):
        return f"The runner-up, {who}, misses the target where it hits: {verdict} on {pairs}."
    if value == 0:
        return f"The runner-up, {who}, needs as many steps in the median {span} on {pairs}: {verdict}."
    word = "more" if value > 0 else "fewer"
    if value < 0:
        span = between(-row["advantage_high"], -row["advantage_low"])
    return (
        f"The runner-up, {who}, needs {steps(abs(value))} {word} in the median {span} on {pairs}: {verdict}."
    )


def _edge(row: Mapping[str, Any]) -> str:
    if row["edge"] == "only":
        return "Only one learning rate was tried."
    if row["edge"]:
        return f"The rate is the {row['edge']} of its grid: widen the grid."
    return ""


def _caveat(row: Mapping[str, Any]) -> str:
    if row["n"] == 1:
        return "One seed: no interval, and the rate was chosen on the run that is reported."
    if not row["cross_fitted"]:
        return "Half of the seeds could not choose a rate: it was chosen on runs that are reported."
    return ""
