"""What is evaluated at recorded points: kept by a call for many of them, or by the host for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness import Study
from harness.runtime import tensorflow

tensorflow()

from harness import calls, tiling  # noqa: E402
from harness.evaluation import Evaluator  # noqa: E402
from harness.program import LaneProgram  # noqa: E402
from tests.engine.frames import PROVENANCE  # noqa: E402

AVERAGES = f"{Path(__file__).with_name('plugins.py')}:Averages"
FIELDS: dict[str, Any] = {
    "workloads": ["digits_logistic(steps=85)"],  # of the networks the least to compile
    "seeds": 2,
    "record": {"points": 8},  # of 11 steps each, and one of 8
}
POINTS = 9


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[pd.DataFrame], list[int]]]:
    """Runs a study; returns its cells, its curves if it has any, and how many spans calls were asked for."""
    asked: list[int] = []
    advance = LaneProgram.advance

    def counted(lanes: LaneProgram, carry: Any, inputs: Any, spans: int, *rest: Any) -> Any:
        asked.append(spans)
        return advance(lanes, carry, inputs, spans, *rest)

    monkeypatch.setattr(LaneProgram, "advance", counted)

    def once(**fields: Any) -> tuple[list[pd.DataFrame], list[int]]:
        asked.clear()
        given = FIELDS | fields
        results = Study(name="views", **given).run(tmp_path / f"out_{len([*tmp_path.iterdir()])}", workers=1)
        tables = [results.cells(), *[results.curves()] * given["record"].get("curves", True)]
        kept = [table.drop(columns=PROVENANCE, errors="ignore") for table in tables]
        return [table.sort_values("cell_id", ignore_index=True) for table in kept], list(asked)

    return once


TWO, FIVE = [0.1, 1e30], [1e-3, 1e-2, 0.1, 1.0, 1e30]
AFTER_EACH_OTHER = {"lanes": 2}
WHOLE_STRIDES = {"workloads": ["digits_logistic(steps=88)"]}
CASES = {
    "two rates": ("momentum", TWO, True, {}),
    "written out": ("momentum", FIVE, True, {}),
    "others are evaluated": (AVERAGES, FIVE, True, {}),
    "others, by TensorFlow": (AVERAGES, TWO, True, {}),
    "no curves": (AVERAGES, FIVE, False, {}),
    "whole strides": ("momentum", FIVE, True, WHOLE_STRIDES),
    "whole strides, no curves": ("momentum", TWO, False, WHOLE_STRIDES),
    "after each other": ("momentum", TWO, True, AFTER_EACH_OTHER),
}


@pytest.mark.parametrize(("optimizer", "rates", "curves", "more"), CASES.values(), ids=CASES)
def test_many_points_at_once_are_one_after_another(
    optimizer: str,
    rates: list[float],
    curves: bool,
    more: dict[str, Any],
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = {"points": 8, "curves": curves}
    fields = {"optimizers": [optimizer], "learning_rates": rates, "record": record} | more
    at_once, asked = run(**fields)
    monkeypatch.setattr(calls, "MAX_STRIDES_EVALUATED", 2)
    monkeypatch.setattr(tiling, "BYTES_OF_VIEWS", tiling.BYTES_OF_VIEWS - 1)  # is not that program
    by_two, more_calls = run(**fields)
    monkeypatch.setattr(tiling, "BYTES_OF_VIEWS", 0)
    one_by_one, most_calls = run(**fields)
    assert len(asked) < len(more_calls) < len(most_calls)
    assert max(asked) >= 6 and max(more_calls) <= 3 and max(most_calls) == 1  # with a last look at the end
    assert "diverged" in set(at_once[0]["status"])
    if curves:
        losses = at_once[1]["validation_loss"]
        assert max(np.unique(values[np.isfinite(values)]).size for values in losses) == POINTS
    # Another program for XLA, which may round a loss another way.
    for other in (by_two, one_by_one):
        for ours, theirs in zip(at_once, other, strict=True):
            pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5)


def test_runs_that_end_at_their_target_are_evaluated_before_they_go_on(run: Any) -> None:
    (cells, *_), calls = run(optimizers=["adam"], learning_rates=[1e-2], stop="target")
    assert max(calls) == 1
    assert len(calls) >= POINTS
    assert set(cells["steps"]) == {85}


@pytest.mark.parametrize("curves", [True, False])
def test_a_metric_that_nobody_asks_for_is_not_looked_at(curves: bool, run: Any) -> None:
    workload = f"{AVERAGES.removesuffix('Averages')}ByLoss(steps=85)"
    fields = {"workloads": [workload], "optimizers": ["adam"], "learning_rates": [1e-2]}
    looked: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        monitor = Evaluator.monitor
        patch.setattr(Evaluator, "monitor", lambda *args: looked.append(args) or monitor(*args))
        run(**fields, record={"points": 8, "curves": curves})
    assert len(looked) > POINTS if curves else len(looked) <= 1  # one to compile it


def test_slow_steps_bring_a_call_back_early(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "SECONDS_PER_CALL", 0.0)
    _, calls = run(optimizers=["adam"], learning_rates=[1e-2])
    assert max(calls) == 1


def test_what_is_large_is_not_kept(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "BYTES_OF_VIEWS", 2000)
    _, calls = run(optimizers=["adam"], learning_rates=[1e-2])
    assert max(calls) == 1
