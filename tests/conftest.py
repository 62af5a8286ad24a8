"""A throwaway token, and a small cluster of several raylets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from harness import tokens

STORE = 80 * 2**20
_FOLDER = "RAY_TMPDIR"


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A secret of these tests' own: the user's is neither read nor made.

    One per process, for Ray keeps the first that it reads. So is the folder in which Ray notes the
    machine's last cluster: a submitted job is sent there, and must not find another process's.
    """
    before = {name: os.environ.get(name) for name in (tokens.MODE, tokens.TOKEN, tokens.TOKEN_PATH, _FOLDER)}
    os.environ.pop(tokens.TOKEN, None)
    os.environ[_FOLDER] = folder = tempfile.mkdtemp(prefix="og", dir="/tmp")  # sockets' paths must be short
    os.environ[tokens.TOKEN_PATH] = str(tmp_path_factory.mktemp("secret") / "auth_token")
    os.environ[tokens.MODE] = "token"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray reads it in this spelling: other programs' memory is not these tests' matter.
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112
    tokens.ensure_token()
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    shutil.rmtree(folder, ignore_errors=True)  # a raylet that ends may still write there


@pytest.fixture
def cluster(token: None) -> Iterator[Any]:
    """A head without cores; tests add nodes."""
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE},
    )
    yield made
    made.shutdown()
