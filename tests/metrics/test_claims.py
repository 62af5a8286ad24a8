"""Each claim on rows where it is planted to hold, not to hold, and not to be decidable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.aggregates.evidence import Evidence, much_slower
from harness.aggregates.verdicts import Part, all_of, any_of
from harness.claims import STATEMENTS, claims
from harness.metrics.levels import Estimate

from .made import curves_frame, planted

RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
WORKLOADS = ("quadratic(condition=1.0)", "quadratic(condition=1000.0)", "beale", "digits_mlp")
BUDGET = 100_000
Row = dict[str, Any]
Twist = Callable[[str, str, float, int, Row], Row]


def believed(w: str, o: str, rate: float, seed: int) -> Row:
    """A run in a world where every claim holds."""
    best = {"gradient_descent": 0.1, "momentum": 0.1, "adam": 0.1}[o]
    highest = {"gradient_descent": 0.1, "momentum": 0.1, "adam": 1.0}[o]
    if rate > highest:
        return {"status": "diverged"}
    steps = {"gradient_descent": 1000, "momentum": 800, "adam": 300}[o]
    if w == "quadratic(condition=1000.0)" and o == "gradient_descent":
        steps = 9000
    far = abs(np.log10(rate / best))
    works = far < {"gradient_descent": 0.5, "momentum": 0.5, "adam": 1.5}[o]
    steps = int(steps * 4**far * (1 + 0.03 * ((7 * seed + len(w)) % 5)))
    luck = 0.01 * ((3 * seed + len(o)) % 7)
    test = {"gradient_descent": 0.5, "momentum": 0.5, "adam": 0.8}[o] + luck
    metrics = {
        "train_loss": 0.1,
        "validation_loss": 0.3 * 4**far,
        "test_loss": test,
        "test_accuracy": 1 - test,
    }
    return {
        "status": "converged" if works else "budget",
        "steps_to_target": steps if works else None,
        "final_loss": 1e-4 if works else 0.01 * 2**far,
        "metrics": metrics if w == "digits_mlp" else {},
        "turn_backs": {"gradient_descent": 0.6, "momentum": 0.1, "adam": 0.3}[o] + luck,
        "path_length": 10.0,
        "displacement": {"gradient_descent": 5.0, "momentum": 8.0, "adam": 4.0}[o] + luck,
        "tail_std": 0.1,
    }


def world(
    twist: Twist = lambda w, o, r, s, row: row,
    workloads: tuple[str, ...] = WORKLOADS,
    seeds: int = 8,
    optimizers: tuple[str, ...] = ("adam", "gradient_descent", "momentum"),
) -> pd.DataFrame:
    """The believed world with a twist."""

    def outcome(w: str, o: str, rate: float, seed: int) -> Row:
        name = o.partition("(")[0]
        params = w.partition("condition=")[2].rstrip(")")
        text = f'{{"condition":{params}}}' if params else "{}"
        row = twist(w, o, rate, seed, believed(w, name, rate, seed))
        return {"budget": BUDGET, "workload_params": text, **row}

    return planted(workloads, optimizers, RATES, range(seeds), outcome)


def verdicts(cells: pd.DataFrame) -> dict[str, str]:
    out = claims(cells)
    return dict(zip(out["claim"], out["verdict"], strict=True))


def told(cells: pd.DataFrame, claim: str) -> pd.Series:
    out = claims(cells)
    return out[out["claim"] == claim].iloc[0]


def test_the_believed_world():
    assert verdicts(world()) == dict.fromkeys(STATEMENTS, "holds")


def small_rates_diverge(w, o, rate, seed, row):
    return {"status": "diverged"} if o == "gradient_descent" and rate < 0.05 else row


def small_rates_do_as_well(w, o, rate, seed, row):
    if o == "gradient_descent" and rate < 0.05:
        return {**row, "status": "converged", "steps_to_target": 1500, "final_loss": 1e-4}
    return row


def gd_is_fastest(w, o, rate, seed, row):
    return {**row, "steps_to_target": 10} if o == "gradient_descent" and row.get("steps_to_target") else row


def gd_turns_back_least(w, o, rate, seed, row):
    return {**row, "turn_backs": 0.01} if o == "gradient_descent" else row


def momentum_gains_on_easy_problems(w, o, rate, seed, row):
    slow = {"quadratic(condition=1.0)": 9000, "quadratic(condition=1000.0)": 1000}.get(w)
    return {**row, "steps_to_target": slow} if slow and o == "gradient_descent" and rate == 0.1 else row


def adam_is_slow(w, o, rate, seed, row):
    return {**row, "steps_to_target": 30_000} if o == "adam" and row.get("steps_to_target") else row


def adam_is_narrow(w, o, rate, seed, row):
    if o == "adam" and abs(np.log10(rate / 0.1)) > 0.5:
        return {**row, "status": "budget", "steps_to_target": None, "final_loss": 0.5}
    if o != "adam" and 1e-3 <= rate <= 0.1:
        return {**row, "status": "converged", "steps_to_target": 900, "final_loss": 1e-4}
    return row


def adam_diverges_first(w, o, rate, seed, row):
    return {"status": "diverged"} if o == "adam" and rate > 0.05 else row


def adam_goes_straight(w, o, rate, seed, row):
    return {**row, "displacement": 9.9} if o == "adam" else row


def adam_generalises(w, o, rate, seed, row):
    better = {**row.get("metrics", {}), "test_loss": 0.2 + 0.001 * seed}
    return {**row, "metrics": better} if o == "adam" and row.get("metrics") else row


def adam_works_anywhere(w, o, rate, seed, row):
    if o == "adam" and rate < 5:
        return {**row, "status": "converged", "steps_to_target": 300, "final_loss": 1e-4}
    return row


@pytest.mark.parametrize(
    ("claim", "twist"),
    [
        ("gradient_descent_slow", small_rates_diverge),
        ("gradient_descent_slow", small_rates_do_as_well),
        ("momentum_faster", gd_is_fastest),
        ("momentum_steadier", gd_turns_back_least),
        ("momentum_steadier", momentum_gains_on_easy_problems),
        ("adam_fast", adam_is_slow),
        ("adam_tolerant", adam_is_narrow),
        ("adam_tolerant", adam_diverges_first),
        ("trajectories", gd_turns_back_least),
        ("trajectories", adam_goes_straight),
        ("adam_generalises_worse", adam_generalises),
        ("adam_needs_tuning", adam_works_anywhere),
    ],
    ids=lambda v: v if isinstance(v, str) else v.__name__,
)
def test_a_world_in_which_it_does_not_hold(claim, twist):
    assert verdicts(world(twist))[claim] == "does not hold"


def noise(w, o, rate, seed, row):
    """All optimizers alike, up to luck."""
    if row["status"] == "diverged":
        return row
    generator = np.random.default_rng([seed, len(o), len(w), int(1e4 * rate)])
    luck = generator.normal(size=4)
    metrics = {k: 0.5 + 0.1 * generator.normal() for k in ("train_loss", "validation_loss", "test_loss")}
    return {
        "status": "converged",
        "steps_to_target": int(1000 * np.exp(0.3 * luck[0])),
        "metrics": metrics if row["metrics"] else {},
        "turn_backs": 0.5 + 0.1 * luck[1],
        "path_length": 10.0,
        "displacement": 5 + luck[2],
    }


@pytest.mark.parametrize(
    "claim", ["momentum_faster", "momentum_steadier", "trajectories", "adam_generalises_worse"]
)
def test_noise_decides_nothing(claim):
    assert verdicts(world(noise))[claim] == "undecided"


def test_noise_rarely_decides_anything():
    """Over 60 worlds of luck alone, at most 8 find that momentum is faster, or that it is not."""
    found = 0
    for k in range(60):

        def luck(w, o, rate, seed, row, k=k):
            steps = np.random.default_rng([k, seed, len(o), len(w)]).integers(100, 1000)
            return {**row, "status": "converged", "steps_to_target": int(steps), "final_loss": 1e-4}

        def outcome(w, o, rate, seed, luck=luck):
            return {"budget": BUDGET, **luck(w, o, rate, seed, {})}

        cells = planted(WORKLOADS, ("gradient_descent", "momentum"), (0.1,), range(8), outcome)
        part = Part(Evidence(cells, np.random.default_rng(k)).beats("momentum", "gradient_descent"), 0.5, "")
        found += part.verdict != "undecided"
    assert found <= 8


def test_few_seeds_decide_nothing_about_one_workload():
    cells = world(workloads=("quadratic(condition=1.0)",), seeds=5)
    out = claims(cells)
    assert (out["verdict"] == "undecided").all()
    assert "only 5 runs, 6 are needed" in told(cells, "momentum_faster")["evidence"]


@pytest.mark.parametrize("optimizer", ["adam", "gradient_descent", "momentum"])
def test_an_optimizer_that_was_not_run(optimizer):
    others = tuple(o for o in ("adam", "gradient_descent", "momentum") if o != optimizer)
    out = claims(world(optimizers=others)).set_index("claim")
    concerned = {
        "adam": ["adam_fast", "adam_tolerant", "trajectories", "adam_generalises_worse", "adam_needs_tuning"],
        "gradient_descent": ["gradient_descent_slow", "momentum_faster", "momentum_steadier", "trajectories"],
        "momentum": ["momentum_faster", "momentum_steadier", "trajectories"],
    }[optimizer]
    assert (out.loc[concerned, "verdict"] == "undecided").all()
    assert out.loc[concerned, "evidence"].str.contains(f"The study did not run {optimizer}").all()
    assert (out.drop(index=concerned)["verdict"] == "holds").all()


def test_adam_alone():
    out = claims(world(optimizers=("adam",))).set_index("claim")
    assert out.loc["adam_fast", "evidence"] == "The study ran no other optimizer than adam."
    assert "gradient_descent or momentum" in out.loc["adam_tolerant", "evidence"]
    assert out.loc["adam_needs_tuning", "verdict"] == "holds"


def test_no_quadratics_and_no_test_loss():
    out = claims(world(workloads=("beale", "himmelblau"))).set_index("claim")
    assert out.loc["momentum_steadier", "verdict"] == "undecided"
    assert (
        "it takes workloads with curvature ratios up to 10 and from 100"
        in out.loc["momentum_steadier", "evidence"]
    )
    assert out.loc["adam_generalises_worse", "verdict"] == "undecided"
    assert out.loc["adam_generalises_worse", "evidence"].startswith("No workload has a test loss")


def test_grids_that_do_not_reach_divergence_tell_nothing():
    def calm(w, o, rate, seed, row):
        return {**believed(w, o, 0.01, seed), "status": "budget", "steps_to_target": None}

    found = told(world(calm), "adam_tolerant")
    assert found["verdict"] == "undecided"
    assert "nothing to compare" in found["evidence"]


def test_the_figures_in_the_evidence_are_the_rows():
    found = told(world(), "momentum_faster")
    assert "on 100 % of shared seeds (95 % interval 100 % to 100 %)" in found["evidence"]
    assert (found["n"], found["workloads"]) == (32, 4)
    faster = told(world(gd_is_fastest), "momentum_faster")["evidence"]
    assert "on 0 % of shared seeds" in faster
    tuning = told(world(), "adam_needs_tuning")["evidence"]
    assert "Resolved on 4 of 4 workloads" in tuning
    assert "98.8 % interval" in tuning, "four workloads share the 5 %"
    assert "its default 0.001 is not among those that work" in tuning
    worse = told(world(), "adam_generalises_worse")["evidence"]
    assert "gap of test to train loss" in worse
    assert "test accuracy" in worse


def test_curves_are_told_but_decide_nothing():
    cells = world()
    zigzag = [{"cell_id": i, "step": [0, 1, 2], "loss": [1.0, 2.0, 1.0]} for i in cells["cell_id"]]
    with_curves = claims(cells, curves_frame(zigzag)).set_index("claim")
    without = claims(cells).set_index("claim")
    assert (with_curves["verdict"] == without["verdict"]).all()
    assert "gradient_descent 50 %, momentum 50 %, adam 50 %" in with_curves.loc["trajectories", "evidence"]
    assert "recorded losses" not in without.loc["trajectories", "evidence"]


def test_the_default_variant_speaks():
    def twist(w, o, rate, seed, row):
        return gd_is_fastest(w, "gradient_descent", rate, seed, row) if o == "momentum(momentum=0.5)" else row

    optimizers = ("adam", "gradient_descent", "momentum", "momentum(momentum=0.5)")
    cells = world(twist, optimizers=optimizers)
    evidence = Evidence(cells, np.random.default_rng(0))
    assert evidence.spokesmen["momentum"] == "momentum"
    assert verdicts(cells)["momentum_faster"] == "holds"
    variants = ("gradient_descent", "momentum(momentum=0.3)", "momentum(momentum=0.5)")
    evidence = Evidence(world(twist, optimizers=variants), np.random.default_rng(0))
    assert evidence.spokesmen["momentum"] == "momentum(momentum=0.5)", "the better of the two"


def test_transforms_do_not_speak_for_what_they_wrap():
    wrapped = world().replace({"optimizer": {"adam": "cosine(adam, steps=1000)"}})
    assert told(wrapped, "adam_needs_tuning")["evidence"] == "The study did not run adam."


def test_much_slower():
    inf = np.inf
    steps, other = np.array([10.0, 21, inf, inf, inf, np.nan]), np.array([10.0, 10, 10, inf, inf, 1])
    gap, other_gap = np.array([0.0, 0, 0, 1, 5, 0]), np.array([0.0, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(much_slower(steps, gap, other, other_gap), [0, 1, 1, 0, 1, np.nan])


def test_verdicts_of_parts():
    def part(low: float, high: float, n: int = 10) -> Part:
        return Part(Estimate((low + high) / 2, low, high, n, 1), 0.5, "{value} {span}")

    holds, fails, open_ = part(0.6, 0.9), part(0.1, 0.4), part(0.4, 0.6)
    assert [p.verdict for p in (holds, fails, open_)] == ["holds", "does not hold", "undecided"]
    assert part(0.6, 0.9, n=5).verdict == "undecided"
    assert Part(Estimate(0.9, np.nan, np.nan, 9, 1), 0.5, "").verdict == "undecided"
    assert all_of("", "", [holds, holds]).verdict == "holds"
    assert all_of("", "", [holds, open_]).verdict == "undecided"
    assert all_of("", "", [open_, fails]).verdict == "does not hold"
    assert any_of("", "", ["a", "b"], [fails, holds], "").verdict == "holds"
    assert any_of("", "", ["a", "b"], [fails, open_], "").verdict == "undecided"
    assert any_of("", "", ["a", "b"], [fails, fails], "").verdict == "does not hold"
    assert any_of("", "", [], [], "why").evidence == "why"
