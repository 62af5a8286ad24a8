"""This project's side: a study's tiles on a thread per core, rows not written."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sides import Cold, Prepared, Round
from benchmarks.works import Inputs, Work

TRAIN_ONLY = {"mlp": "Mlp", "cnn": "Cnn"}  # by family, in `train_only.py`
ENOUGH_DRAWS = 40_000  # of 1,085 training images: one is missed with a probability below 1e-12


def inputs(work: Work) -> Inputs:
    """What every side starts from: each seed's initial parameters and batches, as the workload draws them."""
    from harness import Study, catalog
    from harness.runtime import tensorflow

    tf = tensorflow()
    workload = catalog.build_workload(Study(name="bench", **work.fields).grid[0].workload)
    starts = [workload.init(seed) for seed in range(work.seeds)]
    if work.family == "function":
        none = np.empty((0, 0, 0), np.int32), np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
        return Inputs([np.stack([np.asarray(x) for x in starts])], *none)
    ordered = [[layer[name] for layer in layers for name in ("weight", "bias")] for layers in starts]
    stacked = [np.stack([leaf.numpy() for leaf in leaves]) for leaves in zip(*ordered, strict=True)]
    # Far more draws than images: each is seen, and the table of them is the training part.
    steps = max(work.steps, ENOUGH_DRAWS // (work.seeds * workload.batch_size))

    @tf.function
    def batches(seed: Any) -> Any:
        kinds = (tf.float32, tf.float32)
        return tf.map_fn(lambda s: tuple(workload.batch(seed, s)), tf.range(steps), fn_output_signature=kinds)

    places: dict[bytes, int] = {}
    images, labels, rows = [], [], np.empty((steps, work.seeds, workload.batch_size), np.int32)
    for seed in range(work.seeds):
        drawn, one_hot = (part.numpy() for part in batches(tf.constant(seed)))
        for at in np.ndindex(drawn.shape[:2]):
            place = places.setdefault(drawn[at].tobytes(), len(images))
            if place == len(images):
                images.append(drawn[at])
                labels.append(one_hot[at])
            rows[at[0], seed, at[1]] = place
    return Inputs(stacked, rows[: work.steps], np.stack(images), np.stack(labels))


@dataclass
class _Clock:
    """What one thread did in a round."""

    seconds: float = 0.0
    evaluate_seconds: float = 0.0


@dataclass
class Ours:
    """The tile level: what `optgrid run` does, less planning and writing.

    Args:
        extra: fields of the study beside the work's.
    """

    extra: dict[str, Any] = field(default_factory=dict)
    runs: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Before TensorFlow starts, which is told then where to look: programs that an earlier run compiled
        # would flatter the compile clock.
        os.environ["OPTGRID_CACHE"] = tempfile.mkdtemp(prefix="optgrid-bench-")
        from harness.runtime import cpu_count

        # As a worker's: what TensorFlow does at a thread's first call takes milliseconds.
        self.threads = ThreadPoolExecutor(cpu_count())

    def inputs(self, work: Work) -> Inputs:
        return inputs(work)

    def prepare(self, work: Work, inputs: Inputs | None = None) -> Prepared:
        ready = self.compiled(work)
        self.settle()
        return ready

    def compiled(self, work: Work) -> Prepared:
        """Compiles a work's programs, and waits for none that is compiled beside."""
        from harness import Study
        from harness.runtime import tensorflow

        tensorflow()
        from harness.strategies import Placement
        from harness.worker import Programs

        self.work = work
        fields = {"record": {"points": 10, "curves": False, "stability": False}, **work.fields, **self.extra}
        self.planned = Study(name="bench", **fields).plan()
        self.programs = Programs(Placement("one_device", ["CPU:0"]))
        begin = time.perf_counter()
        warm = [self.programs.get(program)[0] for program in self.planned.programs.values()]
        seconds = time.perf_counter() - begin
        if fallen := [each.note for each in warm if each.note]:
            raise RuntimeError(f"not what is to be measured: {fallen[0]}")
        # Of what trains: no peer compiles anything else.
        training = sum(each.compiled.compile_seconds for each in warm)
        lanes = ", ".join(f"{p.lanes.groups} × {p.lanes.width}" for p in self.planned.programs.values())
        note = f"lanes {lanes}, {len(self.planned.tiles)} tiles"
        if any(each.evaluator is not None for each in warm):
            note += f"; metrics compiled in {seconds - training:.1f} s more"
        return Prepared(training, note)

    def start(self) -> None:
        """Compiles something small: what a process does once is not a program's."""
        from harness.runtime import keep_imports, tensorflow

        tf = tensorflow()
        keep_imports()
        tf.function(tf.sin, jit_compile=True)(tf.ones([3])).numpy()

    def cold(self, work: Work, inputs: Inputs, variant: str) -> Cold:
        """A work's program compiled and run; there is one way to write it."""
        made = Cold(self.compiled(work).compile_seconds, self.run().seconds)
        self.settle()
        return made

    def settle(self) -> None:
        """Waits for what is still compiled beside: others are measured next."""
        for program in self.planned.programs.values():
            self.programs.get(program)[0].compiled.books.compile().result()

    def run(self) -> Round:
        from harness.runtime import cpu_count
        from harness.tilerun import TileRun

        waiting, lock = iter(self.planned.tiles), threading.Lock()
        self.runs, clocks = [], [_Clock() for _ in range(cpu_count())]

        def serve(clock: _Clock) -> None:
            begin = time.perf_counter()
            while True:
                with lock:
                    tile = next(waiting, None)  # in the order of the grid, as workers do
                if tile is None:
                    break
                warm, _ = self.programs.get(tile.program)
                run = TileRun(warm, tile.cells, self.programs.placement.run, curves=False)
                run.run()
                clock.evaluate_seconds += run.evaluate_seconds
                self.runs.append(run)
            clock.seconds = time.perf_counter() - begin

        begin = time.perf_counter()
        list(self.threads.map(serve, clocks))
        wall = time.perf_counter() - begin
        # A thread's cell evaluations fall on its own core: the round without them is its longest thread.
        training = max(clock.seconds - clock.evaluate_seconds for clock in clocks)
        steps = int(sum(run.ledger.steps.sum() for run in self.runs))
        return Round(training, steps, wall - training)

    def losses(self) -> np.ndarray:
        out = np.full((self.work.points, self.work.seeds), np.nan)
        # A study keeps twelve digits of a rate, so that places are looked up by order.
        rates = {
            rate: i for i, rate in enumerate(sorted({c.learning_rate for t in self.runs for c in t.cells}))
        }
        for run in self.runs:
            values = run.metrics.get("train_loss", run.ledger.final)
            for cell, value in zip(run.cells, values, strict=True):
                out[rates[cell.learning_rate], cell.seed] = value
        return out


class TrainOnly(Ours):
    """The same for networks without metrics: no peer has any."""

    def compiled(self, work: Work) -> Prepared:
        if work.family in TRAIN_ONLY:
            file = Path(__file__).with_name("train_only.py")
            work = replace(work, workload=f"{file}:{TRAIN_ONLY[work.family]}")
        return super().compiled(work)
