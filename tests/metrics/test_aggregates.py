"""Aggregates: right figures on planted rows, the same whatever the order, sober on whatever is missing."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import aggregates
from harness.claims import claims
from harness.metrics import success
from harness.metrics.rates import expected_best

from .made import cells_frame, curves_frame, planted, row, study, study_json

OF_CELLS = [
    aggregates.summary,
    aggregates.best_rates,
    aggregates.recommendations,
    aggregates.learning_rate_curve,
    aggregates.steps_heatmap,
    aggregates.divergence,
    aggregates.sensitivity,
    aggregates.tunability,
    aggregates.ecdf,
    aggregates.profile,
    aggregates.algoperf,
    aggregates.initialisation,
    aggregates.stability,
    aggregates.generalisation,
    aggregates.paired,
    aggregates.ranks,
    aggregates.overall,
    aggregates.improvement,
    claims,
]
SMALL = {"workloads": ("sphere", "rosenbrock", "digits_mlp"), "every": 3}


@pytest.fixture(scope="module")
def made() -> tuple[pd.DataFrame, pd.DataFrame]:
    return study()


@pytest.fixture(scope="module")
def small() -> tuple[pd.DataFrame, pd.DataFrame]:
    return study(**SMALL)


def by(frame: pd.DataFrame, **labels: object) -> pd.Series:
    """The one row with these labels."""
    for column, label in labels.items():
        frame = frame[
            np.isclose(frame[column], label) if isinstance(label, float) else frame[column] == label
        ]
    assert len(frame) == 1, frame
    return frame.iloc[0]


def test_every_aggregate_is_tested_here():
    public = {n for n in aggregates.__all__ if inspect.isfunction(getattr(aggregates, n))}
    assert public - {"grid", "prepare", "with_optimum", "loss_curves"} == {f.__name__ for f in OF_CELLS[:-1]}


# -- laws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", OF_CELLS, ids=lambda f: f.__name__)
@settings(max_examples=2)
@given(seed=st.integers(0, 10**6))
def test_row_order_and_ids_do_not_matter(aggregate, small, seed):
    cells, _ = small
    generator = np.random.default_rng(seed)
    shuffled = cells.sample(frac=1, random_state=seed, ignore_index=True)
    shuffled["cell_id"] = generator.permutation([f"{i:020x}" for i in range(len(cells))])
    pd.testing.assert_frame_equal(aggregate(cells), aggregate(shuffled), check_exact=True)


def test_the_order_of_curves_does_not_matter(small):
    cells, curves = small
    shuffled = curves.sample(frac=1, random_state=3)
    one, other = (aggregates.loss_curves(c, cells) for c in (curves, shuffled))
    pd.testing.assert_frame_equal(one, other)
    pd.testing.assert_frame_equal(claims(cells, curves), claims(cells, shuffled))


@pytest.mark.parametrize("aggregate", OF_CELLS, ids=lambda f: f.__name__)
def test_preparing_first_changes_nothing(aggregate, small):
    pd.testing.assert_frame_equal(aggregate(small[0]), aggregate(aggregates.prepare(small[0])))


@pytest.mark.parametrize("aggregate", OF_CELLS, ids=lambda f: f.__name__)
def test_a_row_twice_counts_once(aggregate, small):
    twice = pd.concat([small[0], small[0].iloc[::7]], ignore_index=True)
    pd.testing.assert_frame_equal(aggregate(small[0]), aggregate(twice))


@pytest.mark.parametrize("aggregate", OF_CELLS, ids=lambda f: f.__name__)
def test_metrics_may_be_tuples_dicts_or_null(aggregate, small):
    dicts = small[0].assign(metrics=[dict(m) or None for m in small[0]["metrics"]])
    pd.testing.assert_frame_equal(aggregate(small[0]), aggregate(dicts))


@pytest.mark.parametrize("aggregate", OF_CELLS, ids=lambda f: f.__name__)
def test_nullable_integers_and_plain_lists_are_read_as_well(aggregate, small):
    columns = ("steps_to_target", "steps_to_stay", "seed", "steps", "budget")
    nullable = small[0].astype(dict.fromkeys(columns, "Int64"))
    nullable["hits"] = [[None if np.isnan(h) else int(h) for h in hits] for hits in small[0]["hits"]]
    pd.testing.assert_frame_equal(aggregate(small[0]), aggregate(nullable))


@pytest.mark.parametrize("aggregate", OF_CELLS, ids=lambda f: f.__name__)
def test_the_frame_is_not_changed(aggregate, small):
    before = small[0].copy(deep=True)
    aggregate(small[0])
    pd.testing.assert_frame_equal(small[0], before)


@pytest.mark.parametrize("aggregate", OF_CELLS, ids=lambda f: f.__name__)
def test_intervals_hold_their_values_and_shares_are_shares(aggregate, made):
    out = aggregate(made[0])
    for value, low, high in (("value", "low", "high"), ("success", "success_low", "success_high")):
        if {value, low, high} <= set(out):
            assert not (out[low] > out[high]).any()
    for share in ("success", "success_low", "success_high", "diverged", "improvement", "usable_chance"):
        if share in out and aggregate.__name__ not in ("summary", "divergence"):
            assert out[share].dropna().between(0, 1 + 1e-12).all()
    if "n" in out:
        assert (out["n"] <= len(made[0]) * 10).all()


# -- partial studies ----------------------------------------------------------------------------------

PARTIAL: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "no columns": lambda c: pd.DataFrame(),
    "no rows": lambda c: c.iloc[:0],
    "one row": lambda c: c.iloc[[100]],
    "one seed": lambda c: c[c["seed"] == 0],
    "two seeds": lambda c: c[c["seed"] < 2],
    "one optimizer": lambda c: c[c["optimizer"] == "adam"],
    "one rate": lambda c: c.groupby(["workload", "optimizer", "seed"], as_index=False).first(),
    "cut half-way": lambda c: c.sample(frac=0.3, random_state=1),
    "optimizers on different workloads": lambda c: c[
        ((c["workload"] == "sphere") & (c["optimizer"] == "adam"))
        | ((c["workload"] == "rosenbrock") & (c["optimizer"] == "momentum"))
    ],
    "optimizers on different seeds": lambda c: c[(c["optimizer"] == "adam") == (c["seed"] < 5)],
    "all diverged": lambda c: c.assign(
        status="diverged", final_loss=np.inf, steps_to_target=np.nan, steps_to_stay=np.nan, metrics=None
    ),
    "all failed": lambda c: c.assign(
        status="failed",
        **dict.fromkeys(["final_loss", "best_loss", "steps_to_target", "steps_to_stay", "steps"], np.nan),
        **dict.fromkeys(["path_length", "displacement", "turn_backs", "tail_std", "initial_loss"], np.nan),
        **dict.fromkeys(["metrics", "hits", "targets"]),
    ),
    "no target reached": lambda c: c.assign(
        status="budget", final_loss=0.5, steps_to_target=np.nan, steps_to_stay=np.nan, hits=None
    ),
    "no stability": lambda c: c.drop(columns=["path_length", "displacement", "turn_backs", "tail_std"]),
    "final loss unknown": lambda c: c.assign(final_loss=np.nan, metrics=None),
}


@pytest.fixture(scope="module")
def full(small) -> dict[str, pd.DataFrame]:
    return {aggregate.__name__: aggregate(small[0]) for aggregate in OF_CELLS}


@pytest.mark.parametrize("part", PARTIAL)
@pytest.mark.parametrize("aggregate", OF_CELLS, ids=lambda f: f.__name__)
def test_partial_studies_have_the_same_columns(aggregate, part, small, full):
    """No exception, no warning (they are errors), and the columns that a full study has."""
    out = aggregate(PARTIAL[part](small[0]))
    whole = full[aggregate.__name__]
    assert list(out.columns) == list(whole.columns)
    for column, kind in whole.dtypes.items():
        assert pd.api.types.is_numeric_dtype(out[column]) == pd.api.types.is_numeric_dtype(kind), column


@pytest.mark.parametrize("part", PARTIAL)
def test_curves_of_partial_studies(part, small):
    cells, curves = small
    out = aggregates.loss_curves(curves, PARTIAL[part](cells))
    assert list(out.columns) == list(aggregates.loss_curves(curves, cells).columns)
    assert not out[["n", "value", "low", "high"]].isna().any(axis=None)


@pytest.mark.parametrize("curves", [pd.DataFrame(), curves_frame([])], ids=["no columns", "no rows"])
def test_no_curves(curves, small):
    out = aggregates.loss_curves(curves, small[0])
    assert len(out) == 0
    assert list(out.columns) == list(aggregates.loss_curves(small[1], small[0]).columns)
    assert len(claims(small[0], curves)) == 8


@pytest.mark.parametrize("aggregate", OF_CELLS[:-1], ids=lambda f: f.__name__)
def test_one_seed_has_no_interval(aggregate, small):
    out = aggregate(small[0][small[0]["seed"] == 0])
    if aggregate in (aggregates.summary, aggregates.divergence):
        return  # a share of one run has Wilson's interval
    if aggregate is aggregates.initialisation:
        out = out[out["measure"] == "spread"]
    if aggregate in (aggregates.ranks, aggregates.overall):
        return  # intervals over workloads
    for column in ("low", "high", "steps_low", "loss_high", "ert_low", "advantage_low"):
        if column in out:
            assert out[column].isna().all()
    if "why" in out:
        assert out["why"].str.contains("One seed: no interval").all()


def test_failures_count_and_missing_rows_do_not():
    rows = [row(seed=s) for s in range(3)]
    rows += [row(seed=3, status="diverged"), row(seed=4, status="failed"), row(seed=5, status="budget")]
    found = by(aggregates.learning_rate_curve(cells_frame(rows)), optimizer="adam")
    assert found["n"] == 6, "failed runs are runs; seed 6 was never run"
    assert found["success"] == 0.5
    assert found["diverged"] == pytest.approx(1 / 6)
    assert found["value"] == pytest.approx(1e-4), "the median of 4 losses and 2 failures"
    assert found["high"] == np.inf
    told = by(aggregates.divergence(cells_frame(rows)), optimizer="adam")
    assert (told["diverged"], told["failed"]) == (1, 1)


def test_all_diverged_recommends_nothing():
    cells = planted(outcome=lambda *_: {"status": "diverged"})
    found = aggregates.recommendations(cells).iloc[0]
    assert np.isnan(found["learning_rate"])
    assert found["why"] == "No learning rate gave a finite loss: nothing to recommend."
    assert not found["resolved"]


def test_in_a_run_cut_short_one_lucky_seed_does_not_win():
    def outcome(_w, _o, rate, seed):
        return {"steps_to_target": 10 if rate == 1.0 else 50 + seed}

    cells = planted(optimizers=("adam",), outcome=outcome)
    assert by(aggregates.best_rates(cells), optimizer="adam")["learning_rate"] == 1.0
    cut = cells[(cells["learning_rate"] != 1.0) | (cells["seed"] == 0)]
    assert by(aggregates.best_rates(cut), optimizer="adam")["learning_rate"] == 0.01


# -- figures ------------------------------------------------------------------------------------------


def race(w: str, o: str, rate: float, seed: int) -> dict:
    """adam is best at 0.1 (100 steps and a seed's own), momentum at 0.01 (130), GD hits in half of seeds."""
    best = {"adam": 0.1, "momentum": 0.01, "gradient_descent": 1.0}[o]
    steps = {"adam": 100, "momentum": 130, "gradient_descent": 200}[o] + 3 * seed
    if rate != best:
        return {"status": "budget", "final_loss": 0.5}
    if o == "gradient_descent" and seed % 2:
        return {"status": "budget", "final_loss": 0.01}
    return {"steps_to_target": steps}


def test_recommendation_by_hand():
    found = aggregates.recommendations(planted(outcome=race)).iloc[0]
    assert (found["optimizer"], found["learning_rate"]) == ("adam", 0.1)
    assert (found["n"], found["success"], found["steps_to_target"]) == (10, 1.0, 113.5)
    assert found["success_low"] == pytest.approx(success.wilson_interval(10, 10)[0])
    assert found["ert"] == pytest.approx(113.5)
    assert found["steps_low"] < 113.5 < found["steps_high"]
    assert (found["runner_up"], found["runner_up_learning_rate"]) == ("momentum", 0.01)
    assert (found["advantage"], found["advantage_low"], found["advantage_high"]) == (30, 30, 30)
    assert (found["advantage_measure"], found["pairs"]) == ("steps_to_target", 10)
    assert found["resolved"]
    assert (found["edge"], found["cross_fitted"]) == ("", True)
    assert "adam at 0.1 reached the target in 10 of 10 seeds" in found["why"]
    assert "needs 30 steps more in the median" in found["why"]
    assert "a resolved difference" in found["why"]


def test_best_rates_by_hand():
    best = aggregates.best_rates(planted(outcome=race))
    gd = by(best, optimizer="gradient_descent")
    assert (gd["learning_rate"], gd["edge"], gd["success"]) == (1.0, "highest", 0.5)
    hits = [200 + 3 * s for s in range(0, 10, 2)]
    assert gd["ert"] == pytest.approx((sum(hits) + 5 * 300) / 5)
    assert by(best, optimizer="momentum")["edge"] == "lowest"


def test_a_difference_in_noise_alone_is_not_resolved():
    def outcome(_w, o, rate, seed):
        generator = np.random.default_rng([seed, len(o), int(1000 * rate)])
        return {"steps_to_target": int(generator.integers(50, 150))}

    found = aggregates.recommendations(planted(outcome=outcome)).iloc[0]
    assert not found["resolved"]
    assert "not resolved" in found["why"]


def test_five_pairs_resolve_nothing():
    found = aggregates.recommendations(planted(outcome=race, seeds=range(5))).iloc[0]
    assert found["advantage_low"] > 0
    assert not found["resolved"]


def test_losses_that_differ_by_rounding_are_equal():
    def outcome(_w, o, _r, _s):
        return {"status": "budget", "final_loss": 12.9 * (1 + 1e-12 * len(o))}

    found = aggregates.recommendations(planted(outcome=outcome)).iloc[0]
    assert found["advantage"] == 0
    assert not found["resolved"]


def test_a_rate_on_the_edge_is_told():
    cells = planted(outcome=race, optimizers=("gradient_descent",))
    found = aggregates.recommendations(cells).iloc[0]
    assert "highest of its grid: widen the grid" in found["why"]
    assert found["runner_up"] == ""
    one = aggregates.recommendations(cells[cells["learning_rate"] == 1.0]).iloc[0]
    assert one["edge"] == "only"
    assert "Only one learning rate was tried." in one["why"]


def test_the_gap_is_measured_from_the_optimum():
    cells = planted(optimizers=("adam",), outcome=lambda *_: {"final_loss": 3.5})
    assert (aggregates.prepare(cells)["gap"] == 3.5).all(), "losses are not negative: from 0"
    known = aggregates.with_optimum(cells, {"workloads": {"sphere": {"optimum": 3.0}}})
    assert (aggregates.prepare(known)["gap"] == 0.5).all()
    unknown = aggregates.with_optimum(cells, {"workloads": {"sphere": {"optimum": None}}})
    assert (aggregates.prepare(unknown)["gap"] == 3.5).all()
    below = planted(
        optimizers=("adam",), outcome=lambda w, o, r, s: {"final_loss": -2.0 - r, "best_loss": -4}
    )
    assert aggregates.prepare(below)["gap"].tolist() == pytest.approx([1.99] * 10 + [1.9] * 10 + [1.0] * 10)


def test_optimum_of_an_empty_study():
    assert "optimum" in aggregates.with_optimum(pd.DataFrame(), study_json())


def test_the_optimum_comes_before_preparing(small):
    with pytest.raises(ValueError, match="call it before prepare"):
        aggregates.with_optimum(aggregates.prepare(small[0]), study_json())


def test_validation_loss_chooses_where_there_is_one(made):
    curve = aggregates.learning_rate_curve(made[0])
    metrics = curve.groupby("workload")["loss_metric"].unique().str.join(",")
    assert metrics["digits_mlp"] == "validation_loss"
    assert metrics["sphere"] == "final_loss"


def test_curve_and_heatmap_of_one_cell():
    cells = planted(outcome=race)
    heat = by(aggregates.steps_heatmap(cells), optimizer="gradient_descent", learning_rate=1.0)
    assert (heat["n"], heat["hits"], heat["value"]) == (10, 5, np.inf)
    assert heat["ert"] == pytest.approx(512)
    late = cells.assign(steps_to_stay=cells["steps_to_target"] + 7)
    stay = by(aggregates.steps_heatmap(late, stay=True), optimizer="adam", learning_rate=0.1)
    assert stay["value"] == pytest.approx(120.5)
    chosen = aggregates.learning_rate_curve(cells).query("chosen")
    assert chosen["learning_rate"].tolist() == [0.1, 1.0, 0.01]


def widths(w: str, o: str, rate: float, seed: int) -> dict:
    """adam works from 1e-3 to 1, gradient_descent at 0.1 alone and diverges above; nobody hits."""
    if o == "adam":
        return {"status": "budget", "final_loss": 1.0 + 0.01 * seed if 1e-3 <= rate <= 1 else 9.0}
    if rate > 0.1:
        return {"status": "diverged"}
    return {"status": "budget", "final_loss": (1.0 if rate == 0.1 else 5.0) + 0.01 * seed}


def test_a_wide_and_a_narrow_optimizer():
    grid = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    cells = planted(optimizers=("adam", "gradient_descent"), rates=grid, outcome=widths)
    found = aggregates.sensitivity(cells)
    wide, narrow = by(found, optimizer="adam"), by(found, optimizer="gradient_descent")
    assert wide["value"] == wide["low"] == wide["high"] == pytest.approx(3)
    assert (wide["usable_low"], wide["usable_high"], wide["bounded"]) == (1e-3, 1.0, "")
    assert (wide["highest_stable"], wide["lowest_diverging"]) == (10.0, np.inf)
    assert narrow["value"] == 0
    assert (narrow["highest_stable"], narrow["lowest_diverging"]) == (0.1, 1.0)
    cut = aggregates.sensitivity(cells[cells["learning_rate"] < 0.5])
    assert by(cut, optimizer="gradient_descent")["bounded"] == "highest"
    assert by(cut, optimizer="gradient_descent")["edge"] == "highest"


def test_tunability_is_expected_best_of_the_medians():
    grid = (1e-3, 1e-2, 1e-1, 1.0)
    cells = planted(optimizers=("adam", "gradient_descent"), rates=grid, outcome=widths)
    found = aggregates.tunability(cells)
    adam = found[found["optimizer"] == "adam"]
    np.testing.assert_allclose(adam["value"], expected_best(np.full(4, 1.045)))
    assert (adam["usable_chance"] == 1).all()
    gd = found[found["optimizer"] == "gradient_descent"]
    np.testing.assert_allclose(gd["value"], expected_best(np.array([5.045, 5.045, 1.045, np.inf])))
    np.testing.assert_allclose(gd["usable_chance"], [0.25, 0.5, 0.75, 1])
    assert gd["n"].tolist() == [4] * 4


def test_ecdf_counts_every_target_of_every_seed():
    def outcome(_w, o, _r, seed):
        hits = [1, 10, None] if o == "adam" else [2, None, None]
        return {"targets": [1.0, 0.1, 0.01], "hits": hits, "status": "budget", "final_loss": 0.05}

    found = aggregates.ecdf(planted(optimizers=("adam", "momentum"), workloads=("a", "b"), outcome=outcome))
    adam = found[found["optimizer"] == "adam"].set_index("steps")
    assert (adam["n"] == 2 * 10 * 3).all()
    assert adam.loc[0.0, "value"] == 0
    assert adam.loc[1.0, "value"] == pytest.approx(1 / 3)
    assert adam["value"].iloc[-1] == pytest.approx(2 / 3)
    assert adam.index[-1] == 300, "up to the budget"
    assert (adam["low"] == adam["high"]).all(), "all seeds are equal"


def test_profile_and_algoperf_by_hand():
    def outcome(w, o, rate, seed):
        steps = {"a": {"adam": 10, "momentum": 30}, "b": {"adam": None, "momentum": 100}}[w][o]
        if steps is None or rate != 0.1:
            return {"status": "budget", "final_loss": 0.5}
        return {"steps_to_target": steps}

    cells = planted(optimizers=("adam", "momentum"), workloads=("a", "b"), outcome=outcome)
    found = aggregates.profile(cells)
    adam, momentum = (found[found["optimizer"] == o] for o in ("adam", "momentum"))
    assert (adam["value"] == 0.5).all()
    np.testing.assert_array_equal(momentum["value"], np.where(momentum["tau"] < 3, 0.5, 1.0))
    score = aggregates.algoperf(cells)
    assert by(score, optimizer="adam")["value"] == pytest.approx(0.5)
    assert by(score, optimizer="momentum")["value"] == pytest.approx((1 + 1 / 3) / 2)
    assert by(score, optimizer="adam")[["n", "missed", "trials"]].tolist() == [2, 1, 3]


def test_initialisation_by_hand():
    def outcome(_w, o, rate, seed):
        return {"status": "budget", "final_loss": 10.0 ** -(seed if o == "adam" else 1) * (1 + rate)}

    cells = planted(optimizers=("adam", "momentum"), seeds=range(5), outcome=outcome)
    found = aggregates.initialisation(cells)
    assert by(found, optimizer="adam", measure="spread")["value"] == pytest.approx(2)
    assert by(found, optimizer="momentum", measure="spread")["value"] == pytest.approx(0)
    assert by(found, optimizer="adam", measure="missed")["value"] == 1
    assert by(found, optimizer="adam", measure="diverged")["value"] == 0
    parts = found[found["optimizer"] == ""].set_index("measure")
    assert parts["value"].sum() == pytest.approx(1)
    assert (parts["n"] == 30).all()
    alike = planted(
        optimizers=("adam",), outcome=lambda w, o, r, s: {"status": "budget", "final_loss": 1 + s}
    )
    seeds = aggregates.initialisation(alike).set_index("measure")["value"]
    assert seeds["seed_part"] == pytest.approx(1), "nothing but the seed matters"


def test_stability_at_the_recommended_rate():
    def outcome(w, o, rate, seed):
        out = race(w, o, rate, seed)
        return {
            **out,
            "path_length": 10.0 * rate,
            "displacement": 1.0 * rate,
            "turn_backs": rate,
            "tail_std": None,
        }

    found = aggregates.stability(planted(optimizers=("adam",), outcome=outcome)).set_index("measure")
    assert (found["learning_rate"] == 0.1).all()
    assert found.loc["path_length", "value"] == pytest.approx(1)
    assert found.loc["straightness", "value"] == pytest.approx(0.1)
    assert found.loc["turn_backs", "value"] == 0.1
    assert "tail_std" not in found.index, "nobody has it"


def test_generalisation_is_chosen_on_validation():
    def outcome(_w, _o, rate, seed):
        best = rate == 0.1
        losses = {
            "train_loss": 0.1,
            "validation_loss": 0.2 if best else 0.3,
            "test_loss": 0.5 if best else 0.1,
        }
        return {"steps_to_target": 10 if rate == 1.0 else 90, "metrics": {**losses, "test_accuracy": 0.9}}

    found = aggregates.generalisation(planted(optimizers=("adam",), outcome=outcome)).set_index("measure")
    assert (found["learning_rate"] == 0.1).all(), "not the fastest, and not the best on the test data"
    assert found.loc["test_loss", "value"] == 0.5
    assert found.loc["gap_loss", "value"] == pytest.approx(0.4)
    assert found.loc["test_accuracy", "n"] == 10
    assert len(aggregates.generalisation(planted())) == 0, "no metrics, no rows"


def test_a_lost_run_has_the_worst_test_loss():
    def outcome(_w, _o, _r, seed):
        metrics = {"train_loss": 0.1, "validation_loss": 0.2, "test_loss": 0.3, "test_accuracy": 0.9}
        return {"status": "diverged"} if seed < 4 else {"metrics": metrics}

    found = aggregates.generalisation(planted(optimizers=("adam",), outcome=outcome)).set_index("measure")
    assert found.loc["test_loss", ["n", "value", "high"]].tolist() == [10, 0.3, np.inf]
    assert found.loc["test_accuracy", ["value", "low"]].tolist() == [0.9, -np.inf]
    assert found.loc["gap_loss", ["n", "value"]].tolist() == [6, pytest.approx(0.2)]


def test_paired_by_hand():
    found = aggregates.paired(planted(outcome=race))
    steps = by(found, optimizer="adam", other="momentum", measure="steps_to_target")
    assert (steps["value"], steps["n"], steps["improvement"]) == (-30, 10, 1)
    assert steps["p_value"] == pytest.approx(2 / 2**10)
    assert steps["resolved"]
    family = found[found["measure"] == "steps_to_target"]
    assert family["p_holm"].min() == pytest.approx(3 * family["p_value"].min())
    missing = planted(outcome=race)
    missing = missing[(missing["optimizer"] != "adam") | (missing["seed"] < 4)]
    assert by(aggregates.paired(missing), optimizer="adam", other="momentum", measure="loss")["n"] == 4


def test_two_misses_are_equal():
    found = aggregates.paired(planted(outcome=lambda *_: {"status": "diverged"}))
    assert (found["n"] == 0).all(), "no rate to compare at"
    found = aggregates.paired(planted(outcome=lambda *_: {"status": "budget", "final_loss": 0.5}))
    assert (found["value"] == 0).all()
    assert (found["improvement"] == 0.5).all()
    assert (found["p_value"] == 1).all()


def test_over_workloads_by_hand():
    cells = planted(workloads=("a", "b", "c"), outcome=race)
    found = aggregates.ranks(cells)
    assert found["optimizer"].tolist() == ["adam", "momentum", "gradient_descent"]
    assert found["value"].tolist() == [1, 2, 3]
    assert (found["n"] == 3).all()
    assert found["statistic"].iloc[0] == pytest.approx(6)
    overall = aggregates.overall(cells)
    share = by(overall, optimizer="adam", measure="budget_share")
    assert (share["n"], share["value"]) == (30, pytest.approx(113.5 / 300))
    speed = by(overall, optimizer="adam", measure="speed_up")
    assert (speed["n"], speed["value"]) == (3, pytest.approx(512 / 113.5))
    assert speed["reference"] == "gradient_descent"
    beats = by(aggregates.improvement(cells), optimizer="adam", other="momentum")
    assert (beats["n"], beats["value"]) == (3, 1.0)
    assert beats["unpaired"] == 1.0


def test_loss_curves_by_hand():
    def outcome(_w, _o, _r, seed):
        return {
            "status": "diverged" if seed == 3 else "converged",
            "steps_to_target": None if seed == 3 else 9,
        }

    cells = planted(optimizers=("adam",), rates=(0.1,), seeds=range(4), outcome=outcome)
    ids = cells.set_index("seed")["cell_id"]
    curve = {s: {"cell_id": ids[s], "step": [0, 5, 10], "loss": [4.0, 2.0, 1.0 + s]} for s in range(3)}
    curve[1] |= {"step": [0, 5], "loss": [4.0, 2.0]}  # stopped at its target
    curve[3] = {"cell_id": ids[3], "step": [0], "loss": [4.0]}  # diverged
    found = aggregates.loss_curves(curves_frame(curve.values()), cells).set_index("step")
    assert (found["n"] == 4).all()
    assert found.loc[0, ["value", "low", "high"]].tolist() == [4, 4, 4]
    assert found.loc[5, ["value", "low", "high"]].tolist() == [2, 2, np.inf]
    assert found.loc[10, ["value", "low"]].tolist() == [2.5, 1.75]
    assert (found["metric"] == "loss").all()


def test_summary_counts(small):
    cells, _ = small
    found = aggregates.summary(cells)
    assert found["n"].sum() == len(cells)
    assert (found[["converged", "budget", "diverged", "failed"]].sum(axis=1) == found["n"]).all()
    assert found["steps"].sum() == cells["steps"].sum()
    assert (found["seeds"] == 10).all()
    assert (found["learning_rates"] == 4).all()


def test_variants_are_optimizers_of_their_own():
    cells = planted(optimizers=("momentum", "momentum(momentum=0.5)"))
    assert len(aggregates.best_rates(cells)) == 2
