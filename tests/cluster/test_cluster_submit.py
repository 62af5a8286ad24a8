"""From outside, over the job API of a real head: submit, follow, fetch, look at the nodes."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import tokens
from harness.cli import build
from harness.cli._cluster import flags_of
from harness.cluster import parcels, probe
from harness.cluster import submit as jobs
from harness.results import Results
from harness.types import RunError, UsageError
from tests.cluster.conftest import PLUGINS, rows, study
from tests.conftest import STORE


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node with a dashboard on loopback and a GPU in the books; its home is empty.

    One node: two of them on one machine share a folder of packages, and one cleans it up for both.
    """
    from ray.cluster_utils import Cluster

    home, port = tmp_path_factory.mktemp("home"), free_port()
    kept = {name: os.environ[name] for name in ("HOME", "PATH")}
    os.environ["HOME"] = str(home)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "num_gpus": 1,
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": port,
            "dashboard_agent_listen_port": free_port(),  # else a fixed one, which another cluster may hold
            "object_store_memory": STORE,
        },
    )
    os.environ.update(kept)
    yield f"http://127.0.0.1:{port}", home
    made.shutdown()


def run(*arguments: str) -> int:
    from typer.testing import CliRunner

    done = CliRunner().invoke(build(), list(arguments))
    print(done.output)
    return done.exit_code


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fields = {
        "name": "outside",
        "workloads": [f"{PLUGINS / 'bowls.py'}:Bowl"],
        "optimizers": ["adam", "momentum"],
        "learning_rates": [1e-3, 1e-2, 1e-1, 1.0],
        "seeds": 10,
        "lanes": 4,
        "strategy": {"name": "one_device", "devices": ["CPU:0"]},
    }
    path = tmp_path / "outside.yaml"
    path.write_text(yaml.safe_dump(fields))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.slow
def test_a_study_from_outside(
    head: Any, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, home = head
    assert run("submit", str(study_file), "--address", address, "--detach") == 0
    assert capsys.readouterr().out.strip().endswith("optgrid-outside-r1")
    assert run("submit", str(study_file), "--address", address, "--no-report") == 0
    fetched = Results(tmp_path / "results" / "outside")
    assert rows(fetched) == rows(study().run(tmp_path / "local"))
    assert (home / "optgrid-results" / "outside" / "study.json").is_file()


@pytest.mark.slow
def test_a_cluster_whose_tensorflow_sees_no_gpu(head: Any) -> None:
    found = probe.problems(jobs.Remote(head[0]), print)
    assert len(found) == 1
    assert "TensorFlow sees 0 of the 1 GPUs" in found[0]


@pytest.mark.slow
def test_a_token_that_is_not_the_heads(head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    answer = requests.post(f"{head[0]}/api/jobs/", json={"entrypoint": "id"}, timeout=20)
    assert answer.status_code == 401
    monkeypatch.setenv(tokens.TOKEN, "another")
    with pytest.raises(RunError, match=r"asks for another token .*auth_token"):
        jobs.Remote(head[0]).client()


def test_nobody_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is the tunnel up"):
        jobs.Remote(f"http://127.0.0.1:{free_port()}").client()
    with pytest.raises(UsageError, match="jobs are sent to the dashboard"):
        jobs.Remote("127.0.0.1:6379").client()


def test_a_head_that_has_only_just_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", (0.01, 0.01))
    answers = ["No available agent to submit job", "No available agent to submit job", ""]

    class Client:
        def submit_job(self, **job: str) -> str:
            if reason := answers.pop(0):
                raise RuntimeError(f"Request failed with status code 500: {reason}")
            return job["submission_id"]

    assert jobs.send(Client(), submission_id="r1") == "r1"
    answers[:] = ["Job with submission_id r1 already exists"]
    with pytest.raises(RunError, match=r"the cluster did not take the job.*already exists"):
        jobs.send(Client(), submission_id="r1")


def test_the_job_s_command() -> None:
    line = jobs.entrypoint("~/optgrid-results/a b", gather=True, flags=["--workers", "3"])
    assert line == (
        "optgrid run study.yaml --address auto --out ~/'optgrid-results/a b' --no-report --gather --workers 3"
    )
    assert "--out 's3://b/$(id)'" in jobs.entrypoint("s3://b/$(id)", gather=False, flags=[])
    flags = flags_of(insecure=True, per_gpu=4, patience=0.5, tile_limit=90.0)
    assert flags == ["--insecure", "--workers-per-gpu", "4", "--patience", "0.5", "--tile-limit", "90"]


def test_a_job_of_the_same_name_must_be_the_same_study() -> None:
    ours = {"study": "s", "out": "~/optgrid-results/s", "content": "a"}
    jobs._require_same("optgrid-s-r1", ours, ours)
    with pytest.raises(UsageError, match=r"makes another study, or other code: .*--name.*ray job stop"):
        jobs._require_same("optgrid-s-r1", ours | {"content": "b"}, ours)
    with pytest.raises(UsageError, match="makes rows for s3://there"):
        jobs._require_same("optgrid-s-r1", ours | {"out": "s3://there"}, ours)


def test_results_travel_as_text(tmp_path: Path) -> None:
    made = study(seeds=2).run(tmp_path / "out")
    (tmp_path / "out" / "evil.py").write_text("raise SystemExit")
    text = "noise\n" + parcels.pack(tmp_path / "out") + "\nmore noise\n"
    parcels.unpack(text, tmp_path / "in")
    assert rows(Results(tmp_path / "in")) == rows(made)
    assert not (tmp_path / "in" / "evil.py").exists()
    with pytest.raises(RunError, match="did not come over whole"):
        parcels.unpack(text[:-200], tmp_path / "in")
    assert tokens.find_token() not in text


def test_what_is_wrong_with_a_kind_of_node() -> None:
    mine = {"python": "3.11.7", "ray": "2.60.0"}
    good = {"cpus": 8.0, "gpus": 2.0, "seen": 2, "host": "h", "tensorflow": "2.21.0", **mine}
    assert probe.judged(good, mine) == []
    assert probe.judged(good | {"python": "3.11.9"}, mine) == []
    assert "have python 3.10, this machine 3.11" in probe.judged(good | {"python": "3.10.2"}, mine)[0]
    assert "have ray 2.9.0, this machine 2.60.0" in probe.judged(good | {"ray": "2.9.0"}, mine)[0]
    assert "TensorFlow sees 1 of the 2 GPUs" in probe.judged(good | {"seen": 1}, mine)[0]
    assert probe.judged({"cpus": 8.0, "gpus": 2.0, "problem": "gone"}, mine) == [
        "nodes with 8 CPU and 2 GPU: gone"
    ]


def test_types_of_workers_that_no_node_is_of_yet() -> None:
    assert probe.unasked([], 1) == probe.unasked(["gpu"], 1) == []
    assert "0 of the 1 types of workers (gpu_spot) are up" in probe.unasked(["gpu_spot"], 0)[0]
