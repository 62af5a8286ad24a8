"""This project beside JAX on the same grids, alternating, in one run: ratios with their spread.

    python benchmarks/grid.py [--rounds 7] [--out benchmarks/results]

Writes `grid.parquet` (a row per round and side) and `grid.svg`, and prints the table. Both sides use all
cores: this project a tile per core, JAX its own threads. Both are warm; compile seconds stand apart.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import Study
from harness.runtime import cpu_count, tensorflow

tensorflow()

from harness.strategies import Placement  # noqa: E402
from harness.tilerun import TileRun  # noqa: E402
from harness.worker import Programs  # noqa: E402


@dataclass
class Work:
    """One comparison: two callables that do the same cell-steps."""

    name: str
    cell_steps: int
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    compile_ours: float
    compile_theirs: float


def our_side(**fields: Any) -> tuple[Callable[[], Any], float, int]:
    """Runs a study's tiles on a thread per core, rows not written; compile seconds; cell-steps."""
    study = Study(name="bench", record={"points": 10, "curves": False, "stability": False}, **fields)
    planned = study.plan()
    programs = Programs(Placement("one_device", "CPU:0"))
    begin = time.perf_counter()
    for program in planned.programs.values():
        programs.get(program)
    seconds = time.perf_counter() - begin

    def run() -> None:
        waiting, lock = list(planned.tiles), threading.Lock()

        def serve() -> None:
            while True:
                with lock:
                    if not waiting:
                        return
                    tile = waiting.pop()
                warm, _ = programs.get(tile.program)
                TileRun(warm, tile.cells, programs.placement.run, curves=False).run()

        threads = [threading.Thread(target=serve) for _ in range(cpu_count())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run, seconds, planned.cell_steps


def compiled(fn: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    fn()
    return time.perf_counter() - begin


def works() -> list[Work]:
    import jax
    import jax.numpy as jnp
    import optax
    import peers
    from sklearn.datasets import load_digits

    made = []

    def function(name: str, loss: Any, rule: Any, dimension: int, lanes: int, **fields: Any) -> None:
        ours, seconds, steps = our_side(**fields)
        program = peers.functions(loss, rule, fields["steps"])
        generator = np.random.default_rng(0)
        start = jnp.asarray(generator.uniform(-2, 2, (lanes, dimension)).astype(np.float32))
        rates = jnp.asarray(np.geomspace(1e-4, 1e-2, lanes).astype(np.float32))

        def theirs() -> None:
            jax.block_until_ready(program(start, rates))

        made.append(Work(name, steps, ours, theirs, seconds, compiled(theirs)))

    def grid_of(rates: int, seeds: int, low: float, high: float, steps: int) -> dict[str, Any]:
        return {"learning_rates": {"low": low, "high": high, "points": rates}, "seeds": seeds, "steps": steps}

    function(
        "Rosenbrock, Adam, 4,096 cells x 1,000 steps", peers.rosenbrock, optax.adam, 2, 4096,
        workloads=["rosenbrock"], optimizers=["adam"], **grid_of(64, 64, 1e-4, 1e-2, 1000),
    )  # fmt: skip
    scale = jnp.asarray(np.geomspace(1, 100, 100).astype(np.float32))
    function(
        "quadratic n = 100, momentum, 1,024 cells x 1,000 steps",
        lambda x: 0.5 * jnp.sum(scale * x * x), lambda r: optax.sgd(r, momentum=0.9), 100, 1024,
        workloads=["quadratic(dimension=100)"], optimizers=["momentum"], **grid_of(32, 32, 1e-4, 1e-2, 1000),
    )  # fmt: skip
    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32)[:1085], digits.target[:1085]
    networks = [((32,), 64, 300), ((256, 256), 128, 20)]
    for hidden, batch, steps in networks:
        name = f"MLP 64-{'-'.join(map(str, hidden))}-10, batch {batch}, Adam, 16 rates x 8 seeds"
        shape = f"digits_mlp(hidden={list(hidden)}, batch_size={batch})"
        ours, seconds, total = our_side(
            workloads=[shape], optimizers=["adam"], **grid_of(16, 8, 1e-4, 1e-1, steps)
        )
        program, starts = peers.perceptron(images, labels, hidden, batch, steps)
        params, rates = starts(8, 16), jnp.asarray(np.geomspace(1e-4, 1e-1, 16).astype(np.float32))

        def theirs(program: Any = program, params: Any = params, rates: Any = rates) -> None:
            jax.block_until_ready(program(params, rates, jax.random.key(0)))

        made.append(Work(name, total, ours, theirs, seconds, compiled(theirs)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rows = []
    for work in works():
        work.ours()
        for number in range(options.rounds):
            for side, fn in (("optgrid", work.ours), ("jax", work.theirs)):
                seconds = compiled(fn)
                rows.append((work.name, side, number, seconds, work.cell_steps / seconds))
        frame = pd.DataFrame(rows, columns=["work", "side", "round", "seconds", "cell_steps_per_second"])
        mine = frame[frame["work"] == work.name].pivot(index="round", columns="side", values="seconds")
        ratio = (mine["jax"] / mine["optgrid"]).quantile([0.25, 0.5, 0.75]).to_numpy()
        speed = work.cell_steps / mine.median()
        print(
            f"{work.name}: {ratio[1]:.2f} x JAX (quartiles {ratio[0]:.2f} to {ratio[2]:.2f}); "
            f"{speed['optgrid']:.3g} against {speed['jax']:.3g} cell-steps/s; "
            f"compile {work.compile_ours:.1f} s against {work.compile_theirs:.1f} s"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(options.out / "grid.parquet")
    draw(frame, options.out / "grid.svg")


def draw(frame: pd.DataFrame, path: Path) -> None:
    """A bar of medians per work and side, on a log axis, with quartiles."""
    import matplotlib.figure
    import seaborn as sns

    figure = matplotlib.figure.Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    sns.pointplot(
        frame, y="work", x="cell_steps_per_second", hue="side", errorbar=("pi", 50), estimator="median",
        linestyle="none", dodge=0.3, ax=axes,
    )  # fmt: skip
    axes.set(xscale="log", xlabel="cell-steps per second (median, quartiles)", ylabel="")
    figure.savefig(path)


if __name__ == "__main__":
    main()
