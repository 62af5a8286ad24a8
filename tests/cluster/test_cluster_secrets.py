"""Real heads, and callers with the right token, another one, or none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import tokens
from harness.executors.ray_connect import connected, greet
from harness.executors.ray_options import ClusterOptions
from harness.types import RunError, UsageError
from tests.cluster.test_cluster_submit import free_port

OPEN_HEAD = """
from ray.cluster_utils import Cluster
head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20}
made = Cluster(initialize_head=True, head_node_args=head)
print(made.address, flush=True)
input()
made.shutdown()
"""


@pytest.mark.slow
def test_a_head_lets_in_who_has_its_token(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    greet(cluster.address, insecure=False)
    monkeypatch.setenv(tokens.TOKEN, "another")
    with pytest.raises(UsageError, match=r"asks for another token .*copy its ~/\.ray/auth_token"):
        greet(cluster.address, insecure=False)
    with (
        pytest.raises(UsageError, match="asks for another token"),
        connected(ClusterOptions(cluster.address), None),
    ):
        pytest.fail("it connected")


@pytest.mark.slow
def test_a_head_that_asks_for_no_token_is_refused_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = os.environ | {tokens.MODE: "disabled"}
    command = [sys.executable, "-c", OPEN_HEAD]
    pipe: Any = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as head:
        assert head.stdout is not None
        address = next(line.strip() for line in head.stdout if ":" in line)
        try:
            with pytest.raises(UsageError, match=r"asks for no token: .*--insecure"):
                greet(address, insecure=False)
            greet(address, insecure=True)
            with (
                pytest.raises(UsageError, match="asks for no token"),
                connected(ClusterOptions(address), None),
            ):
                pytest.fail("it connected")
        finally:
            head.communicate("\n", timeout=60)


def test_nobody_there_is_said_within_seconds() -> None:
    with pytest.raises(RunError, match=r"nobody answers at 127.0.0.1:\d+: is the head up"):
        greet(f"127.0.0.1:{free_port()}", insecure=False)


def test_auto_where_no_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    def nothing(address: str) -> str:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", nothing)
    with (
        pytest.raises(RunError, match=r"no node of a Ray cluster .*optgrid submit.*--address local"),
        connected(ClusterOptions("auto"), None),
    ):
        pytest.fail("it connected")


def test_ray_that_is_not_installed(tmp_path: Path) -> None:
    hidden = (
        "import importlib.machinery as m\n"
        "real = m.PathFinder.find_spec.__func__\n"
        "found = lambda cls, name, *rest: None if name == 'ray' else real(cls, name, *rest)\n"
        "m.PathFinder.find_spec = classmethod(found)\n"
        "from harness.cli import main\n"
        "main()\n"
    )
    words = ["submit", "--workload", "rosenbrock", "--optimizer", "adam", "--address", "http://127.0.0.1:1"]
    done = subprocess.run(
        [sys.executable, "-c", hidden, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "Ray is not installed here" in done.stderr
    assert "pip install 'optgrid[cluster]'" in done.stderr
