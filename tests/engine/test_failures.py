"""What goes wrong costs its own rows and says so; the rest of the grid goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import Results, Study
from harness.types import RunError, UsageError
from tests.engine.frames import bits

PLUGINS = Path(__file__).with_name("plugins.py")
WORKLOAD = "rosenbrock(steps=40)"


def race(out: Path, *classes: str, **fields: Any) -> Results:
    optimizers = ["gradient_descent", *(f"{PLUGINS}:{name}" for name in classes)]
    given = {"workloads": [WORKLOAD], "learning_rates": [1e-4, 1e-3], "seeds": 2} | fields
    return Study(name="faults", optimizers=optimizers, **given).run(out)


@pytest.mark.parametrize(
    ("plugin", "sentence"),
    [
        ("Raises", "RuntimeError: no luck today"),
        ("Rambles", "RuntimeError: no luck at all"),
        ("Exits", "SystemExit: I quit"),
        ("WrongShape", "shape (4,) for leaf 0 of the parameters, expected (2,)"),
        ("WrongDtype", "float64 for leaf 0 of the parameters, expected float32"),
    ],
)
def test_a_plugin_that_fails_makes_failed_rows(tmp_path: Path, plugin: str, sentence: str) -> None:
    cells = race(tmp_path / "out", plugin).cells()
    failed = cells[cells["status"] == "failed"]
    assert len(failed) == 4 and failed["detail"].str.contains(sentence, regex=False).all()
    assert (cells[cells["optimizer"] == "gradient_descent"]["status"] != "failed").all()


def test_a_plugin_that_makes_nan_diverges(tmp_path: Path) -> None:
    cells = race(tmp_path / "out", "Nan").cells()
    nan = cells[cells["optimizer"].str.contains("Nan")]
    assert (nan["status"] == "diverged").all() and (nan["steps"] == 11).all()
    assert np.isinf(nan["final_loss"]).all()


def test_what_cannot_be_lifted_runs_one_lane_at_a_time_and_says_so(tmp_path: Path) -> None:
    cells = race(tmp_path / "out", "OneAtATime", "Good").cells()
    slow = cells[cells["optimizer"].str.contains("OneAtATime")].sort_values(["learning_rate", "seed"])
    good = cells[cells["optimizer"].str.contains("Good")].sort_values(["learning_rate", "seed"])
    assert (slow["lanes"] == 1).all() and slow["detail"].str.contains("one lane at a time").all()
    np.testing.assert_allclose(slow["final_loss"], good["final_loss"], rtol=1e-5)


def test_the_plugin_reaches_the_same_rows_as_the_catalogue(tmp_path: Path) -> None:
    cells = race(tmp_path / "out", "Good").cells()
    ours, theirs = (cells[cells["optimizer"].str.contains(n)] for n in ("gradient_descent", "Good"))
    key = ["learning_rate", "seed"]
    np.testing.assert_allclose(
        ours.sort_values(key)["final_loss"], theirs.sort_values(key)["final_loss"], rtol=1e-6
    )


def test_truncated_and_foreign_files_cost_their_own_rows(tmp_path: Path) -> None:
    whole = bits(race(tmp_path / "out").cells())
    folder = tmp_path / "out" / "cells"
    pq.write_table(pa.table({"a": [1]}), folder / "foreign.parquet")
    victim = next(p for p in folder.glob("*.parquet") if p.stem != "foreign")
    victim.write_bytes(victim.read_bytes()[:100])
    status = Results(tmp_path / "out").status()
    assert status.done == 0 and status.missing == len(whole)
    assert any("foreign.parquet was left out: not written by OptGrid" in p for p in status.problems)
    assert any(victim.name in p for p in status.problems)
    assert bits(race(tmp_path / "out").cells()) == whole


def test_another_study_in_the_folder_is_refused(tmp_path: Path) -> None:
    race(tmp_path / "out")
    with pytest.raises(UsageError, match="holds another study"):
        race(tmp_path / "out", seeds=3)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    race(tmp_path / "out")
    study = tmp_path / "out" / "study.json"
    study.write_text(study.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(UsageError, match="results schema 99"):
        race(tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match=r"cannot write study\.json in .*file/out"):
        race(tmp_path / "file" / "out")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        race(tmp_path / "file")


def test_contours_that_a_full_disk_cost_are_made_by_the_resume(tmp_path: Path) -> None:
    race(tmp_path / "out")
    (tmp_path / "out" / "contours" / "contours.parquet").unlink()
    assert race(tmp_path / "out").contours()["workload"].tolist() == [WORKLOAD]


SCRIPT = """
    import sys
    from harness import Study
    Study(name="kill", workloads=["rosenbrock(steps=3000)", "ackley(steps=3000)", "beale(steps=3000)"],
          optimizers=["adam"], learning_rates=[1e-4, 1e-3], seeds=40,
          lanes=8).run(sys.argv[1])
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_to_the_same_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    whole = Results(tmp_path / "whole")
    out = tmp_path / "cut"
    for committed in (1, 8):  # killed with this many more files there, in the middle of the next ones
        have = len(list((out / "cells").glob("*.parquet")))
        process = subprocess.Popen([*command, str(out)])
        deadline = time.monotonic() + 120
        while len(list((out / "cells").glob("*.parquet"))) < have + committed and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 0 < Results(out).status().done < whole.status().done
    subprocess.run([*command, str(out)], check=True)
    cut = Results(out)
    assert bits(cut.cells()) == bits(whole.cells()) and bits(cut.curves()) == bits(whole.curves())
    assert cut.status().missing == 0


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits")
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    limited = """
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        from harness import Study
        from harness.types import RunError
        study = Study(name="full", workloads=["rosenbrock(steps=40)"], optimizers=["adam"],
                      learning_rates=[1e-3], seeds=2)
        study.plan()
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            study.run(sys.argv[1])
        except RunError as error:
            print(error)
    """
    out = tmp_path / "full"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(limited), str(out)],
        capture_output=True, text=True, env={**os.environ, "OPTGRID_CACHE": str(tmp_path / "none")},
    )  # fmt: skip
    assert "cannot write" in done.stdout and "committed before is kept" in done.stdout, done.stderr
    assert not list(out.rglob("*.partial"))
