"""What the cluster's side costs: the driver's time per tile, and the scheduler at a million cells.

    python benchmarks/ray_overhead.py pool --tiles 1000      real processes on this machine, tiny tiles
    python benchmarks/ray_overhead.py schedule               virtual clock, real scheduler code
    python benchmarks/ray_overhead.py speedup                2 workers against 1, the same grid

Each prints one JSON document. `pool` measures the driver's processor time and the wall time per tile, commit
included; `schedule` runs 1,000 workers with stragglers and losses and says how long they were idle. Beside
Ray Tune and plain Ray tasks: `ray_peers.py`.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.executors.ray_options import ClusterOptions
from harness.executors.ray_schedule import Schedule
from harness.types import Cell, Component, Lanes, Outcome, Program, Tile

LANES, COMPILE_SECONDS = 4, 3.0
LANES_OF_WORK, TILES_OF_WORK = 64, 24


def pool(tiles: int, workers: int, gather: bool) -> dict[str, Any]:
    """Many small tiles over real worker processes; starting them is timed apart."""
    from harness import Study

    study = Study(
        name="overhead",
        workloads=["quadratic(dimension=2, condition=4.0, steps=20)"],
        optimizers=["gradient_descent"],
        learning_rates=[0.01, 0.1],
        seeds=LANES * tiles // 2,
        lanes=LANES,
        record={"points": 4},
        strategy="one_device",
    )
    marks: list[tuple[float, float, int]] = []
    with tempfile.TemporaryDirectory() as out:
        study.run(
            Path(out) / "out",
            workers=workers,
            cluster=ClusterOptions("local", gather=gather),
            progress=lambda now: marks.append((time.perf_counter(), time.process_time(), now.tiles_done)),
        )
    # From the first tile that came back: importing TensorFlow and compiling are not the pool's cost.
    begin = next(m for m in marks if m[2] > 0)
    end = next(m for m in marks if m[2] >= tiles)
    count = end[2] - begin[2]
    wall, own = end[0] - begin[0], end[1] - begin[1]
    return {
        "tiles": count,
        "workers": workers,
        "gather": gather,
        "wall_ms_per_tile": round(1e3 * wall / count, 3),
        "driver_cpu_ms_per_tile": round(1e3 * own / count, 3),
        "tiles_per_second": round(count / wall, 1),
    }


def made_tiles(cells: int, per_tile: int, programs: int) -> list[Tile]:
    workload = Component("w", {}, "w")
    out = []
    for p in range(programs):
        optimizer = Component(f"o{p}", {}, f"o{p}")
        program = Program(
            f"p{p}", workload, optimizer, 1000, 0.0, "budget", "float32", Lanes(1, per_tile), 20
        )
        mine = [
            Cell(workload, optimizer, 0.1, seed, 1000, 0.0, "budget", "float32")
            for seed in range(cells // programs)
        ]
        out += [Tile(program, tuple(mine[i : i + per_tile])) for i in range(0, len(mine), per_tile)]
    return out


def schedule(cells: int, workers: int, per_tile: int, seed: int = 0) -> dict[str, Any]:
    """A sweep under a virtual clock: stragglers, lost workers, compiling."""
    tiles, rng = made_tiles(cells, per_tile, programs=90), random.Random(seed)
    plan, own = Schedule(tiles), 0.0
    warm: dict[int, set[str]] = {w: set() for w in range(workers)}
    ends: list[tuple[float, int, int, float]] = []
    fresh: dict[int, float] = {}  # seconds that a call compiled for
    free, now, busy, losses = list(range(workers)), 0.0, 0.0, 0
    while plan.left:
        begin = time.perf_counter()
        asked = [] if plan.idle else free
        calls = [(w, plan.assign(str(w), warm[w], now, workers)) for w in asked]
        own += time.perf_counter() - begin
        idle = [] if asked else free
        for w, call in calls:
            if call is None:
                idle.append(w)
                continue
            key = call.tiles[0].program.key
            took = 0.0 if key in warm[w] else COMPILE_SECONDS
            fresh[call.number] = took
            warm[w].add(key)
            # A tile takes 2 s; one in fifty takes three times as long.
            took += sum(rng.uniform(1.8, 2.2) * (3 if rng.random() < 0.02 else 1) for _ in call.tiles)
            heapq.heappush(ends, (now + took, call.number, w, took))
        now, number, w, took = heapq.heappop(ends)
        held, free = plan.calls[number].tiles, [*idle, w]
        lost = rng.random() < 0.001
        begin = time.perf_counter()
        if lost:
            plan.lost(str(w), "a host was cut off", now, set())
            warm[w].clear()
            losses += 1
        else:
            compiled = fresh.pop(number, 0.0)
            share = (took - compiled) / len(held)
            outcomes = [_outcome(t, share, compiled if i == 0 else 0.0) for i, t in enumerate(held)]
            plan.done(number, outcomes, now)
        own += time.perf_counter() - begin
        busy += took
    return {
        "cells": cells,
        "tiles": len(tiles),
        "workers": workers,
        "lost_workers": losses,
        "virtual_seconds": round(now, 1),
        "idle_share": round(1 - busy / (workers * now), 4),
        "scheduler_us_per_tile": round(1e6 * own / len(tiles), 1),
        "process_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def _outcome(tile: Tile, seconds: float, compiling: float) -> Outcome:
    return Outcome("", {"budget": len(tile.cells)}, 0, compiling, seconds, 0.0, "", len(tile.cells))


def speedup(rounds: int) -> dict[str, Any]:
    """The same compute-bound grid with one worker and with two, in turns: 64 lanes of 256 × 256 products."""
    from harness import Study

    study = Study(
        name="speedup",
        workloads=["quadratic(dimension=256, condition=100.0, rotated=true, steps=4000)"],
        optimizers=["momentum"],
        learning_rates=[1e-3, 1e-2, 1e-1, 1.0],
        seeds=LANES_OF_WORK * TILES_OF_WORK // 4,
        lanes=LANES_OF_WORK,
        record={"points": 4},
        strategy="one_device",
    )
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers in (1, 2):
            marks: list[tuple[float, int]] = []
            with tempfile.TemporaryDirectory() as out:
                study.run(
                    Path(out) / "out",
                    workers=workers,
                    cluster=ClusterOptions("local", call_seconds=1e-6),  # a tile per call: marks are even
                    progress=lambda now, marks=marks: marks.append((time.perf_counter(), now.tiles_done)),
                )
            # Until every worker has compiled, the rate says nothing of the work.
            first = next(m for m in marks if m[1] >= 2 * workers)
            last = next(m for m in marks if m[1] == marks[-1][1])
            seconds[workers].append((last[0] - first[0]) / (last[1] - first[1]))
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {"seconds_per_tile": seconds, "speedups": ratios, "speedup": statistics.median(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["pool", "schedule", "speedup"])
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gather", action="store_true")
    parser.add_argument("--cells", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.what == "pool":
        found: Any = [pool(given.tiles, given.workers, given.gather) for _ in range(given.rounds)]
    elif given.what == "speedup":
        found = speedup(given.rounds)
    else:
        sizes = [given.cells // 2, given.cells, 2 * given.cells]
        found = [schedule(n, 1000, per_tile=16) for n in sizes]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
