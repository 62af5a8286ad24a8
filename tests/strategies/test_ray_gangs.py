"""A split batch on a Ray cluster: a gang in a placement group, and one of its actors lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.executors.ray_options import ClusterOptions
from harness.types import Progress, RunError
from tests.cluster.conftest import add_node, journal
from tests.strategies.conftest import assert_close, run
from tests.strategies.test_processes import FIELDS, workers

pytestmark = pytest.mark.slow


def test_two_nodes_and_a_lost_actor(cluster: Any, tmp_path: Path) -> None:
    add_node(cluster)
    add_node(cluster)
    killed: list[int] = []

    def kill(now: Progress) -> None:
        if now.cells_done >= 2 and not killed:
            killed.append(next(e["pid"] for e in journal(tmp_path / "out", "worker_ready") if e["process"]))
            os.kill(killed[0], signal.SIGKILL)

    options = ClusterOptions(cluster.address, gather=True, call_seconds=1e-6)
    made = run(tmp_path / "out", workers(2), FIELDS, cluster=options, progress=kill)
    assert_close(made, run(tmp_path / "one", "one_device", FIELDS))
    assert killed and len(journal(tmp_path / "out", "worker_lost")) == 1
    assert len({line["worker"] for line in journal(tmp_path / "out", "worker_ready")}) == 2
    assert set(made.cells()["replicas"]) == {2}


def test_one_node_has_all_replicas_or_says_what_is_missing(cluster: Any, tmp_path: Path) -> None:
    add_node(cluster, cpus=2)
    strategy = {"name": "mirrored", "replicas": 2, "split": "batch"}
    small = FIELDS | {"seeds": 1}
    made = run(tmp_path / "out", strategy, small, cluster=ClusterOptions(cluster.address))
    assert set(made.cells()["device"]) == {"CPU:0, CPU:1"} and (made.cells()["status"] != "failed").all()
    options = ClusterOptions(cluster.address, patience_seconds=3.0)
    with pytest.raises(RunError, match=r"no worker for 3 s: processes of 4 CPU each.*2 CPU"):
        run(tmp_path / "many", strategy | {"replicas": 4}, small, cluster=options)
