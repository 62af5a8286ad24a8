"""Tiles partition the grid, lanes come from the ladder, and a program is traced once for all its values."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Results, Study, lanes, tiling
from harness.planning import plan
from harness.types import Lanes

GRID: dict[str, Any] = {
    "workloads": ["quartic(steps=30)", "rosenbrock(noise=0.1, steps=30)"],
    "optimizers": ["adam(beta_1=[0.8, 0.9])", "lookahead(momentum)"],
    "learning_rates": [1e-3, 1e-2, 1e-1],
    "seeds": 4,
}


@pytest.mark.parametrize("asked", [None, 1, 5])
def test_tiles_partition_the_cells_that_are_not_done(asked: int | None) -> None:
    study = Study(name="plan", lanes=asked, **GRID)
    done = frozenset(c.cell_id for c in study.grid[::3])
    planned = study.plan(done=done)
    placed = [c.cell_id for tile in planned.tiles for c in tile.cells]
    assert len(placed) == len(set(placed))
    assert set(placed) == {c.cell_id for c in study.grid} - done
    assert all(
        c.program_identity() == tile.cells[0].program_identity() for tile in planned.tiles for c in tile.cells
    )
    assert len(planned.programs) == 4  # the betas of adam are inputs of one program


@pytest.mark.parametrize(
    ("rates", "lanes", "groups"),
    [(3, None, {16}), (6, None, {2}), (4, None, {2}), (3, 16, {5, 1}), (1, 8, {8})],
)
def test_no_tile_cuts_the_rates_of_a_seed_apart(rates: int, lanes: int | None, groups: set[int]) -> None:
    grid: dict[str, Any] = {"workloads": ["digits_mlp(hidden=[8], steps=9)"], "optimizers": ["adam"]}
    planned = Study(
        name="seeds", learning_rates=[10.0**-k for k in range(rates)], seeds=16, lanes=lanes, **grid
    ).plan()
    tiles = [Counter(cell.seed for cell in tile.cells) for tile in planned.tiles]
    assert all(count == rates for seeds in tiles for count in seeds.values())
    assert {len(seeds) for seeds in tiles} == groups


def test_lanes_of_an_earlier_run_are_kept() -> None:
    study = Study(name="plan", **GRID)
    first = study.plan()
    known = {k: {"groups": 1, "width": 7} for k in first.programs}
    assert {p.lanes for p in study.plan(known=known).programs.values()} == {Lanes(1, 7)}


def test_what_else_decides_the_bits_of_an_earlier_run_is_kept(tmp_path: Path) -> None:
    grid: dict[str, Any] = {"workloads": ["digits_cnn(steps=9)"], "optimizers": ["adam"], "seeds": 2}
    study = Study(name="plan", learning_rates=[10.0**-k for k in range(12)], **grid)
    (key, program), *_ = study.plan().programs.items()
    assert program.written_out and program.parts > 2
    for written_out, parts in ((True, 2), (False, 1)):
        known = {key: {"groups": 1, "width": 16, "written_out": written_out, "parts": parts}}
        again = study.plan(known=known).programs[key]
        assert (again.written_out, again.parts) == (written_out, parts)


def test_a_study_whose_maths_cannot_be_looked_at_is_planned_with_a_note(tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        (Path(__file__).with_name("plugins.py")).read_text()
        + "\n\n@dataclass(frozen=True)\nclass NoStart(Good):\n"
        + "    def init(self, params):\n        raise OSError('gone')\n"
    )
    study = Study(
        name="note",
        workloads=["quartic(steps=9)"],
        optimizers=["adam", f"{plugin}:NoStart"],
        learning_rates=[0.1],
        seeds=1,
    )
    assert "gone" in study.plan().notes[0]
    cells = study.run(tmp_path / "out").cells().set_index("optimizer")
    assert cells.loc["adam", "status"] in ("budget", "converged")
    assert (
        cells.loc["bad.py:NoStart", "status"] == "failed" and "gone" in cells.loc["bad.py:NoStart", "detail"]
    )


@given(cells=st.integers(1, 10**6), bytes_=st.integers(50, 10**7), stop=st.booleans())
def test_lanes_fit_the_memory_and_stand_on_the_ladder(cells: int, bytes_: int, stop: bool) -> None:
    memory = 10**8
    chosen = lanes.choose(
        cells=cells, per_seed=cells, seeds=1, lane_bytes=bytes_, shared_batch=False, network=False,
        stop_at_target=stop, memory_bytes=memory,
    )  # fmt: skip
    assert chosen.groups == 1 and chosen.width in lanes.LADDER
    assert chosen.width == 1 or chosen.count * bytes_ <= memory // 4


@pytest.mark.parametrize(
    ("per_seed", "lane_bytes", "expected"),
    [
        (16, 100_000, Lanes(1, 16)),
        (4, 100_000, Lanes(1, 16)),  # a quarter of a vector
        (3, 100_000, None),
        (32, 100_000, Lanes(1, 32)),
        (100, 100_000, Lanes(1, 32)),  # what fits, of seven vectors
        (100, 10_000, Lanes(1, 112)),
        (33, 10_000, Lanes(1, 48)),  # a third vector for one run
        (40, 300_000, Lanes(1, 16)),  # one vector, though two would not fit
        (16, 700_000, None),  # sixteen do not fit
    ],
)
def test_small_networks_ride_in_whole_vectors_of_lanes(
    per_seed: int, lane_bytes: int, expected: Lanes | None
) -> None:
    asked: dict[str, Any] = {
        "cells": per_seed * 8, "per_seed": per_seed, "seeds": 8, "lane_bytes": lane_bytes,
        "shared_batch": True, "network": True, "stop_at_target": False, "memory_bytes": 2**34,
    }  # fmt: skip
    chosen = lanes.choose(**asked, part_bytes=lane_bytes)
    assert chosen == (expected or lanes.choose(**asked))


def test_a_network_that_is_looked_at_in_parts_rides_in_one_vector_where_memory_has_it() -> None:
    asked: dict[str, Any] = {
        "cells": 256, "per_seed": 32, "seeds": 8, "lane_bytes": 10**7, "shared_batch": True, "network": True,
        "stop_at_target": False, "parts": 64, "part_bytes": 400_000,
    }  # fmt: skip
    assert lanes.choose(**asked, memory_bytes=2**34) == Lanes(1, 16)
    assert lanes.choose(**asked, memory_bytes=2**24).count < 16


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"dtype": "float64"}, True),
        ({"dtype": "bfloat16"}, False),  # sums would be in half precision
        ({"workloads": ["digits_mlp(hidden=[256, 256], batch_size=128, steps=9)"]}, False),
        ({"workloads": ["rosenbrock(noise=0.1, steps=9)"]}, True),  # a point, in any number of lanes
        ({"workloads": ["quadratic(dimension=100, steps=9)"], "learning_rates": [0.1]}, True),
        ({"learning_rates": [0.1, 0.2]}, False),
        ({"learning_rates": [0.1, 0.2, 0.3, 0.4]}, True),
        ({"learning_rates": [0.1, 0.2], "lanes": 16}, True),
    ],
)
def test_products_are_written_out_where_a_vector_of_lanes_fits(
    fields: dict[str, Any], expected: bool
) -> None:
    grid: dict[str, Any] = {
        "workloads": ["digits_mlp(hidden=[8], steps=9)"], "optimizers": ["adam"], "seeds": 2,
        "learning_rates": [10.0**-k for k in range(12)],
    }  # fmt: skip
    planned = Study(name="plan", **(grid | fields)).plan()
    assert [program.written_out for program in planned.programs.values()] == [expected]


NORMALISED = """
from dataclasses import dataclass

