"""What the device sums, against a plain NumPy loop of the same run, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

from harness import Study
from harness.metrics.stability import stability
from harness.types import UsageError

START = (-1.2, 1.0)


def numpy_run(learning_rate: float, momentum: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Heavy-ball momentum on scipy's own Rosenbrock: points [steps + 1, 2] and losses [steps + 1]."""
    x, velocity = np.array(START), np.zeros(2)
    points = [x]
    for _ in range(steps):
        velocity = momentum * velocity + scipy.optimize.rosen_der(x)
        x = x - learning_rate * velocity
        points.append(x)
    return np.array(points), np.array([scipy.optimize.rosen(p) for p in points])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    study = Study(
        name="rows",
        workloads=["rosenbrock(start=[-1.2, 1.0], steps=257, target=0.1)"],
        optimizers=["momentum(momentum=[0.0, 0.9])"],
        learning_rates=[1e-5, 2e-4, 1e-3, 1.9e-3, 5e-3],
        seeds=1,
        dtype="float64",
    )
    return study.run(tmp_path_factory.mktemp("rows") / "out")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("learning_rate", [1e-5, 2e-4, 1e-3])
def test_a_row_is_what_a_plain_loop_gives(results: Any, learning_rate: float, momentum: float) -> None:
    row = _row(results.cells(), learning_rate, momentum)
    points, losses = numpy_run(learning_rate, momentum, 257)
    assert row.steps == 257
    assert row.final_loss == pytest.approx(losses[-1], rel=1e-9)
    assert row.best_loss == pytest.approx(losses.min(), rel=1e-9)
    assert row.best_step == losses.argmin()
    assert row.initial_loss == pytest.approx(24.2)
    assert row.initial_gradient_norm == pytest.approx(np.linalg.norm(scipy.optimize.rosen_der(START)))
    below = np.flatnonzero(losses <= 0.1)
    assert _whole(row.steps_to_target) == (below[0] if below.size else None)
    last_above = np.flatnonzero(losses > 0.1)[-1]
    stays = losses[-1] <= 0.1
    assert _whole(row.steps_to_stay) == (last_above + 1 if stays else None)
    assert row.status == ("converged" if below.size else "budget")
    for target, hit in zip(row.targets, row.hits, strict=True):
        reached = np.flatnonzero(losses <= target)
        assert _whole(hit) == (reached[0] if reached.size else None)
    known = stability(points)
    assert row.path_length == pytest.approx(known.path_length, rel=1e-9)
    assert row.displacement == pytest.approx(known.displacement, rel=1e-9)
    assert row.turn_backs == pytest.approx(known.turn_backs, abs=1e-12)
    assert row.tail_std == pytest.approx(known.tail_std, rel=1e-6)


def test_curves_carry_the_loss_before_the_update(results: Any) -> None:
    row = _row(results.cells(), 1e-3, 0.9)
    curve = results.curves([row.cell_id]).iloc[0]
    points, losses = numpy_run(1e-3, 0.9, 257)
    steps = curve.step
    assert steps[0] == 0 and steps[-1] == 257 and list(steps[:5]) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(curve.loss, losses[steps], rtol=1e-6)
    np.testing.assert_allclose(np.stack([curve.x, curve.y], 1), points[steps], rtol=1e-5, atol=1e-6)
    gradients = [np.linalg.norm(scipy.optimize.rosen_der(p)) for p in points[steps]]
    np.testing.assert_allclose(curve.gradient_norm, gradients, rtol=1e-5)
    moves = np.linalg.norm(np.diff(points, axis=0), axis=1)
    np.testing.assert_allclose(curve.update_norm[:-1], moves[steps[:-1]], rtol=1e-5)


def test_a_run_that_diverges_is_frozen_where_it_left(results: Any) -> None:
    row = _row(results.cells(), 5e-3, 0.9)
    with np.errstate(over="ignore", invalid="ignore"):
        _, losses = numpy_run(5e-3, 0.9, 60)
    left = np.flatnonzero(~(losses <= 1e6 * 24.2))[0]
    assert (row.status, row.steps) == ("diverged", left)
    assert np.isinf(row.final_loss) and pd.isna(row.steps_to_stay) and pd.isna(row.tail_std)
    assert row.best_loss == pytest.approx(losses[:left].min())


def test_tidy_curves_name_every_point(results: Any) -> None:
    tidy = results.tidy_curves()
    assert {"workload", "optimizer", "learning_rate", "seed", "step", "loss", "x", "y"} <= set(tidy)
    assert len(tidy) == sum(len(s) for s in results.curves().step)


def test_some_curves_are_read_without_the_others(results: Any) -> None:
    every = results.curves()
    some = list(every.cell_id[1::2])
    found = results.curves(some)
    pd.testing.assert_frame_equal(found, every[1::2].reset_index(drop=True))
    assert results.curves([]).empty


def _row(cells: pd.DataFrame, learning_rate: float, momentum: float) -> Any:
    chosen = cells["optimizer_params"].str.contains(f'"momentum":{momentum}', regex=False)
    found = cells[chosen & np.isclose(cells["learning_rate"], learning_rate)]
    assert len(found) == 1
    return found.iloc[0]


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def test_a_notebook_gets_any_figure_of_the_report(results: Any) -> None:
    drawing = results.figure("learning_rate", dark=True)
    assert drawing.theme == "dark" and drawing.figures and "<img" in drawing._repr_html_()
    with pytest.raises(UsageError, match=r"unknown figure 'learning_rates': did you mean 'learning_rate'"):
        results.figure("learning_rates")
    with pytest.raises(UsageError, match="nothing to draw in 'generalisation'"):
        results.figure("generalisation")
