"""The same cells end to end: this project's pool, plain Ray tasks and Ray Tune, in processes of their own.

    python benchmarks/ray_peers.py --cells 270 --rounds 3
    python benchmarks/ray_peers.py --cells 27000 --tune-cells 1000

Rosenbrock × (Adam, momentum, gradient descent) × 9 learning rates × seeds, 1,000 steps each, on two workers.
Every system runs the same update rules and the same loss, keeps compiled programs warm in its workers, and
leaves one Parquet row per cell; the peers run one compiled loop per cell. They get what helps them: plain
tasks are submitted all at once and their answers taken in bulk; Tune reuses its actors and writes no logs.
Seconds are of the whole process: Python, imports, Ray's start, compiling, rows on disk.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

OPTIMIZERS = ("adam", "momentum", "gradient_descent")
RATES = [10 ** (-4 + i / 2) for i in range(9)]
STEPS, TARGET, WORKERS = 1000, 1e-3, 2
AXES = ("optimizer", "rate", "seed")
SYSTEMS = ("optgrid", "tasks", "tune")


def grid(cells: int) -> list[tuple[str, float, int]]:
    """(optimizer, rate, seed) of every cell."""
    return [(o, r, s) for o in OPTIMIZERS for r in RATES for s in range(_seeds(cells))]


def _seeds(cells: int) -> int:
    return cells // (len(OPTIMIZERS) * len(RATES))


def optgrid(cells: int, out: Path) -> None:
    from harness import Study
    from harness.executors.ray_options import ClusterOptions

    Study(
        name="peers",
        workloads=[f"rosenbrock(steps={STEPS})"],
        optimizers=list(OPTIMIZERS),
        learning_rates=RATES,
        seeds=_seeds(cells),
        strategy="one_device",
    ).run(out, workers=WORKERS, cluster=ClusterOptions("local"))


@functools.cache
def one_run(optimizer: str) -> Any:
    """What a user of Ray would write: one run as one compiled loop, compiled once per process."""
    from harness import catalog
    from harness.expressions import parse_optimizer, parse_workload
    from harness.runtime import tensorflow

    tf = tensorflow()
    rule = catalog.build_optimizer(parse_optimizer(optimizer)[0])
    workload = catalog.build_workload(parse_workload("rosenbrock")[0])

    @tf.function(jit_compile=True)
    def run(rate: Any, start: Any) -> Any:
        def body(step: Any, params: Any, state: Any, best: Any, hit: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(params)
                loss = workload.loss(params, None)
            params, state = rule.update(params, tape.gradient(loss, params), state, rate, step)
            hit = tf.where((hit < 0) & (loss <= TARGET), step, hit)
            return step + 1, params, state, tf.minimum(best, loss), hit

        loop = (tf.constant(0, tf.int64), start, rule.init(start), workload.loss(start, None))
        loop = (*loop, tf.constant(-1, tf.int64))
        _, params, _, best, hit = tf.while_loop(lambda step, *_: step < STEPS, body, loop)
        return workload.loss(params, None), best, hit

    def call(rate: float, seed: int) -> tuple[float, float, int]:
        final, best, hit = run(tf.constant(rate, tf.float32), workload.init(seed))
        return float(final), float(best), int(hit)

    return call


def _write(cells: list[tuple[str, float, int]], found: list[tuple[float, float, int]], out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("optimizer", "learning_rate", "seed", "final_loss", "best_loss", "steps_to_target")
    columns = zip(*[(*cell, *row) for cell, row in zip(cells, found, strict=True)], strict=True)
    out.mkdir(parents=True)
    pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), out / "cells.parquet")


def tasks(cells: int, out: Path) -> None:
    import ray

    ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    @ray.remote
    def task(optimizer: str, rate: float, seed: int) -> tuple[float, float, int]:
        from ray_peers import one_run  # by name: the worker keeps what it has compiled

        return one_run(optimizer)(rate, seed)

    wanted = grid(cells)
    _write(wanted, ray.get([task.remote(*cell) for cell in wanted]), out)


def tune(cells: int, out: Path) -> None:
    import ray
    from ray import tune as rt

    ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    class Trial(rt.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.cell = [config[name] for name in AXES]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.cell = [new_config[name] for name in AXES]
            return True

        def step(self) -> dict[str, Any]:
            from ray_peers import one_run

            optimizer, rate, seed = self.cell
            final, best, hit = one_run(optimizer)(rate, seed)
            return {"final_loss": final, "best_loss": best, "hit": hit, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {}  # nothing is kept of a trial but its result

        def load_checkpoint(self, checkpoint: Any) -> None:
            pass

    # An axis each: Tune copies the whole space for every trial, and with one list of all cells it made trials
    # for minutes before the first one ran.
    axes = dict(zip(AXES, (list(OPTIMIZERS), RATES, list(range(_seeds(cells)))), strict=True))
    tuner = rt.Tuner(
        Trial,
        param_space={name: rt.grid_search(values) for name, values in axes.items()},
        tune_config=rt.TuneConfig(reuse_actors=True, max_concurrent_trials=WORKERS),
        run_config=rt.RunConfig(storage_path=str(out.parent / "tune"), verbose=0),
    )
    rows = [r.metrics for r in tuner.fit() if r.metrics]
    wanted = [tuple(r["config"][name] for name in AXES) for r in rows]
    if sorted(wanted) != sorted(grid(cells)):
        raise RuntimeError("a trial was lost")
    _write(wanted, [(r["final_loss"], r["best_loss"], r["hit"]) for r in rows], out)


def measure(system: str, cells: int) -> float:
    """Seconds of a fresh process, from its start to its end; its compile cache is empty."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "OPTGRID_CACHE": f"{folder}/xla",
            "HOME": folder,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}",
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        }
        from harness import tokens

        os.environ["RAY_AUTH_TOKEN_PATH"] = environment["RAY_AUTH_TOKEN_PATH"] = f"{folder}/.ray/auth_token"
        tokens.ensure_token()
        command = [sys.executable, __file__, "--system", system, "--cells", str(cells)]
        command += ["--out", f"{folder}/out"]
        begin = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, default=270)
    parser.add_argument("--tune-cells", type=int, help="Fewer cells for Tune: it takes hours otherwise.")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.system:
        {"optgrid": optgrid, "tasks": tasks, "tune": tune}[given.system](given.cells, given.out)
        return
    seconds: dict[str, list[float]] = {system: [] for system in given.systems}
    sizes = dict.fromkeys(SYSTEMS, given.cells) | {"tune": given.tune_cells or given.cells}
    for _ in range(given.rounds):
        for system in given.systems:
            seconds[system].append(round(measure(system, sizes[system]), 2))
            print(system, sizes[system], "cells:", seconds[system][-1], "s", file=sys.stderr, flush=True)
    middle = {system: statistics.median(times) for system, times in seconds.items()}
    print(json.dumps({"cells": sizes, "seconds": seconds, "median": middle}, indent=1))


if __name__ == "__main__":
    main()
