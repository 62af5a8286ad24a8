"""The command line with TensorFlow, in processes of its own: run, interrupt, resume, check."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import cli

ROOT = Path(cli.__file__).resolve().parents[2]
CODE = "from harness.cli import main; main()"

pytestmark = pytest.mark.slow


def command(*arguments):
    return [sys.executable, "-c", CODE, *arguments]


def environment():
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}  # JAX, once imported, sets it
    return {**kept, "PYTHONPATH": path}


def optgrid(*arguments, cwd):
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300
    )


def test_interrupt_keeps_what_is_committed_and_the_printed_command_resumes(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "workloads: [rosenbrock, beale]\noptimizers: [gradient_descent, momentum, adam]\n"
        "learning_rates: 1e-4:1e-1:4\nseeds: 4\nworkers: 1\n"
    )
    process = subprocess.Popen(
        command("run", "s.yaml", "--no-report"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up = time.monotonic() + 120
    while not list(tmp_path.glob("results/s/cells/*.parquet")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "what is finished is being kept" in err
    *_, resume = err.strip().splitlines()
    assert resume == "resume with: optgrid run s.yaml --no-report"

    cut = json.loads(optgrid("status", "results/s", "--json", cwd=tmp_path).stdout)
    assert cut["cells"] == 2 * 3 * 4 * 4
    assert 0 < cut["done"] < cut["cells"]

    again = shlex.split(resume.partition(": optgrid ")[2])
    done = optgrid(*again, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["cells"] == sum(answer["status"].values()) == cut["cells"]
    assert {row["workload"] for row in answer["recommendations"]} == {"rosenbrock", "beale"}
    assert answer["report"] is None


def test_a_dry_run_says_what_would_run_and_writes_nothing(tmp_path):
    flags = ["--workload", "rosenbrock", "--optimizer", "adam", "--optimizer", "cosine(momentum)"]
    flags += ["--lr", "1e-3:1e-1:3", "--seeds", "4", "--steps", "200"]
    plan = optgrid("run", *flags, "--dry-run", "--json", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    found = json.loads(plan.stdout)
    assert (found["cells"], found["programs"], found["cell_steps"]) == (24, 2, 24 * 200)
    assert found["estimated_bytes"] > 0
    assert list(tmp_path.iterdir()) == []
    # The chatter of TensorFlow's start is kept away from the user.
    assert plan.stderr.count("\n") == 1


def test_a_failing_plug_in_ends_the_run_with_1_and_keeps_the_others_rows(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Bad:\n"
        "    def init(self, params): return ()\n"
        "    def update(self, params, grads, state, lr, step): raise RuntimeError('no luck today')\n"
        "    def eval_params(self, params, state): return params\n"
    )
    flags = ["--workload", "quartic(steps=20)", "--optimizer", "mine.py:Bad", "--optimizer", "adam"]
    run = optgrid("run", *flags, "--lr", "1e-2", "--seeds", "2", "--out", "out", "--json", cwd=tmp_path)
    assert run.returncode == 1
    assert json.loads(run.stdout)["status"]["failed"] == 2
    sentence = "error: 2 of 4 cells failed, the first with 'RuntimeError: no luck today'"
    assert run.stderr.strip().splitlines()[-1].startswith(sentence)
    assert (tmp_path / "out" / "report" / "index.html").is_file()


def test_check_fails_what_breaks_the_contract_and_passes_what_keeps_it(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nimport tensorflow as tf\n\n"
        "@dataclass(frozen=True)\nclass Forgetful:\n    '''It returns no state.'''\n\n"
        "    def init(self, params): return {'n': tf.zeros([])}\n"
        "    def update(self, params, grads, state, lr, step): return params, None\n"
        "    def eval_params(self, params, state): return params\n"
    )
    broken = optgrid("check", "mine.py:Forgetful", "--json", cwd=tmp_path)
    assert broken.returncode == 1, broken.stderr
    found = json.loads(broken.stdout)
    assert found["kind"] == "optimizer"
    assert not found["passed"]
    fine = optgrid("check", "gradient_descent", cwd=tmp_path)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "0 failed" in fine.stdout
