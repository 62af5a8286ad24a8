"""The scheduler by itself, under a virtual clock: no Ray, no processes."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.executors.ray_schedule import ATTEMPTS, Schedule
from harness.types import Cell, Component, Lanes, Outcome, Program, Tile

WORKLOAD = Component("bowl", {}, "bowl")


def tiles(programs: int, per_program: int, cells: int, width: int | None = None) -> list[Tile]:
    out = []
    for p in range(programs):
        optimizer = Component(f"o{p}", {}, f"o{p}")
        program = Program(
            key=f"p{p}",
            workload=WORKLOAD,
            optimizer=optimizer,
            budget=100,
            target=0.0,
            stop="budget",
            dtype="float32",
            lanes=Lanes(1, width or cells),
            stride=1,
        )
        for t in range(per_program):
            made = (
                Cell(WORKLOAD, optimizer, 0.1, t * cells + i, 100, 0.0, "budget", "float32")
                for i in range(cells)
            )
            out.append(Tile(program, tuple(made)))
    return out


def outcome(tile: Tile, seconds: float) -> Outcome:
    n = len(tile.cells)
    return Outcome(tile.tile_id, {"budget": n}, 100 * n, 0.0, seconds, 0.0, "w", n)


class Simulation:
    """Workers that take time, and lose what `deadly` says."""

    def __init__(
        self,
        schedule: Schedule,
        workers: int,
        seconds: Callable[[Tile], float],
        deadly: Callable[[Tile], bool] = lambda tile: False,
    ):
        self.schedule, self.workers = schedule, [f"w{i}" for i in range(workers)]
        self.seconds, self.deadly = seconds, deadly
        self.warm: dict[str, set[str]] = {w: set() for w in self.workers}
        self.now = 0.0
        self.busy = dict.fromkeys(self.workers, 0.0)
        self.done: list[Cell] = []
        self.failed: list[Cell] = []
        self.compiles = 0
        self.calls: list[float] = []
        self.deaths = 0

    def run(self) -> None:
        ends: list[tuple[float, int, str]] = []
        free = list(self.workers)
        while self.schedule.left:
            waiting = []
            for worker in free:
                call = self.schedule.assign(worker, self.warm[worker], self.now, len(self.workers))
                if call is None:
                    waiting.append(worker)
                    continue
                key = call.tiles[0].program.key
                self.compiles += key not in self.warm[worker]
                self.warm[worker].add(key)
                took = sum(map(self.seconds, call.tiles))
                self.busy[worker] += took
                self.calls.append(took)
                heapq.heappush(ends, (self.now + took, call.number, worker))
            assert ends, "nobody works and tiles are left"
            self.now, number, worker = heapq.heappop(ends)
            free = [*waiting, worker]
            self._end(number, worker)

    def _end(self, number: int, worker: str) -> None:
        batch = self.schedule.calls[number].tiles
        first = next((i for i, t in enumerate(batch) if self.deadly(t)), None)
        if first is None:
            self.schedule.done(number, [outcome(t, self.seconds(t)) for t in batch], self.now)
            self.done += [c for t in batch for c in t.cells]
            return
        self.deaths += 1
        self.warm[worker].clear()
        for tile in batch[:first]:
            self.schedule.kept(tile)
            self.done += tile.cells
        committed = {t.tile_id for t in batch[:first]}
        for failure in self.schedule.lost(worker, "it died", self.now, committed):
            self.failed += failure.tile.cells


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.integers(1, 5), st.data())
def test_every_cell_ends_once_and_only_the_guilty_fail(
    programs: int, per_program: int, cells: int, workers: int, data: st.DataObject
) -> None:
    made = tiles(programs, per_program, cells)
    everyone = [c for t in made for c in t.cells]
    guilty = {c.cell_id for c in data.draw(st.lists(st.sampled_from(everyone), max_size=3))}
    run = Simulation(
        Schedule(made), workers, lambda t: 1.0, lambda t: any(c.cell_id in guilty for c in t.cells)
    )
    run.run()
    ended = [c.cell_id for c in run.done + run.failed]
    assert sorted(ended) == sorted(c.cell_id for c in everyone)
    alone = {t.program.key for t in made if all(c.cell_id in guilty for c in t.cells)}
    if not alone:
        assert {c.cell_id for c in run.failed} == guilty


def test_a_guilty_cell_costs_a_logarithm_of_deaths() -> None:
    made = tiles(1, 3, 1024)
    bad = made[1].cells[700].cell_id
    run = Simulation(Schedule(made), 4, lambda t: 1.0, lambda t: any(c.cell_id == bad for c in t.cells))
    run.run()
    assert [c.cell_id for c in run.failed] == [bad]
    assert run.deaths == ATTEMPTS + 9 + ATTEMPTS  # whole, as 512 … 2, and alone


def test_a_program_that_never_runs_is_given_up() -> None:
    made = tiles(2, 2, 1024)
    run = Simulation(Schedule(made), 2, lambda t: 1.0, lambda t: t.program.key == "p0")
    run.run()
    assert len(run.failed) == 2 * 1024
    assert len(run.done) == 2 * 1024
    assert run.deaths < 40


def test_each_worker_compiles_a_program_once() -> None:
    run = Simulation(Schedule(tiles(6, 50, 4)), 3, lambda t: 0.1)
    run.run()
    assert run.compiles <= 6 * 3


def test_calls_are_bundled_to_the_wanted_length_and_shrink_at_the_end() -> None:
    run = Simulation(Schedule(tiles(2, 4000, 4), call_seconds=10.0), 4, lambda t: 0.05)
    run.run()
    assert max(run.calls) == pytest.approx(10.0, rel=0.02)
    assert run.calls[-1] < 0.5
    assert sum(run.busy.values()) / (4 * run.now) > 0.99


def test_long_tiles_of_several_rounds_are_cut_for_idle_workers() -> None:
    schedule = Schedule(tiles(1, 4, 64, width=4))
    run = Simulation(schedule, 8, lambda t: len(t.cells) * 1.0)
    run.run()
    assert len(run.done) == 4 * 64
    assert run.now < 1.5 * 64 * 4 / 8
    assert schedule.total > 4


def test_stragglers_leave_few_workers_idle() -> None:
    rng = random.Random(0)
    spread = {}

    def seconds(tile: Tile) -> float:
        return spread.setdefault(tile.tile_id, rng.choice([1.0, 1.0, 1.0, 3.0]))

    run = Simulation(Schedule(tiles(10, 200, 2)), 20, seconds)
    run.run()
    assert sum(run.busy.values()) / (20 * run.now) > 0.95


def test_preemptions_are_free_up_to_a_cap() -> None:
    made = tiles(1, 1, 1)
    schedule = Schedule(made)
    losses = 0
    while schedule.left:
        assert schedule.assign("w", (), 0.0, 1) is not None
        schedule.lost("w", "preempted", 0.0, set(), preempted=True)
        losses += 1
    assert losses == 10 + ATTEMPTS


def test_what_waits_behind_a_lost_call_is_not_charged() -> None:
    schedule = Schedule(tiles(1, 3, 1))
    first = schedule.assign("w", (), 0.0, 1)
    second = schedule.assign("w", (), 0.0, 1)
    assert first is not None
    assert second is not None
    assert second.begun is None
    schedule.lost("w", "it died", 1.0, set())
    assert schedule.losses[first.tiles[0].tile_id] == 1
    assert schedule.losses[second.tiles[0].tile_id] == 0
    assert schedule.retries == 1


def test_time_limits() -> None:
    schedule = Schedule(tiles(1, 2, 1), tile_seconds=5.0)
    call = schedule.assign("w", (), 10.0, 1)
    assert schedule.overdue(14.9) == []
    assert schedule.overdue(15.1) == [call]


def test_a_hanging_first_tile_is_not_waited_for_as_for_the_whole_call() -> None:
    schedule = Schedule(tiles(1, 400, 1), call_seconds=30.0, tile_seconds=60.0)
    run = Simulation(schedule, 1, lambda t: 0.1)
    call = schedule.assign("w0", (), 0.0, 1)
    assert call is not None
    run._end(call.number, "w0")
    call = schedule.assign("w0", (), 0.0, 1)
    assert call is not None
    assert len(call.tiles) > 100
    assert schedule.limit(call) == pytest.approx(60.0 + 10.0 * call.expected)


def test_no_call_takes_longer_than_a_minute_where_tiles_can_be_cut() -> None:
    run = Simulation(Schedule(tiles(3, 10, 16 * 4, width=4)), 3, lambda t: 8.0 * -(-len(t.cells) // 4))
    run.run()
    assert len(run.done) == 3 * 10 * 64
    assert max(run.calls) <= 60.0
    assert sum(run.busy.values()) / (3 * run.now) > 0.97


def test_a_suspect_runs_on_another_node() -> None:
    schedule = Schedule(tiles(1, 1, 4))
    assert schedule.assign("w0", (), 0.0, 2, "node-a", 2) is not None
    schedule.lost("w0", "it died", 1.0, set(), node="node-a")
    assert schedule.assign("w1", (), 2.0, 2, "node-a", 2) is None
    assert schedule.assign("w2", (), 2.0, 2, "node-b", 2) is not None
    schedule.lost("w2", "it died", 3.0, set(), node="node-b")
    # Where no other node is left, it runs where it can.
    assert schedule.assign("w3", (), 4.0, 1, "node-b", 1) is not None


def test_an_accident_that_hits_an_innocent_cell_alone_costs_it_nothing() -> None:
    made = tiles(1, 1, 2)
    bad = made[0].cells[1].cell_id
    struck: set[str] = set()

    def deadly(tile: Tile) -> bool:
        if len(tile.cells) == 1 and tile.cells[0].cell_id not in struck:
            struck.add(tile.cells[0].cell_id)  # the first time that a cell is alone, its host goes down
            return True
        return any(c.cell_id == bad for c in tile.cells)

    run = Simulation(Schedule(made), 1, lambda t: 1.0, deadly)
    run.run()
    assert [c.cell_id for c in run.failed] == [bad]
    assert [c.cell_id for c in run.done] == [made[0].cells[0].cell_id]
