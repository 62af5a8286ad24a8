"""What a call's steps draw, drawn ahead of them: against what each step draws by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from harness import Study, draws, tiling
from harness.draws import Drawing
from harness.strategies import Placement
from harness.tilerun import TileRun
from harness.types import Lanes
from harness.worker import Programs
from workloads.digits_mlp import DigitsMlp
from workloads.rosenbrock import Rosenbrock


@dataclass(frozen=True)
class Shifted(DigitsMlp):
    """A batch of its own, beside draws that are not its."""

    def batch(self, seed, step):
        batch = super().batch(seed, step)
        return batch._replace(images=batch.images + 1.0)


@dataclass(frozen=True)
class Paired(DigitsMlp):
    """The same batches, of draws in a nest."""

    def draws(self, seed, steps):
        rows = super().draws(seed, steps)
        return {"even": rows[:, ::2], "odd": rows[:, 1::2]}

    def batch_of(self, draw):
        rows = draw if isinstance(draw, tf.Tensor) else tf.stack([draw["even"], draw["odd"]], 1)
        return super().batch_of(tf.reshape(rows, [-1]))


def run(programs: Programs, **fields: Any) -> np.ndarray:
    """What the cells of a study end at, and the steps they take, [cells, 3]."""
    found, curves = {}, fields.get("record", {}).get("curves", True)
    for tile in Study(name="draws", **fields).plan().tiles:
        warm, _ = programs.get(tile.program)
        made = TileRun(warm, tile.cells, programs.placement.run, curves=curves)
        made.run()
        book = made.ledger
        for cell, *values in zip(tile.cells, book.final, book.steps, book.displacement, strict=True):
            found[cell.cell_id] = values
    return np.array([found[key] for key in sorted(found)])


@pytest.fixture
def programs() -> Programs:
    return Programs(Placement("one_device", ["CPU:0"]))


@pytest.mark.parametrize(
    "workload", [DigitsMlp(batch_size=5), Paired(batch_size=4), Rosenbrock(noise=0.1)], ids=repr
)
def test_each_step_of_each_group_draws_its_own(workload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "TOGETHER", 4)
    drawing = Drawing.of(workload)
    assert drawing is not None
    seeds, steps = np.array([7, 0, 2], np.int32), np.array([0, 40, 9], np.int32)
    drawn = drawing.ahead(3, 10)(seeds, steps, 6)
    for group in range(3):
        for row in range(6):
            one = tf.nest.map_structure(lambda leaf, g=group, r=row: leaf[g, r], drawn)
            made, own = workload.batch_of(one), workload.batch(seeds[group], steps[group] + row)
            for a, b in zip(tf.nest.flatten(made), tf.nest.flatten(own), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6)


def test_no_more_is_drawn_than_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "TOGETHER", 4)
    drawing = Drawing.of(DigitsMlp(batch_size=50))
    assert drawing is not None and drawing.bytes == 200
    drawn = drawing.ahead(2, 12)(np.zeros(2, np.int32), np.zeros(2, np.int32), 5)
    assert drawn.shape == (2, 12, 50)
    assert np.any(drawn[:, :8], axis=(1, 2)).all() and not np.any(drawn[:, 8:])


FIELDS: dict[str, dict[str, Any]] = {
    "network": {"workloads": ["digits_logistic(batch_size=8, steps=60)"], "seeds": 2},
    "groups": {"workloads": ["digits_logistic(batch_size=8, steps=60)"], "seeds": 9},
    "written out": {"workloads": ["digits_logistic(batch_size=8, steps=60)"], "seeds": 2, "lanes": 16},
    "noise": {"workloads": ["quadratic(dimension=3, noise=0.1, steps=300)"], "seeds": 5},
    "to the target": {
        "workloads": ["quadratic(dimension=3, noise=0.1, steps=300)"],
        "seeds": 5, "stop": "target", "lanes": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("case", FIELDS)
@pytest.mark.parametrize("curves", [True, False], ids=["curves", "no curves"])
def test_runs_are_those_whose_steps_draw_by_themselves(
    case: str, curves: bool, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {
        "optimizers": ["adam"],
        "learning_rates": [0.003, 0.03],
        "record": {"curves": curves, "points": 7},
    }
    fields |= FIELDS[case]
    ahead = run(programs, **fields)
    assert all(warm.compiled.draws is not None for warm in programs._warm.values())
    monkeypatch.setattr(Drawing, "of", lambda *_: None)
    others = Programs(Placement("one_device", ["CPU:0"]))
    alone = run(others, **fields)
    assert all(warm.compiled.draws is None for warm in others._warm.values())
    np.testing.assert_array_equal(ahead[:, 1], alone[:, 1])
    np.testing.assert_allclose(ahead, alone, rtol=1e-5)  # other programs, which XLA may sum in other ways


def test_calls_are_as_long_as_draws_can_be_held(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"workloads": ["digits_logistic(batch_size=50, steps=60)"], "optimizers": ["adam"]}
    fields |= {"learning_rates": [0.01], "seeds": 2, "record": {"points": 3, "curves": False}}
    whole = run(programs, **fields)
    monkeypatch.setattr(tiling, "BYTES_OF_DRAWS", 2 * 200 * 25)
    few = Programs(Placement("one_device", ["CPU:0"]))
    np.testing.assert_array_equal(run(few, **fields), whole)
    (warm,) = few._warm.values()
    assert warm.compiled.calls.spans * warm.compiled.plan.span <= 25


def test_groups_draw_from_where_each_of_them_stands(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {
        "workloads": ["quadratic(dimension=3, noise=0.1, steps=200)"],
        "optimizers": ["gradient_descent"],
    }
    fields |= {"learning_rates": [0.01], "seeds": 9, "stop": "target", "record": {"points": 8}}
    (program,) = Study(name="groups", **fields).plan().programs.values()
    program = replace(program, lanes=Lanes(3, 1))
    cells = [cell for tile in Study(name="groups", **fields).plan().tiles for cell in tile.cells]
    asked = []
    call = draws.Draws.__call__
    monkeypatch.setattr(
        draws.Draws, "__call__", lambda self, *args: asked.append([*args[1]]) or call(self, *args)
    )

    def ends(programs: Programs) -> np.ndarray:
        made = TileRun(programs.get(program)[0], cells, programs.placement.run)
        made.run()
        return np.array([made.ledger.final, made.ledger.steps])

    ahead = ends(programs)
    assert any(len(set(steps)) > 1 for steps in asked)  # runs that began where others ended
    monkeypatch.setattr(Drawing, "of", lambda *_: None)
    np.testing.assert_allclose(ahead, ends(Programs(Placement("one_device", ["CPU:0"]))), rtol=1e-5)


def test_optimizers_share_what_draws(programs: Programs) -> None:
    fields = {
        "workloads": ["digits_logistic(batch_size=8, steps=20)"],
        "learning_rates": [0.01],
        "seeds": 2,
    }
    run(programs, optimizers=["adam", "momentum"], **fields)
    one, other = (warm.compiled.draws for warm in programs._warm.values())
    assert one is other and one is not None


def test_a_batch_written_anew_is_what_is_trained_on() -> None:
    assert Drawing.of(DigitsMlp()) is not None
    assert Drawing.of(Shifted()) is None


class Late(DigitsMlp):
    """Another batch, but not at first."""

    def batch(self, seed, step):
        batch = super().batch(seed, step)
        return batch._replace(images=tf.where(tf.convert_to_tensor(step) == 20, 0.0, 1.0) * batch.images)


class Faulty(DigitsMlp):
    def draws(self, seed, steps):
        raise NotImplementedError


class Much(DigitsMlp):
    def draws(self, seed, steps):
        return tf.zeros([len(steps), draws.LARGE], tf.int32)

    def batch_of(self, draw):
        return self.batch(3, 5)

    def batch(self, seed, step):
        return DigitsMlp.batch_of(self, tf.zeros([64], tf.int32))


@pytest.mark.parametrize("workload", [Late(), Faulty(), Much(), Rosenbrock()], ids=lambda w: type(w).__name__)
def test_what_is_not_drawn_ahead(workload: Any) -> None:
    assert Drawing.of(workload) is None


EAGER = """
from dataclasses import dataclass

