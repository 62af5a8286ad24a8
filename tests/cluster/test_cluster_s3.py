"""Results in a bucket: a server process on loopback that speaks S3; sweep, kill, resume, report."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import build
from harness.executors.ray_options import ClusterOptions
from harness.records import Store
from harness.results import Results
from harness.types import RunError
from tests.cluster.conftest import add_node, rows, study
from tests.cluster.test_cluster_losses import DRIVER
from tests.cluster.test_cluster_submit import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address in an empty bucket; the variables by which AWS's clients find it are set."""
    import boto3

    pytest.importorskip("moto.server")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet: Any = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as server:
        client = boto3.client("s3", endpoint_url=endpoint)
        for _ in range(100):
            try:
                client.create_bucket(Bucket="results")
                break
            except Exception:
                assert server.poll() is None
                time.sleep(0.2)
        yield "s3://results/sweep"
        server.kill()


def test_sweep_kill_resume_report(
    cluster: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(study().run(tmp_path / "local"))
    monkeypatch.setenv("BOWL_SLEEP", "0.3")
    add_node(cluster, cpus=2)
    store = Store(bucket)
    command = [sys.executable, "-c", DRIVER, cluster.address, bucket]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        while len(store.files("cells")) < 4:
            assert driver.poll() is None
            time.sleep(0.2)
        driver.kill()
    begun = Results(bucket).status().done
    assert 0 < begun < 80
    seen: list[int] = []
    made = study().run(
        bucket, cluster=ClusterOptions(cluster.address), progress=lambda now: seen.append(now.cells_done)
    )
    assert seen[0] >= begun
    assert rows(made) == expected
    # As a user would, straight from the bucket.
    done = CliRunner().invoke(build(), ["status", bucket])
    assert done.exit_code == 0, done.output
    assert "80 of 80 cells done" in done.output
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(build(), ["report", bucket])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "index.html").is_file()
    assert set(tmp_path.iterdir()) == {tmp_path / "local", tmp_path / "report"}


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises(RunError, match=r"cannot write study.json in s3://other/sweep"):
        study().run("s3://other/sweep")
