"""How cost grows: a million runs from the shell, linear growth, and work that follows need.

    python -m benchmarks.scale                    growth and stopping, two minutes
    python -m benchmarks.scale --million          `benchmarks/million.yaml` as well, rows and report included
    python -m benchmarks.scale --million 100000   a smaller grid of the same programs

Writes `growth.parquet`, `stop.parquet`, `million.parquet` and `growth.svg`, and prints what they say.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.ours import Ours
from benchmarks.works import WORKS, Work

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "benchmarks" / "million.yaml"
PROGRAMS = 100  # of the study: what a smaller grid is divided by
WHOLE = 1_000_000
DIMENSIONS = 30, 10, 2  # of what stops at its target: the fewer, the more of it are visits of the host
NEEDED = 0.1  # of its budget, by the median cell


def million(cells: int, out: Path) -> dict[str, Any]:
    """`optgrid run` of the study, rows and report included, in a process of its own.

    Returns:
        cells; wall, user and system seconds; peak_gb (resident); device_seconds (compile, train and
        evaluate clocks of the rows, over the cores); host_us_per_cell (all the rest of the wall time, the
        report and importing TensorFlow included).

    Raises:
        RuntimeError: the run failed, or rows are missing.
    """
    side = round((cells / PROGRAMS) ** 0.5)
    grid = [] if cells == WHOLE else ["--lr", f"1e-4:1e0:{side}", "--seeds", str(side)]
    command = [sys.executable, "-c", "from harness.cli import main; main()", "run", str(STUDY), *grid]
    environment = {**os.environ, "OPTGRID_CACHE": str(out / "cache")}
    with (out / "log").open("wb") as log:
        begin = time.perf_counter()
        child = subprocess.Popen(
            [*command, "--out", str(out / "rows")], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"the run ended with {child.returncode}:\n{(out / 'log').read_text()[-3000:]}")
    clocks = ["compile_seconds", "train_seconds", "evaluate_seconds"]
    rows = pd.read_parquet(out / "rows" / "cells", columns=clocks)
    if len(rows) != PROGRAMS * side * side or not (out / "rows" / "report" / "index.html").is_file():
        raise RuntimeError(f"{len(rows)} rows of {PROGRAMS * side * side}, or no report")
    device = float(rows.to_numpy().sum()) / len(os.sched_getaffinity(0))
    return {
        "cells": len(rows),
        "wall_seconds": wall,
        "user_seconds": used.ru_utime,
        "system_seconds": used.ru_stime,
        "peak_gb": used.ru_maxrss / 2**20,
        "compile_seconds": float(rows["compile_seconds"].sum()),
        "device_seconds": device,
        "host_us_per_cell": 1e6 * (wall - device) / len(rows),
    }


def _seconds(work: Work, rounds: int, **extra: Any) -> tuple[Ours, list[float]]:
    """The side, warm, and seconds of each round."""
    side = Ours(extra)
    side.prepare(work)
    side.run()
    return side, [side.run().seconds for _ in range(rounds)]


def growth(rounds: int) -> pd.DataFrame:
    """Seconds for four sizes each of cells, steps and lanes; a row per round."""
    base = replace(WORKS[0], points=64, seeds=64, steps=2000)
    cores = len(os.sched_getaffinity(0))
    cases: list[tuple[str, int, Work, dict[str, Any]]] = []
    for factor in (1, 2, 4, 8):
        cells = replace(base, seeds=64 * factor)
        cases.append(("cells", cells.cells, cells, {"lanes": 1024}))
        steps = replace(base, steps=10_000 * factor)  # enough for the host to be a small part
        cases.append(("steps", steps.steps, steps, {"lanes": 1024}))
        lanes = 512 * factor  # a tile of so many lanes on each core
        tiles = replace(base, points=16, seeds=cores * lanes // 16, steps=4000)
        cases.append(("lanes", lanes, tiles, {"lanes": lanes}))
    rows = []
    for what, size, work, extra in cases:
        _, took = _seconds(work, rounds, **extra)
        rows += [(what, size, i, seconds) for i, seconds in enumerate(took)]
    return pd.DataFrame(rows, columns=["what", "size", "round", "seconds"])


def exponents(frame: pd.DataFrame) -> dict[str, float]:
    """Slope of log(median seconds) over log(size): 1 is linear, below 1 there is a fixed part."""
    out = {}
    for what, part in frame.groupby("what"):
        typical = part.groupby("size")["seconds"].median()
        out[str(what)] = float(np.polyfit(np.log(typical.index.to_numpy(float)), np.log(typical), 1)[0])
    return out


def stopping(rounds: int, dimension: int) -> pd.DataFrame:
    """Rounds, in turns, of a grid that runs its whole budget and the same that stops at its target.

    The budget is set from a first run, so that the median cell needs a tenth of it. Lanes are refilled at
    recorded points, of which there are as many as a study has by default.
    """
    work = Work(
        "stop", "", "function", "quadratic", {"dimension": dimension}, "momentum",
        5e-5, 2e-4, 64, 64, 50_000, rounds,
    )  # fmt: skip
    record = {"curves": False, "stability": False}
    pilot, _ = _seconds(work, 1, record=record)
    reached = np.concatenate([run.ledger.hits[-1] for run in pilot.runs]).astype(float)
    needed = np.where(reached < 0, np.inf, reached)
    work = replace(work, steps=max(50, round(float(np.median(needed)) / NEEDED)))
    sides = {stop: _seconds(work, 0, stop=stop, record=record)[0] for stop in ("budget", "target")}
    rows = []
    for number in range(rounds):
        for stop, side in sides.items():
            took = side.run()
            median = float(np.median(needed))
            rows.append((dimension, stop, number, work.steps, median, took.seconds, took.cell_steps))
    columns = ["dimension", "stop", "round", "budget", "median_needed", "seconds", "cell_steps"]
    return pd.DataFrame(rows, columns=columns)


def stopped(frame: pd.DataFrame) -> str:
    """What stopping at the target saved, in a sentence."""
    both = frame.set_index(["round", "stop"])[["seconds", "cell_steps"]].unstack()
    low, middle, high = (both["seconds", "target"] / both["seconds", "budget"]).quantile([0.25, 0.5, 0.75])
    steps = (both["cell_steps", "target"] / both["cell_steps", "budget"]).median()
    budget = int(frame["budget"].iloc[0])
    need = frame["median_needed"].iloc[0] / budget
    return (
        f"stop: target on {frame['dimension'].iloc[0]} coordinates takes {middle:.0%} ({low:.0%} to "
        f"{high:.0%}) of the time of stop: budget and runs {steps:.0%} of its steps; the median cell needs "
        f"{need:.0%} of {budget:,} steps"
    )


def draw(frame: pd.DataFrame, path: Path) -> None:
    """A panel each for cells, steps and lanes: seconds over size, with the line of proportional growth."""
    import seaborn as sns
    from matplotlib.figure import Figure

    with sns.axes_style("whitegrid", {"grid.color": "#e9ecef", "axes.edgecolor": "#ced4da"}):
        figure = Figure(figsize=(9.5, 3.2), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
    slopes = exponents(frame)
    for axes, (what, part) in zip(panels, frame.groupby("what", sort=False), strict=True):
        typical = part.groupby("size")["seconds"].median()
        sizes = typical.index.to_numpy(float)
        axes.plot(sizes, typical.iloc[-1] * sizes / sizes[-1], color="#adb5bd", dashes=(4, 3), label="∝ size")
        sns.lineplot(
            part, x="size", y="seconds", estimator="median", errorbar=("pi", 50), err_style="bars",
            marker="o", color="#3b5bdb", label="measured", ax=axes,
        )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel=str(what), ylabel="seconds")
        axes.set_xticks(sizes, [f"{int(size):,}" for size in sizes], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(f"∝ {what}^{slopes[str(what)]:.2f}", loc="left", fontsize=11)
        axes.legend(frameon=False, loc="upper left")
    sns.despine(figure)
    figure.savefig(path)


def _tell(rows: dict[str, Any]) -> Iterator[str]:
    for name, value in rows.items():
        yield f"{name} {value:,.3g}" if isinstance(value, float) else f"{name} {value:,}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--million", type=int, nargs="?", const=WHOLE, metavar="CELLS")
    parser.add_argument("--only-million", action="store_true", help="leave growth and stopping out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.only_million:
        frame = growth(given.rounds)
        frame.to_parquet(given.out / "growth.parquet")
        draw(frame, given.out / "growth.svg")
        print(
            "growth: " + ", ".join(f"seconds ∝ {k}^{v:.2f}" for k, v in exponents(frame).items()), flush=True
        )
        stops = [stopping(given.rounds, dimension) for dimension in DIMENSIONS]
        pd.concat(stops, ignore_index=True).to_parquet(given.out / "stop.parquet")
        for stop in stops:
            print(stopped(stop), flush=True)
    if given.million or given.only_million:
        with tempfile.TemporaryDirectory() as folder:
            found = million(given.million or WHOLE, Path(folder))
        pd.DataFrame([found]).to_parquet(given.out / "million.parquet")
        print("million: " + ", ".join(_tell(found)))


if __name__ == "__main__":
    main()
