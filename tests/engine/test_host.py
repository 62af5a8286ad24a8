"""Threads take turns at the host's part of a tile, and one that fails leaves the turn to the others."""

from __future__ import annotations

from typing import Any

import pytest

from harness import Study
from harness.runtime import tensorflow

tensorflow()

from harness import tilerun  # noqa: E402
from harness.strategies import Placement  # noqa: E402
from harness.tilerun import Stopped, TileRun  # noqa: E402
from harness.worker import Programs  # noqa: E402

FIELDS: dict[str, Any] = {"optimizers": ["adam"], "learning_rates": [1e-2], "seeds": 2}


@pytest.mark.parametrize("workload", ["rosenbrock(steps=30)", "digits_logistic(steps=6)"])
def test_a_device_works_while_others_prepare(workload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(Placement("one_device", ["CPU:0"]))
    (tile,) = Study(name="host", workloads=[workload], **FIELDS).plan().tiles
    warm, _ = programs.get(tile.program)
    free = []
    advance = warm.compiled.advance

    def seen(*args: Any) -> Any:
        free.append(not tilerun._HOST.locked())
        return advance(*args)

    monkeypatch.setattr(warm.compiled, "advance", seen)
    TileRun(warm, tile.cells, programs.placement.run).run()
    assert free and all(free)
    assert not tilerun._HOST.locked()


def test_what_raises_leaves_the_turn_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(Placement("one_device", ["CPU:0"]))
    (tile,) = Study(name="host", workloads=["rosenbrock(steps=30)"], **FIELDS).plan().tiles
    warm, _ = programs.get(tile.program)
    with pytest.raises(Stopped):
        TileRun(warm, tile.cells, programs.placement.run, stopped=lambda: True).run()
    assert not tilerun._HOST.locked()

    def fails(*args: Any) -> Any:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(warm.compiled, "advance", fails)
    with pytest.raises(RuntimeError, match="gone"):
        TileRun(warm, tile.cells, programs.placement.run).run()
    assert not tilerun._HOST.locked()
