"""When a call ends while runs wait for a place: once lanes that are done have waited for long enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import Study
from harness.runtime import tensorflow

tensorflow()

from harness.program import LONGEST_PATIENCE  # noqa: E402
from harness.strategies import Placement  # noqa: E402
from harness.tilerun import TileRun  # noqa: E402
from harness.worker import Programs, Warm  # noqa: E402

LANES = 8
FIELDS: dict[str, Any] = {
    "workloads": ["quadratic(dimension=4, condition=4.0, steps=2000)"],
    "optimizers": ["gradient_descent"],
    "learning_rates": list(np.geomspace(1e-3, 1e-1, 12)),
    "seeds": 6,
    "lanes": LANES,
    "stop": "target",
    "record": {"curves": False},
}


@pytest.fixture(scope="module")
def warm() -> Warm:
    (program,) = Study(name="waits", **FIELDS).plan().programs.values()
    return Programs(Placement("one_device", ["CPU:0"])).get(program)[0]


def run(warm: Warm, patch: pytest.MonkeyPatch) -> tuple[list[bytes], list[tuple[int, int]]]:
    """What all cells came to; of each call, how long lanes might wait and how long they did, in steps."""
    cells = tuple(c for tile in Study(name="waits", **FIELDS).plan().tiles for c in tile.cells)
    calls = []
    advance = type(warm.compiled).advance

    def counted(carry: Any, inputs: Any, spans: int, steps: int, patience: int) -> Any:
        ran, found = advance(warm.compiled, carry, inputs, spans, steps, patience)
        seen = np.asarray(found.seen)[np.asarray(inputs.go)]
        calls.append((patience, int((ran.steps - seen).sum())))
        return ran, found

    with patch.context() as patched:
        patched.setattr(warm.compiled, "advance", counted)
        made = TileRun(warm, cells, Placement("one_device", ["CPU:0"]).run, curves=False)
        made.run()
    return [np.asarray(values).tobytes() for values in vars(made.ledger).values()], calls


def test_lanes_that_are_done_wait_no_longer_than_they_may(
    warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for patience in (0, 20 * LANES, 10**6):
        waiting = lambda tile, most=patience: most if tile.seats.waiting else LONGEST_PATIENCE  # noqa: E731
        monkeypatch.setattr(TileRun, "_patience", waiting)
        found[patience] = run(warm, monkeypatch)
    results, calls = zip(*found.values(), strict=True)
    assert results[0] == results[1] == results[2]  # to the bit
    assert len(calls[0]) > len(calls[1]) > len(calls[2])
    span = warm.compiled.plan.span
    for made in calls:
        assert made[-1][0] == LONGEST_PATIENCE
        assert all(waited <= patience + LANES * span for patience, waited in made)
    assert max(waited for _, waited in calls[2]) > max(waited for _, waited in calls[0])


def test_they_may_wait_for_as_long_as_a_visit_takes(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = tuple(c for tile in Study(name="waits", **FIELDS).plan().tiles for c in tile.cells)
    made = TileRun(warm, cells, Placement("one_device", ["CPU:0"]).run, curves=False)
    monkeypatch.setattr(warm.compiled, "seconds_per_step", None)
    assert made._patience() == warm.compiled.plan.span * LANES
    monkeypatch.setattr(warm.compiled, "seconds_per_step", 2e-6)
    made.visit_seconds = 1e-3
    made._visited(5e-3, 1000)  # of which 2 are the steps'
    assert made.visit_seconds == pytest.approx(2e-3)
    assert made._patience() == pytest.approx(1000 * LANES)
    made.seats.fill()
    made.seats.taken = len(made.seats.queue)
    assert made._patience() == LONGEST_PATIENCE  # nobody waits for a place


def test_visits_and_paces_are_measured(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm.compiled, "seconds_per_step", None)
    asked: list[int] = []
    patience = TileRun._patience
    monkeypatch.setattr(TileRun, "_patience", lambda tile: asked.append(patience(tile)) or asked[-1])
    run(warm, monkeypatch)
    assert warm.compiled.seconds_per_step is not None and warm.compiled.seconds_per_step > 0
    assert asked[0] == warm.compiled.plan.span * LANES and asked[-1] == LONGEST_PATIENCE
    assert len({*asked}) > 2
