"""On a cluster of several raylets, whatever is lost: rows equal the local executor's to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.executors.ray_options import ClusterOptions
from harness.types import Progress, RunError
from tests.cluster.conftest import add_node, journal, rows, study

pytestmark = pytest.mark.slow
ONE_TILE_PER_CALL = 1e-6


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """What one process makes of the study."""
    return rows(study().run(tmp_path_factory.mktemp("local") / "out"))


def options(cluster: Any, **changes: Any) -> ClusterOptions:
    return ClusterOptions(cluster.address, **({"call_seconds": ONE_TILE_PER_CALL} | changes))


def once(cells: int, act: Callable[[], None], workers: int = 0) -> Callable[[Progress], None]:
    """Does something when that many cells are done and workers there, from the driver's own loop."""
    acted = []

    def progress(now: Progress) -> None:
        if now.cells_done >= cells and now.workers >= workers and not acted:
            acted.append(True)
            act()

    return progress


def test_fans_out_with_few_compiles(cluster: Any, tmp_path: Path, expected: Any) -> None:
    add_node(cluster, gpus=1)
    add_node(cluster, gpus=1)
    made = study().run(tmp_path, cluster=options(cluster, gpus=1))
    assert rows(made) == expected
    assert set(made.cells()["code"].str.len()) == {64}  # the hash of the plug-in that travelled
    assert all(Path(line["log"]).is_file() for line in journal(tmp_path, "worker_ready"))
    assert made.cells()["worker"].nunique() == 2
    compiled = [line for line in journal(tmp_path, "tile_done") if line["compile_seconds"] > 0]
    assert 2 <= len(compiled) <= 2 * 2
    assert journal(tmp_path, "begin")[0]["gpus_per_worker"] == 1


def test_processes_of_this_machine_join_no_cluster_that_runs(
    cluster: Any, tmp_path: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)  # has no cores: nothing would ever run there
    assert rows(study().run(tmp_path, workers=2, cluster="local")) == expected


def test_rows_come_back_to_the_driver(cluster: Any, tmp_path: Path, expected: Any) -> None:
    add_node(cluster)
    made = study().run(tmp_path, cluster=options(cluster, gather=True, call_seconds=30.0))
    assert rows(made) == expected


def test_a_gpu_that_tensorflow_does_not_see(cluster: Any, tmp_path: Path) -> None:
    add_node(cluster, gpus=1)
    with pytest.raises(RunError, match="was given a GPU that its TensorFlow does not see"):
        study(strategy="one_device").run(tmp_path, cluster=options(cluster))


def test_killed_worker(cluster: Any, tmp_path: Path, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    add_node(cluster)
    add_node(cluster)

    def kill() -> None:
        os.kill(journal(tmp_path, "worker_ready")[0]["pid"], signal.SIGKILL)

    made = study().run(tmp_path, cluster=options(cluster), progress=once(16, kill))
    assert rows(made) == expected
    assert len(journal(tmp_path, "worker_lost")) == 1


def test_lost_node(cluster: Any, tmp_path: Path, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = tmp_path.with_suffix(".gate")
    monkeypatch.setenv("BOWL_GATE", str(gate))  # work is left when the second worker is ready
    nodes = [add_node(cluster), add_node(cluster)]
    cut = once(4, lambda: cluster.remove_node(nodes[0], allow_graceful=False), workers=2)

    def progress(now: Progress) -> None:
        cut(now)
        if journal(tmp_path, "worker_lost"):
            gate.touch()

    made = study().run(tmp_path, cluster=options(cluster), progress=progress)
    assert rows(made) == expected
    assert len(journal(tmp_path, "worker_lost")) == 1


def test_a_plug_in_that_segfaults(
    cluster: Any, tmp_path: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOWL_DIE", "3")
    add_node(cluster)
    add_node(cluster)
    small: dict[str, Any] = {"learning_rates": [1e-1], "seeds": 6, "optimizers": ["adam"]}
    made = study(**small).run(tmp_path, cluster=options(cluster))
    found = made.cells()
    guilty = found[found["seed"] == 3]
    assert set(guilty["status"]) == {"failed"}
    assert "lost its worker every time that it ran alone" in guilty["detail"].iloc[0]
    innocent = rows(made)
    assert len(innocent) == 5
    assert innocent == {k: expected[k] for k in innocent}


def test_a_cell_that_hangs(
    cluster: Any, tmp_path: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOWL_HANG", "1")
    add_node(cluster)
    small: dict[str, Any] = {"learning_rates": [1e-1], "seeds": 2, "optimizers": ["adam"]}
    made = study(**small).run(tmp_path, cluster=options(cluster, tile_seconds=6.0))
    found = made.cells().set_index("seed")
    assert "over its time limit of 6 s" in found.loc[1, "detail"]
    assert rows(made)[found.loc[0, "cell_id"]] == expected[found.loc[0, "cell_id"]]


def test_nodes_that_come_late(
    cluster: Any, tmp_path: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path.with_suffix(".gate")
    monkeypatch.setenv("BOWL_GATE", str(gate))  # work is left when the second worker is ready
    moments = [
        once(0, lambda: add_node(cluster)),
        once(4, lambda: add_node(cluster)),
        once(4, gate.touch, workers=2),
    ]

    def progress(now: Progress) -> None:
        for moment in moments:
            moment(now)

    made = study().run(tmp_path, cluster=options(cluster), progress=progress)
    assert rows(made) == expected
    assert made.cells()["worker"].nunique() == 2


def test_nobody_waits_for_ever(cluster: Any, tmp_path: Path) -> None:
    add_node(cluster, cpus=1)
    with pytest.raises(RunError, match=r"no worker for 3 s.*1 CPU and 1 GPU each.*2 nodes with 1 CPU"):
        study().run(tmp_path, cluster=options(cluster, gpus=1, patience_seconds=3.0))


DRIVER = """
import sys
from tests.cluster.conftest import study
from harness.executors.ray_options import ClusterOptions
study().run(sys.argv[2], cluster=ClusterOptions(sys.argv[1], call_seconds=1e-6))
"""


def test_killed_driver_resumes(
    cluster: Any, tmp_path: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOWL_SLEEP", "0.3")
    add_node(cluster)
    add_node(cluster)
    command = [sys.executable, "-c", DRIVER, cluster.address, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        while len(journal(tmp_path, "tile_done")) < 4:
            assert driver.poll() is None
            time.sleep(0.05)
        driver.kill()
    made = study().run(tmp_path, cluster=options(cluster))
    assert rows(made) == expected
    first, second = journal(tmp_path, "begin")
    assert first["tiles"] == 20
    assert 0 < second["tiles"] <= 16
