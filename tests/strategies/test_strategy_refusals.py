"""What cannot work says so before it starts; what lacks its hardware here can be planned all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import Study
from harness.cli import build
from harness.types import Layout, UsageError
from tests.strategies.conftest import run

PLUGIN = Path(__file__).parent / "plugins" / "refused.py"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "strategies"
FIELDS: dict[str, Any] = {
    "workloads": ["digits_logistic(steps=5)"],
    "optimizers": ["adam"],
    "learning_rates": [1e-2],
    "seeds": 1,
}


def mirrored(replicas: int, **changes: Any) -> dict[str, Any]:
    return {"name": "mirrored", "replicas": replicas, "split": "batch"} | changes


@pytest.mark.parametrize(
    ("strategy", "changes", "sentence"),
    [
        ({"name": "one_device", "replicas": 2}, {}, "'one_device' has one replica, not 2: use mirrored"),
        (mirrored(2, devices=["CPU:0"]), {}, "2 replicas need as many 'devices', not 1"),
        ({"name": "mirrored", "devices": ["CPU:0", "CPU:0"]}, {}, "a device is named twice"),
        ({"name": "mirrored", "drop_remainder": True}, {}, "drop_remainder is for split: batch"),
        ({"name": "multi_worker_mirrored", "split": "batch", "devices": ["GPU:0"]}, {}, "needs 'replicas'"),
        (mirrored(5, name="multi_worker_mirrored"), {"workers": 2}, "shared out evenly over 2 workers"),
        (mirrored(16, name="multi_worker_mirrored", devices=["GPU:0"]), {"workers": 2},
         "2 workers with 1 devices each make 2 replicas, not 16"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(strategy: Any, changes: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Study(name="no", strategy=strategy, **(FIELDS | changes))


@pytest.mark.parametrize(
    ("strategy", "changes", "sentence"),
    [
        (mirrored(2), {"optimizers": [f"{PLUGIN}:PerExample"]}, "needs per-example gradients"),
        (mirrored(2), {"optimizers": [f"lookahead({PLUGIN}:PerExample)"]}, "needs per-example gradients"),
        (mirrored(4), {"workloads": [f"{PLUGIN}:Spread"]},
         "a batch of 10 cannot be cut into 4: use a batch of 8 or 12, or 'drop_remainder: true'"),
        (mirrored(4, drop_remainder=True), {"workloads": [f"{PLUGIN}:Spread(batch_size=3)"]},
         "a batch of 3 leaves nothing for 4 replicas"),
        (mirrored(64), {}, "64 CPU devices are needed and TensorFlow has started with"),
        ({"name": "mirrored", "devices": ["CPU:0", "GPU:9"]}, {},
         "no device 'GPU:9' here: TensorFlow sees CPU:0"),
        ({"name": "multi_worker_mirrored", "replicas": 64, "devices": ["GPU:0"], "split": "batch"}, {},
         "64 GPUs are needed on this machine: TensorFlow sees CPU:0"),
        ({"name": "multi_worker_mirrored", "replicas": 4, "devices": ["CPU:0"], "split": "batch"},
         {"workers": 2}, "'replicas'|make 2 replicas"),
    ],
)  # fmt: skip
def test_is_refused_before_it_starts(tmp_path: Path, strategy: Any, changes: Any, sentence: str) -> None:
    import tensorflow as tf

    tf.constant(0.0) + 1.0  # TensorFlow has started
    with pytest.raises(UsageError, match=sentence):
        run(tmp_path / "out", strategy, FIELDS | changes)
    assert not (tmp_path / "out").exists()


def test_equal_parts_are_served(tmp_path: Path) -> None:
    for strategy in (mirrored(2), mirrored(4, drop_remainder=True)):
        fields = FIELDS | {"workloads": [f"{PLUGIN}:Spread"]}
        cells = run(tmp_path / str(strategy["replicas"]), strategy, fields).cells()
        assert (cells["status"] != "failed").all()


@pytest.mark.parametrize("name", ["eight_gpus", "eight_gpus_one_batch", "two_nodes"])
def test_hardware_that_is_not_here_can_be_planned(name: str) -> None:
    file = str(EXAMPLES / f"{name}.yaml")
    done = CliRunner().invoke(build(), ["run", file, "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert plan["notes"] == [] and plan["cells"] >= 56
    strategy = plan["spec"]["strategy"]
    assert strategy["devices"] == [f"GPU:{i}" for i in range(8)] and "GPU:7" in plan["strategy"]
    layout = Study.load(file).layout()
    assert (layout.processes, layout.per_process) == ((2, 8) if name == "two_nodes" else (1, 8))


def test_the_command_line_ends_with_2() -> None:
    file = str(EXAMPLES / "eight_gpus_one_batch.yaml")
    command = [sys.executable, "-c", "from harness.cli import main; main()", "run", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "error: no device 'GPU:0' here: TensorFlow sees CPU:0" in done.stderr


def test_layouts_count_their_processes() -> None:
    def counted(*given: Any, **more: Any) -> tuple[int, int]:
        layout = Layout(*given, **more)
        return layout.processes, layout.per_process

    assert counted("mirrored", "batch", 4) == (1, 4)
    assert counted("multi_worker_mirrored", "batch", 4) == (4, 1)
    assert counted("multi_worker_mirrored", "batch", 16, ("GPU:0",) * 8) == (2, 8)
    assert counted("multi_worker_mirrored", "batch", 16, workers=4) == (4, 4)
    assert counted("central_storage", "batch", devices=("CPU:0", "CPU:1")) == (1, 2)