import tensorflow as tf
from workloads.digits_cnn import DigitsCnn


@dataclass(frozen=True)
class Normalised(DigitsCnn):  # its images are scaled by what a batch has of them
    def logits(self, params, images):
        return super().logits(params, images / tf.math.reduce_std(images))


@dataclass(frozen=True)
class Fixed(DigitsCnn):  # takes batches of one size only
    def loss(self, params, batch):
        labels = tf.reshape(batch.labels, [self.batch_size, 10])
        return super().loss(params, batch._replace(labels=labels))


@dataclass(frozen=True)
class Summed(DigitsCnn):
    def loss(self, params, batch):
        return batch.labels.shape[0] * super().loss(params, batch)
"""


@pytest.mark.parametrize(
    ("workload", "parts"),
    [
        ("digits_cnn", 16),
        ("digits_cnn(batch_size=61)", 61),
        ("digits_cnn(batch_size=35)", 5),  # not of one picture each
        ("digits_cnn(batch_size=50)", 5),  # nor of two
        ("digits_cnn(batch_size=45)", 15),
        ("digits_cnn(batch_size=4)", 1),  # all of it stays near the core
        ("digits_cnn(side=28)", 64),
        ("digits_cnn(side=56)", 64),  # not even one image stays there
        ("digits_cnn(filters=[64, 128])", 1),  # its parameters do not
        ("digits_mlp(hidden=[64, 64])", 1),
        ("digits_mlp(hidden=[64, 64], batch_size=256)", 1),  # in tiles, with lanes first
        ("digits_mlp(hidden=[24, 24], batch_size=512)", 4),
        ("{here}/mine.py:Normalised", 1),
        ("{here}/mine.py:Summed", 1),
        ("{here}/mine.py:Fixed", 1),
    ],
)
def test_a_batch_is_looked_at_in_parts_where_its_loss_is_their_mean(
    workload: str, parts: int, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(NORMALISED)
    rates = [10.0**-k for k in range(12)]
    grid: dict[str, Any] = {"workloads": [workload.format(here=tmp_path)], "optimizers": ["adam"]}
    planned = Study(name="parts", learning_rates=rates, **grid).plan()
    (program,) = planned.programs.values()
    assert not planned.notes
    assert program.parts == parts and (parts == 1 or program.written_out)
    assert parts == 1 or program.lanes == Lanes(1, 16)


@given(budget=st.integers(1, 5000), points=st.integers(1, 300))
def test_recorded_steps_begin_and_end_the_run(budget: int, points: int) -> None:
    record = tiling.RecordPlan.of(budget, points)
    steps = record.steps()
    assert steps[0] == 0 and steps[-1] == budget and (np.diff(steps) > 0).all()
    assert record.span * record.rounds == record.stride and 1 <= record.span <= tiling.LONGEST_SPAN
    assert len(steps) <= 2 * points + 12


@given(
    seeds=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    width=st.integers(1, 5),
    groups=st.integers(1, 3),
)
@settings(max_examples=50)
def test_seats_take_every_cell_once_and_never_mix_seeds(seeds: list[int], width: int, groups: int) -> None:
    class Fake:
        def __init__(self, seed: int) -> None:
            self.seed = seed

    cells: Any = [Fake(s) for s in seeds]
    queue = tiling.units(cells, Lanes(groups, width), shared_batch=True)
    seats, seen = tiling.Seats(queue, groups, width), []
    while seats.busy:
        seats.fill()
        for place in seats.cell.reshape(groups, width):
            assert len({seeds[i] for i in place if i >= 0}) <= 1
        taken = np.flatnonzero(seats.cell >= 0)
        seen += seats.cell[taken].tolist()
        seats.release(taken)
    assert sorted(seen) == list(range(len(seeds)))


def test_one_trace_and_one_program_for_all_rates_and_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.strategies import Placement
    from harness.tilerun import TileRun
    from harness.worker import Programs

    monkeypatch.setenv("OPTGRID_CACHE", str(tmp_path))  # where nothing was traced before
    programs = Programs(Placement("one_device", ["CPU:0"]))
    for tile in Study(name="trace", **GRID).plan().tiles:
        warm, _ = programs.get(tile.program)
        TileRun(warm, tile.cells, programs.placement.run).run()
        assert warm.compiled.traces == 1 and warm.compiled.lanes == tile.program.lanes and not warm.note


def test_stop_at_a_monitored_target_ends_runs_there(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "workloads": ["digits_logistic(target=0.5, steps=60)"], "optimizers": ["adam"],
        "learning_rates": [1e-5, 0.05], "seeds": 2,
    }  # fmt: skip
    cells = Study(name="stop", stop="target", **fields).run(tmp_path / "out").cells()
    fast = cells[cells["learning_rate"] == 0.05]
    assert (fast["status"] == "converged").all() and (fast["steps"] == fast["steps_to_target"]).all()
    assert (fast["steps"] < 60).all() and (fast["final_loss"] <= 0.5).all()
    slow = cells[cells["learning_rate"] == 1e-5]
    assert (slow["status"] == "budget").all() and (slow["steps"] == 60).all()
    assert all(dict(m)["test_accuracy"] > 0 for m in cells["metrics"])
    assert Results(tmp_path / "out").status().missing == 0


def test_plan_needs_no_components_in_common() -> None:
    study = Study(name="other", **GRID)
    planned = plan(study.grid, points=10, stability=False, lanes=None, known={}, memory_bytes=10**9)
    assert all(not p.stability for p in planned.programs.values())


def test_cells_beyond_the_cap_make_tiles_in_fours() -> None:
    """Three tiles would leave one of two workers idle for a third of the time."""
    for cells in (400, 1024, 1500, 2048):
        chosen = lanes.choose(
            cells=cells, per_seed=32, seeds=32, lane_bytes=2600, shared_batch=False, network=False,
            stop_at_target=False, memory_bytes=2**34,
        )  # fmt: skip
        assert -(-cells // chosen.count) % 4 == 0, (cells, chosen)
