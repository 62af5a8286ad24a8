"""Several processes under one strategy: over gRPC on one machine, one of them lost, own addresses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Study
from harness.executors import processes
from harness.executors.local import Job
from harness.results import Results
from harness.types import Progress
from tests.cluster.conftest import journal
from tests.strategies.conftest import assert_close, exact, run, table

pytestmark = pytest.mark.slow

FIELDS: dict[str, Any] = {
    "workloads": ["digits_logistic(steps=40, batch_size=16)"],
    "optimizers": ["adam"],
    "learning_rates": [1e-3, 1e-1],
    "seeds": 4,
    "lanes": 2,
    "dtype": "float64",
    "record": {"points": 4},
}


def workers(count: int, split: str = "batch") -> dict[str, Any]:
    return {"name": "multi_worker_mirrored", "replicas": count, "split": split}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(tmp_path_factory.mktemp("one") / "out", "one_device", FIELDS)


def test_a_batch_over_three_processes(tmp_path: Path, one: Results) -> None:
    made = run(tmp_path / "out", workers(3), FIELDS)
    assert_close(made, one)
    cells = table(made)
    ready = journal(tmp_path / "out", "worker_ready")
    assert sorted(line["process"] for line in ready) == [0, 1, 2]
    chief = next(line["pid"] for line in ready if line["process"] == 0)
    # One gang ran all tiles, and its chief wrote all rows.
    assert cells["tile_id"].nunique() == 4 and set(cells["worker"].str.split("/").str[1]) == {str(chief)}
    assert set(cells["replicas"]) == {3} and (cells["all_reduce_share"] > 0).all()


def test_a_lost_process_costs_its_tile_a_second_run(tmp_path: Path, one: Results) -> None:
    killed: list[int] = []

    def kill(now: Progress) -> None:
        if now.cells_done >= 2 and not killed:
            killed.append(next(e["pid"] for e in journal(tmp_path / "out", "worker_ready") if e["process"]))
            os.kill(killed[0], signal.SIGKILL)

    made = run(tmp_path / "out", workers(2), FIELDS, progress=kill)
    assert_close(made, one)
    (loss,) = journal(tmp_path / "out", "worker_lost")
    assert loss["cause"] == f"process {killed[0]} ended by SIGKILL"
    ready = journal(tmp_path / "out", "worker_ready")
    assert len({line["worker"] for line in ready}) == 2 and len({line["pid"] for line in ready}) == 4
    for line in ready:
        with pytest.raises(ProcessLookupError):
            os.kill(line["pid"], 0)


def test_lanes_over_two_processes(tmp_path: Path, one: Results) -> None:
    made = run(tmp_path / "out", workers(2, "lanes"), FIELDS)
    assert exact(made) == exact(one)
    assert made.cells()["worker"].nunique() == 2 and set(made.cells()["replicas"]) == {2}


# -- each with its own address -------------------------------------------------------------------------


def possible() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        return False
    name = f"optgrid-try-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return False
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return True


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, list[str]]]]:
    """Two network namespaces with an address each, joined by a virtual cable."""
    names = [f"optgrid-{os.getpid()}-{i}" for i in range(2)]
    cable = [f"og{os.getpid() % 100000}{side}" for side in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        found: list[tuple[str, list[str]]] = []
        for i, name in enumerate(names):
            address = f"10.78.0.{i + 1}"
            ip("link", "set", cable[i], "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", cable[i])
            ip("-n", name, "link", "set", cable[i], "up")
            ip("-n", name, "link", "set", "lo", "up")
            found.append((address, ["ip", "netns", "exec", name]))
        yield found
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.mark.hosts
@pytest.mark.skipif(not possible(), reason="needs root and network namespaces")
def test_processes_with_addresses_of_their_own(tmp_path: Path, one: Results, hosts: Any) -> None:
    study = Study(name="spread", strategy=workers(2), **FIELDS)
    store = Results(one.path).store.__class__(str(tmp_path / "out"))
    planned = study.plan()
    store.write_json("study.json", study._describe(planned))
    job = Job(store, "spread", study.layout())
    stop = threading.Event()
    found = list(processes.execute(planned.tiles, job, stop, fingerprint=study._fingerprint(), hosts=hosts))
    assert sum(outcome.cells for outcome in found) == 8
    assert_close(Results(tmp_path / "out"), one)
