"""270 cells end to end from the shell: import, compile, train, rows. `optgrid run` against Ray Tune.

Each run is a process of its own, from its start to its end. This project runs with an empty cache of
compiled programs and with the one that the run before has filled; Ray Tune with a new actor per trial, which
is its default, and with actors that are used again, where the compiled step is kept too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
OPTIMIZERS = ("gradient_descent", "momentum", "adam")
LOW, HIGH, RATES, SEEDS, STEPS = 1e-4, 1e-1, 9, 10, 1000
CELLS = len(OPTIMIZERS) * RATES * SEEDS
FEW = 18  # trials that a new actor each is measured with, and then scaled by


def _timed(command: list[str], environment: dict[str, str], timeout: float) -> float:
    """Seconds that a command takes.

    Raises:
        RuntimeError: it failed, with the end of what it printed.
    """
    begin = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout
    )
    if done.returncode:
        raise RuntimeError(f"{command[:4]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return time.perf_counter() - begin


def optgrid_command(out: Path, cells: int = CELLS) -> list[str]:
    """`optgrid run` of the grid, as the shell would call it; rows written, no report."""
    seeds = max(1, cells // (len(OPTIMIZERS) * RATES))
    run = [sys.executable, "-c", "from harness.cli import main; main()", "run", "--workload", "rosenbrock"]
    raced = [word for name in OPTIMIZERS for word in ("--optimizer", name)]
    grid = ["--lr", f"{LOW}:{HIGH}:{RATES}", "--seeds", str(seeds), "--steps", str(STEPS)]
    return [*run, *raced, *grid, "--no-report", "--out", str(out)]


def optgrid_seconds(cache: Path) -> float:
    """One run of all cells into a new folder; its rows are counted."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        seconds = _timed(optgrid_command(out), {"OPTGRID_CACHE": str(cache)}, 600)
        rows = len(pd.read_parquet(out / "cells", columns=["cell_id"]))
    if rows != CELLS:
        raise RuntimeError(f"optgrid wrote {rows} rows of {CELLS}")
    return seconds


def tune_seconds(trials: int, reuse: bool) -> float:
    """One run of the first `trials` cells by Ray Tune; the script counts its results."""
    script = [sys.executable, "-m", "benchmarks.tune_grid", "--trials", str(trials)]
    return _timed([*script, *(["--reuse"] if reuse else [])], {"PYTHONPATH": str(ROOT)}, 1200)


def measure(rounds: int, quick: bool) -> pd.DataFrame:
    """A row per run: side, round, cells, seconds (scaled to all cells where fewer ran), scaled."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            cache = Path(folder) / f"cache{number}"
            rows.append(("optgrid, cold cache", number, CELLS, optgrid_seconds(cache), False))
            rows.append(("optgrid, warm cache", number, CELLS, optgrid_seconds(cache), False))
            if number == 0:  # minutes each, and far from the others: once is enough
                start = tune_seconds(1, True)
                rows.append(("Ray Tune, actors used again", number, CELLS, tune_seconds(CELLS, True), False))
                few = 4 if quick else FEW
                took = tune_seconds(few, False)
                whole = start + (took - start) * (CELLS - 1) / (few - 1)
                rows.append(("Ray Tune, an actor per trial", number, few, whole, True))
    return pd.DataFrame(rows, columns=["side", "round", "cells", "seconds", "scaled"])
