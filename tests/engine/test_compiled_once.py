"""XLA compiles a program once, wherever in their runs its lanes stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).with_name("plugins.py")
# XLA's cache has a file for each of its compilations; where it lies is decided once in a process.
SCRIPT = f"""
from pathlib import Path
from harness import Study, halves, tiling
tiling.VALUES_PER_CALL = 25 * 4  # lanes
from harness.runtime import cache_folder
from harness.strategies import Placement
from harness.tilerun import TileRun
from harness.worker import Programs

programs = Programs(Placement("one_device", ["CPU:0"]))

def compiled():
    return sorted(path.name for path in cache_folder().rglob("optgrid*") if path.is_file())

def look(stop, curves, workload="rosenbrock(steps=130)", optimizer=None):
    global program
    # Of lanes at steps of their own TensorFlow's vectorizer takes no place in a table.
    rule = "Scheduled" if stop == "budget" else "Good"
    study = Study(
        name="once", workloads=[workload], optimizers=[optimizer or "{PLUGINS}:" + rule],
        learning_rates=[1e-4, 1e-3], seeds=3, lanes=4, stop=stop, record={{"curves": curves, "points": 4}},
    )
    (program,) = study.plan().programs.values()
    warm, _ = programs.get(program)
    warm.compiled.books.compile().result()
    before = compiled()
    assert before, list(cache_folder().rglob("*"))
    calls = []
    advance = warm.compiled.advance
    warm.compiled.advance = lambda *args: (calls.append(args), advance(*args))[1]
    for tile in study.plan().tiles:
        TileRun(warm, tile.cells, programs.placement.run, curves=curves).run()
    print(stop, curves, len(calls), warm.compiled.traces, len(set(compiled()) - set(before)))

for stop in ("budget", "target"):
    for curves in (True, False):
        look(stop, curves)
halves.LEAST = 1
for stop in ("budget", "target"):
    for curves in (True, False):
        look(stop, curves, "digits_mlp(hidden=[32], batch_size=8, steps=130)", "adam")
        assert programs.get(program)[0].compiled.halved
"""


def test_a_step_that_a_table_is_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"OPTGRID_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    looks = [line.split() for line in done.stdout.splitlines()]
    assert len(looks) == 8
    for *case, calls, traces, anew in looks:
        assert int(calls) > 8 and (traces, anew) == ("1", "0"), case
