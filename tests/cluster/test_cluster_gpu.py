"""On real GPUs: workers see theirs, leave memory to others, and rows equal those of one process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.executors.ray_options import ClusterOptions
from tests.cluster.conftest import journal, rows, study
from tests.conftest import STORE


def gpus() -> int:
    """GPUs of this machine, without taking any of their memory."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return done.stdout.count("GPU ")


pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(scope="module")
def node() -> Iterator[Any]:
    """A node with this machine's own GPUs."""
    from ray.cluster_utils import Cluster

    count = gpus()
    if not count:
        pytest.skip("needs a GPU")
    node: dict[str, Any] = {"num_cpus": 2 * count, "num_gpus": count, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node | {"object_store_memory": STORE})
    yield made
    made.shutdown()


def on_gpu(name: str, **changes: Any) -> Any:
    return study(name, strategy={"name": "one_device"}, **changes)


def test_a_worker_per_gpu_with_the_rows_of_one_process(node: Any, tmp_path: Path) -> None:
    made = on_gpu("gpu").run(tmp_path / "cluster", cluster=ClusterOptions(node.address))
    ready = journal(tmp_path / "cluster", "worker_ready")
    assert 1 <= len(ready) <= gpus()
    assert {line["device"] for line in ready} == {"GPU:0"}  # each sees its own only
    assert set(made.cells()["device"]) == {"GPU:0"}
    assert rows(made) == rows(on_gpu("gpu").run(tmp_path / "local"))


def test_two_workers_share_a_gpu_and_leave_memory_to_each_other(node: Any, tmp_path: Path) -> None:
    used: list[int] = []
    total = memory("total")

    def look(now: Any) -> None:
        if now.workers == 2 * gpus():
            used.append(memory("used"))

    os.environ["BOWL_SLEEP"] = "0.5"
    try:
        options = ClusterOptions(node.address, per_gpu=2, call_seconds=1e-6)
        made = on_gpu("shared").run(tmp_path, cluster=options, progress=look)
    finally:
        del os.environ["BOWL_SLEEP"]
    assert journal(tmp_path, "begin")[0]["gpus_per_worker"] == 0.5
    assert made.cells()["worker"].nunique() == 2 * gpus()
    assert used
    assert max(used) < total / 2  # without growth, the first worker alone takes nearly all of it


def memory(what: str) -> int:
    """MiB of the first GPU."""
    query = ["nvidia-smi", f"--query-gpu=memory.{what}", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout)