import tensorflow as tf

from workloads.digits_logistic import DigitsLogistic


@dataclass(frozen=True)
class Own(DigitsLogistic):
    batch_size: int = 8

    def draws(self, seed, steps):
        return tf.stack([self._rows(seed, STEP) for step in tf.unstack(steps)])

    def batch_of(self, draw):
        return super().batch_of(OF)

    def batch(self, seed, step):
        return self.batch_of(self._rows(seed, step))

    def _rows(self, seed, step):
        step = tf.cast(step, tf.int32)
        return (tf.range(self.batch_size) * 7 + step * (step + tf.cast(seed, tf.int32)) + SHIFT) % 1085
"""


def plugin(folder: Path, **words: str) -> str:
    """A workload of this text in a file of its own, as a study writes it."""
    text = EAGER
    for word, meant in ({"STEP": "step", "OF": "draw", "SHIFT": "0"} | words).items():
        text = text.replace(word, meant)
    folder.mkdir()
    (folder / "own.py").write_text(text)
    return f"{folder / 'own.py'}:Own"


FAULTS = {
    "cannot be traced": {"STEP": "int(step)"},
    "has no vectorised form": {"OF": "draw + 0 * tf.cast(tf.raw_ops.PopulationCount(x=draw), tf.int32)"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_only_runs_by_itself(fault: str, tmp_path: Path, programs: Programs, monkeypatch: Any) -> None:
    fields = {"workloads": [plugin(tmp_path / "a", **FAULTS[fault])], "optimizers": ["adam"], "seeds": 9}
    fields |= {"learning_rates": [0.01], "steps": 12}
    found = run(programs, **fields)
    assert [warm.note for warm in programs._warm.values()] == [""]
    monkeypatch.setattr(Drawing, "of", lambda *_: None)
    np.testing.assert_allclose(found, run(Programs(Placement("one_device", ["CPU:0"])), **fields), rtol=1e-5)


def test_plug_ins_of_one_name_draw_their_own(tmp_path: Path, programs: Programs) -> None:
    fields = {"optimizers": ["adam"], "learning_rates": [0.01], "seeds": 2, "steps": 12}
    one, other = plugin(tmp_path / "a"), plugin(tmp_path / "b", SHIFT="500")
    first, second = (run(programs, workloads=[path], **fields) for path in (one, other))
    assert np.all(first[:, 0] != second[:, 0])
    alone = run(Programs(Placement("one_device", ["CPU:0"])), workloads=[other], **fields)
    np.testing.assert_array_equal(second, alone)


def test_a_batch_in_another_structure_is_not_drawn_ahead() -> None:
    class Bare(DigitsMlp):
        def batch_of(self, draw):
            return tuple(super().batch_of(draw))

        def batch(self, seed, step):
            return DigitsMlp.batch_of(self, self.draws(seed, tf.constant([step]))[0])

    assert Drawing.of(Bare()) is None
