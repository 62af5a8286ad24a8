"""The cluster files that come with the project, and what `optgrid cluster check` finds in bad ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import tokens
from harness.cluster import check

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = [ROOT / "cluster.yaml", ROOT / "examples/clusters/aws.yaml", ROOT / "examples/clusters/gcp.yaml"]
MANIFEST = ROOT / "examples/clusters/kuberay-rayjob.yaml"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a token where each of the files looks for it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (".ray", ".optgrid"):
        monkeypatch.setenv(tokens.TOKEN_PATH, str(tmp_path / folder / "auth_token"))
        tokens.ensure_token()
    return tmp_path


def filled(path: Path, tmp_path: Path) -> Path:
    out = tmp_path / path.name
    out.write_text(re.sub(r"FILL_IN_(\w+)", r"the-\1", path.read_text()))
    return out


@pytest.mark.parametrize("path", [*LAUNCHER, MANIFEST], ids=lambda p: p.name)
def test_ours_are_right_once_they_are_filled_in(path: Path, tmp_path: Path) -> None:
    before = check.problems(path)
    assert before
    assert all("is not filled in" in sentence for sentence in before)
    assert check.problems(filled(path, tmp_path)) == []


def test_which_types_of_workers_a_file_declares() -> None:
    assert [check.worker_types(path) for path in LAUNCHER] == [[], ["gpu_spot"], ["gpu_spot"]]


def test_three_values_make_the_local_cluster(tmp_path: Path) -> None:
    assert len(check.problems(LAUNCHER[0])) == 3


def test_ours_pass_what_ray_up_validates_with(tmp_path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(filled(LAUNCHER[0], tmp_path).read_text()))
    validate_config(config)
    assert config["provider"]["worker_ips"] == ["the-WORKER"]
    assert config["max_workers"] == 1


def change(tmp_path: Path, **changes: Any) -> list[str]:
    config = yaml.safe_load(filled(LAUNCHER[0], tmp_path).read_text())
    for place, value in changes.items():
        *outer, last = place.split("__")
        target = config
        for key in outer:
            target = target[key]
        target.pop(last, None) if value is None else target.update({last: value})
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(config))
    return check.problems(path)


START = "ray start --head --num-cpus=0"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"head_node": {}}, "'head_node' is no key of Ray's any more: use available_node_types"),
        ({"min_workers": 2}, "'min_workers' is no key"),
        ({"colour": "red"}, "the file: Additional properties are not allowed ('colour' was unexpected)"),
        ({"cluster_name": None}, "'cluster_name' is a required property"),
        ({"provider__worker_ips": []}, "provider.worker_ips is empty"),
        ({"provider__worker_ips": ["the-HEAD"]}, "provider.head_ip is among worker_ips"),
        ({"auth__ssh_user": None}, "auth.ssh_user is missing"),
        ({"available_node_types": {}}, "provider 'local' takes none"),
        ({"head_start_ray_commands": [START]}, "'ray start' without RAY_AUTH_MODE=token"),
        (
            {"head_start_ray_commands": [f"RAY_AUTH_MODE=token {START} --dashboard-host=0.0.0.0"]},
            "--dashboard-host is open to the world",
        ),
        (
            {"head_start_ray_commands": [f"RAY_AUTH_MODE=token {START} --ray-client-server-port=10001"]},
            "--ray-client-server-port opens a door",
        ),
        (
            {"docker": {"container_name": "c", "image": "i", "run_options": ["-p 8265:8265"]}},
            "docker.run_options publish a port",
        ),
        (
            {"provider__security_group": {"IpPermissions": [{"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]}},
            "IpPermissions[0] opens ports to the world",
        ),
        ({"head_start_ray_commands": None}, "head_start_ray_commands has no 'ray start'"),
        ({"file_mounts": {}, "setup_commands": []}, "the token does not travel"),
        ({"setup_commands": ["pip install ray==2.9.0 # auth_token"]}, "has Ray 2.9.0, this machine"),
        ({"setup_commands": ["python3.9 -m venv x # auth_token"]}, "has Python 3.9, this machine"),
        ({"setup_commands": ["export RAY_AUTH_TOKEN=abc"]}, "RAY_AUTH_TOKEN is written into the file"),
    ],
)  # fmt: skip
def test_each_fault_is_a_sentence(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    found = change(tmp_path, **changes)
    assert any(sentence in each for each in found), found


def test_a_token_that_others_can_read(home: Path, tmp_path: Path) -> None:
    (home / ".ray" / "auth_token").chmod(0o644)
    assert any("can be read by others" in each for each in change(tmp_path))
    (home / ".ray" / "auth_token").unlink()
    assert any("there is no token at" in each for each in change(tmp_path))


def test_a_manifest_without_a_token(tmp_path: Path) -> None:
    config = yaml.safe_load(filled(MANIFEST, tmp_path).read_text())
    cluster = config["spec"]["rayClusterSpec"]
    del cluster["authOptions"]
    cluster["rayVersion"] = "2.9.0"
    cluster["workerGroupSpecs"][0]["maxReplica"] = cluster["workerGroupSpecs"][0].pop("maxReplicas")
    cluster["headGroupSpec"]["serviceType"] = "LoadBalancer"
    config["spec"]["shutdownAfterJobFinish"] = True
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(config))
    found = check.problems(path)
    assert any("has no RAY_AUTH_MODE=token" in each for each in found)
    assert any("gets no token" in each for each in found)
    assert any("has Ray 2.9.0" in each for each in found)
    assert any("'maxReplica' is no field of KubeRay's: did you mean 'maxReplicas'?" in each for each in found)
    assert any("did you mean 'shutdownAfterJobFinishes'?" in each for each in found)
    assert any("serviceType LoadBalancer opens the head to the world" in each for each in found)


def test_the_image_has_the_versions_that_the_files_name() -> None:
    text = (ROOT / "examples/clusters/Dockerfile").read_text()
    assert "FROM rayproject/ray:2.60.0-py311" in text
    for path in (*LAUNCHER[1:], MANIFEST):
        assert "optgrid:ray2.60.0-tf2.21.0-py311" in path.read_text()
