"""What is read from a trace, against a look at every row of it; calls shorter than what a run records."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness import Study, tiling
from harness.runtime import tensorflow
from tests.engine.frames import PROVENANCE

tf = tensorflow()

from harness.bookkeeping import (  # noqa: E402
    BLOCK,
    Bookkeeper,
    Form,
    Found,
    distances,
    look_through_by_host,
)
from harness.segments import LADDER  # noqa: E402
from harness.strategies import Placement  # noqa: E402
from harness.tilerun import TileRun  # noqa: E402
from harness.worker import Programs  # noqa: E402

LANES, ROWS = 24, 3 * BLOCK
RNG = np.random.default_rng(7)


def row_by_row(found: Found, step: np.ndarray, trace: np.ndarray, targets: np.ndarray) -> Found:
    """The same, lane by lane and row by row."""
    best, best_step, hits, last_miss, final, seen = (np.array(each) for each in found)
    for lane in range(trace.shape[1]):
        for i, value in enumerate(trace[:, lane]):
            if not np.isfinite(value):
                continue
            seen[lane], final[lane] = seen[lane] + 1, value
            if value > targets[-1, lane]:
                last_miss[lane] = step[lane] + i
            if value < best[lane]:
                best[lane], best_step[lane] = value, step[lane] + i
            new = (hits[:, lane] < 0) & (value <= targets[:, lane])
            hits[new, lane] = step[lane] + i
    return Found(best, best_step, hits, last_miss, final, seen)


@pytest.mark.parametrize("how", ["compiled", "not compiled", "by the host"])
def test_what_is_found_in_two_calls_one_after_another(how: str) -> None:
    books = Bookkeeper(Form(LANES, ROWS, tf.float64, how == "compiled"))
    books.compile().result()

    def look(found: Found, step: np.ndarray, trace: np.ndarray, count: int, targets: np.ndarray) -> Found:
        if how == "by the host":
            return look_through_by_host(found, step, trace, count, targets)
        books.trace.mine.put(tf.constant(trace))
        return books._look(books.trace.mine.handles, found, step, np.int32(count), targets)

    targets = np.sort(RNG.uniform(-1, 1, (LADDER, LANES)), 0)[::-1].copy()
    step = RNG.integers(0, 9, LANES).astype(np.int32)
    none = np.zeros(LANES, np.int32)
    hits = np.full((LADDER, LANES), -1, np.int32)
    found = Found(np.full(LANES, np.inf), none, hits, none - 1, np.zeros(LANES), none)
    expected = found
    for count in (ROWS - 7, 1, BLOCK, 0, 2, ROWS):
        # Some lanes end, some never begin, some see one value twice, and zeros of either sign.
        trace = RNG.uniform(-1, 2, (ROWS, LANES)).round(1)
        trace[:, : LANES // 2] = np.maximum(trace[:, : LANES // 2], 0) * RNG.choice([-1, 1], (ROWS, 1))
        trace[np.arange(ROWS)[:, None] >= RNG.integers(0, 2 * ROWS, LANES)] = np.inf
        found = look(found, step, trace, count, targets)
        expected = row_by_row(expected, step, trace[:count], targets)
        for name, ours, theirs in zip(Found._fields, found, expected, strict=True):
            assert np.asarray(ours).dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs, name)
            assert np.asarray(ours).tobytes() == theirs.tobytes()
        step = step + np.int32(count)


def test_rows_are_the_same_whoever_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frame(out: str) -> pd.DataFrame:
        rows = Study(name="looks", **FUNCTION).run(tmp_path / out, workers=2).cells()
        return rows.drop(columns=PROVENANCE, errors="ignore").sort_values("cell_id", ignore_index=True)

    compiled, asked = frame("compiled"), []

    def never_done(books: Bookkeeper, run: Any = None) -> Future[None]:
        asked.append(books)
        books._compiled = Future()
        return books._compiled

    monkeypatch.setattr(Bookkeeper, "compile", never_done)
    monkeypatch.setattr(Bookkeeper, "_look_through", None)
    pd.testing.assert_frame_equal(frame("by the host"), compiled, check_exact=True)
    assert asked


def test_where_the_program_cannot_be_compiled_the_host_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise ValueError("no such operation")

    def frame(out: str) -> pd.DataFrame:
        rows = Study(name="fails", **FUNCTION).run(tmp_path / out, workers=1).cells()
        return rows.drop(columns=PROVENANCE, errors="ignore").sort_values("cell_id", ignore_index=True)

    expected = frame("compiled")
    monkeypatch.setattr(Bookkeeper, "_idle", refuses)
    pd.testing.assert_frame_equal(frame("by the host"), expected, check_exact=True)


def test_distances_of_runs() -> None:
    now = {"a": RNG.normal(size=(5, 3, 2)).astype(np.float32), "b": RNG.normal(size=5)}
    start = {"a": np.zeros((5, 3, 2), np.float32), "b": np.ones(5)}
    displacement, spread = distances(now, start, np.array([0, 1, 2, 3, 4]), np.arange(5.0))
    for k in range(5):
        moved = np.append(now["a"][k].ravel().astype(np.float64), now["b"][k] - 1)
        assert displacement[k] == pytest.approx(np.linalg.norm(moved), rel=1e-12)
        assert spread[k] == pytest.approx(np.sqrt(k / (max(1, k) * 7)))


FUNCTION: dict[str, Any] = {
    "workloads": ["quadratic(dimension=4, condition=4.0, steps=230)"],
    "optimizers": ["momentum"],
    "learning_rates": [1e-3, 1e-2, 1e-1, 10.0],
    "seeds": 6,
    "lanes": 8,
    "record": {"points": 2},
}
NETWORK = FUNCTION | {"workloads": ["digits_mlp(hidden=[4], steps=230)"], "seeds": 2}
STUDIES = [FUNCTION, FUNCTION | {"stop": "target"}, NETWORK]


@pytest.mark.parametrize("fields", STUDIES, ids=["budget", "target", "network"])
@pytest.mark.parametrize("curves", [True, False])
def test_calls_shorter_than_what_a_run_records(
    fields: dict[str, Any], curves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames(out: str) -> list[pd.DataFrame]:
        record = fields["record"] | {"curves": curves}
        results = Study(name="calls", **fields | {"record": record}).run(tmp_path / out, workers=1)
        tables = [results.cells(), results.curves()] if curves else [results.cells()]
        kept = [table.drop(columns=PROVENANCE, errors="ignore") for table in tables]
        return [table.sort_values("cell_id", ignore_index=True) for table in kept]

    whole = frames("whole")
    monkeypatch.setattr(tiling, "VALUES_PER_CALL", 40 * fields["lanes"])
    assert tiling.LONGEST_SPAN < 40 < 115  # a stride is several calls, a call more than a span or one
    # Another length of calls is another program for XLA, which may round a loss another way.
    for one, other in zip(whole, frames("short"), strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-5)


@pytest.mark.parametrize("workload", ["digits_mlp(hidden=[16], steps=120)", "rosenbrock(steps=120)"])
@pytest.mark.parametrize("stop", ["budget", "target"])
def test_steps_that_nobody_made_are_not_read(workload: str, stop: str) -> None:
    """All lanes of a tile end early, after one that has filled the trace."""
    rates = [1e-5, 1e12]
    study = Study(
        name="early",
        workloads=[workload],
        optimizers=["momentum"],
        learning_rates=rates,
        seeds=16,
        lanes=16,
        stop=stop,
        record={"curves": False},
    )
    planned = study.plan()
    (key,) = planned.programs
    programs = Programs(Placement("one_device", ["CPU:0"]))
    warm, _ = programs.get(planned.programs[key])
    cells = [cell for tile in planned.tiles for cell in tile.cells]
    steps = []
    for rate in rates:
        those = tuple(cell for cell in cells if cell.learning_rate == rate)
        run = TileRun(warm, those, programs.placement.run, curves=False)
        run.run()
        steps.append(run.ledger.steps)
    assert len(steps[1]) == 16 and run.ledger.diverged.all() and (run.ledger.last_miss <= steps[1]).all()
    assert (steps[0] == 120).all() and (steps[1] < 8).all(), steps[1]
