"""XLA compiles a program once, wherever in their runs its lanes stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).with_name("plugins.py")
# XLA's cache has a file for each of its compilations; where it lies is decided once in a process.
SCRIPT = f"""
import sys
from pathlib import Path
from harness import Study, tiling
tiling.VALUES_PER_CALL = 25 * 4  # lanes
from harness.runtime import cache_folder
from harness.strategies import Placement
from harness.tilerun import TileRun
from harness.worker import Programs

stop, curves = sys.argv[1], sys.argv[2] == "curves"
# Of lanes at steps of their own TensorFlow's vectorizer takes no place in a table.
rule = "Scheduled" if stop == "budget" else "Good"
study = Study(
    name="once", workloads=["rosenbrock(steps=130)"], optimizers=["{PLUGINS}:" + rule],
    learning_rates=[1e-4, 1e-3], seeds=3, lanes=4, stop=stop, record={{"curves": curves, "points": 4}},
)
programs = Programs(Placement("one_device", ["CPU:0"]))
(program,) = study.plan().programs.values()
warm, _ = programs.get(program)
warm.compiled.books.compile().result()

def compiled():
    return sorted(path.name for path in cache_folder().rglob("optgrid*") if path.is_file())

before = compiled()
assert before, list(cache_folder().rglob("*"))
calls = []
advance = warm.compiled.advance
warm.compiled.advance = lambda *args: (calls.append(args), advance(*args))[1]
for tile in study.plan().tiles:
    TileRun(warm, tile.cells, programs.placement.run, curves=curves).run()
print(len(calls), warm.compiled.traces, len(set(compiled()) - set(before)))
"""


@pytest.mark.parametrize("curves", ["curves", "none"])
@pytest.mark.parametrize("stop", ["budget", "target"])
def test_a_step_that_a_table_is_asked_for(stop: str, curves: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, stop, curves],
        env=os.environ | {"OPTGRID_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    calls, traces, anew = map(int, done.stdout.split())
    assert calls > 8 and traces == 1 and anew == 0
