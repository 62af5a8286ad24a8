"""Graphs kept for the next process: read where they were traced before, and traced where that must be."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import Study, graphs
from harness.runtime import tensorflow
from harness.strategies import Placement
from harness.tilerun import TileRun
from harness.worker import Programs
from tests.engine import plugins

tf = tensorflow()

FIELDS: dict[str, Any] = {
    "workloads": ["rosenbrock(steps=30)", "digits_mlp(hidden=[4], steps=6)"],
    "optimizers": ["adam(beta_1=[0.8, 0.9])"],
    "learning_rates": [1e-3, 1e-2],
    "seeds": 2,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPTGRID_CACHE", str(tmp_path))
    return tmp_path / "graphs"


def run(fields: dict[str, Any] = FIELDS) -> tuple[list[int], list[list[float]]]:
    """How often each program was traced by a process that knows nothing yet, and what its cells ended at."""
    programs = Programs(Placement("one_device", ["CPU:0"]))
    traces, finals = [], []
    for tile in Study(name="graphs", **fields).plan().tiles:
        warm, _ = programs.get(tile.program)
        made = TileRun(warm, tile.cells, programs.placement.run)
        made.run()
        traces.append(warm.compiled.traces)
        finals.append([*made.ledger.final, *made.ledger.displacement, *made.metrics.get("test_loss", ())])
    return traces, finals


def test_read_where_they_were_traced_before(cache: Path) -> None:
    traced, first = run()
    assert set(traced) == {1}
    assert {path.name for path in cache.glob("*/*")} == {
        "advance_lanes",
        "begin",
        "drawn",
        "look_through",
        "monitor",
        "evaluate",
    }
    read, second = run()
    assert set(read) == {0}
    assert first == second


def test_a_file_that_was_cut_short(cache: Path) -> None:
    _, first = run()
    for path in cache.glob("*/*"):
        path.write_bytes(path.read_bytes()[:100])
    traced, second = run()
    assert set(traced) == {1}
    assert first == second


def test_other_code_is_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(graphs, "_code", lambda: "changed")
    assert set(run()[0]) == {1}


def test_plug_ins_are_traced_anew(cache: Path) -> None:
    own = FIELDS | {"optimizers": [f"{plugins.__file__}:Good"], "workloads": ["rosenbrock(steps=30)"]}
    assert set(run(own)[0]) == {1}
    assert set(run(own)[0]) == {1}
    assert {path.name for path in cache.glob("*/*")} == {"look_through"}  # which knows nothing of them


@pytest.mark.parametrize("place", [None, graphs.Place("0123456789abcdef", None)], ids=["unnamed", "named"])
def test_side_effects_of_a_plug_in_happen_in_order(place: graphs.Place | None) -> None:
    calls = tf.Variable(0)

    def once(i: Any, x: Any) -> Any:
        before = tf.cast(calls, tf.float32)
        calls.assign_add(1)
        return i + 1, x + 10.0 * before + tf.cast(calls, tf.float32)

    def count(x: Any) -> Any:
        return tf.while_loop(lambda i, _: i < 3, once, (tf.constant(0), x))[1]

    graph = graphs.Graph(count, 0, jit=True, name="count", place=place)
    assert float(graph(tf.constant(0.0))) == 10 * (0 + 1 + 2) + (1 + 2 + 3)
    assert float(graph(tf.constant(0.0))) == 10 * (3 + 4 + 5) + (4 + 5 + 6)
    assert int(calls) == 6


class Pair(NamedTuple):
    left: Any
    right: Any


@pytest.mark.parametrize(
    "like",
    [
        0,
        (),
        {"b": 0, "a": [0, (0, 0)]},
        Pair({"z": 0, "y": 0}, ()),
        [Pair(0, {"k": (0,)}), OrderedDict(b=0, a=0)],
    ],
)
def test_packing_is_that_of_nest(like: Any) -> None:
    leaves = list(range(10, 10 + len(tf.nest.flatten(like))))
    made, wanted = graphs.packer(like)(iter(leaves)), tf.nest.pack_sequence_as(like, leaves)
    assert made == wanted and type(made) is type(wanted)


@pytest.mark.parametrize(
    ("fn", "fixed"),
    [
        (lambda x: tf.zeros_like(x), True),
        (lambda x: tf.tile(tf.constant([1.0]), [2]) if x.shape[0] else x, True),
        (lambda x: x, False),
        (lambda x: tf.zeros_like(x) + x[0], False),
        (lambda x: tf.random.uniform([2]), False),
    ],
)
def test_what_depends_on_nothing_is_known(cache: Path, fn: Any, fixed: bool) -> None:
    for _ in range(2):  # traced, then read
        graph = graphs.Graph(fn, 0, jit=False, name="made", place=graphs.Place.of("0" * 16, []))
        assert not graph.fixed
        graph(tf.ones([2]))
        assert graph.fixed == fixed
