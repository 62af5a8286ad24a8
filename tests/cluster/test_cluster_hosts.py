"""Real hosts, as far as one machine can make them: `ray up` over ssh, submit, a host cut off, `ray down`.

What the README says under "On your own machines", step by step.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.results import Results
from tests.cluster.conftest import PLUGINS, journal, rows, study

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).resolve().parent / "hosts" / "hosts.sh"
HOSTS = ["desk", "head", "work1", "work2"]  # the first is where the user sits
TOOLS = ["ip", "unshare", "rsync", "ssh-keygen", "ps"]
PROFILE = """
export PATH={bin}:$PATH RAY_USAGE_STATS_ENABLED=0 TF_CPP_MIN_LOG_LEVEL=3 BOWL_SLEEP=0.5
export RAY_memory_monitor_refresh_ms=0 PYTHONPATH={root}
"""


def possible() -> bool:
    tools = all(shutil.which(tool) for tool in TOOLS) and Path("/usr/sbin/sshd").exists()
    return tools and sys.platform == "linux" and os.geteuid() == 0


pytestmark = [
    pytest.mark.hosts,
    pytest.mark.slow,
    pytest.mark.skipif(not possible(), reason="needs root, ip, unshare, sshd, rsync"),
]


class Lab:
    """The hosts, and commands on them."""

    def __init__(self, folder: Path):
        self.folder = folder
        bin_folder = Path(sys.executable).parent
        homes = {str(bin_folder.parent), sys.base_prefix, str(ROOT)}
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "OPTGRID_"))}
        self.environment = mine | {"PYTHON_HOMES": ":".join(sorted(homes))}
        folder.mkdir()
        (folder / "profile").write_text(PROFILE.format(bin=bin_folder, root=ROOT))

    def script(self, verb: str, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(SCRIPT), verb, str(self.folder), *words]
        return subprocess.run(command, env=self.environment, text=True, check=True, timeout=300, **options)

    def sit(self, line: str) -> list[str]:
        """The command that runs a line in a login shell at the desk."""
        return ["bash", str(SCRIPT), "run", str(self.folder), "desk", "bash", "-lc", line]

    def at_desk(self, line: str, timeout: float = 300) -> str:
        done = subprocess.run(
            self.sit(line),
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def home(self, host: str) -> Path:
        return self.folder / host / "root"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path / "lab")
    try:
        made.script("up", *HOSTS)
        time.sleep(2)
        yield made
    finally:
        made.script("down")


def filled_in() -> str:
    """`cluster.yaml` with its three values; the hosts have no network, so nothing is installed there."""
    text = (ROOT / "cluster.yaml").read_text()
    text = text.replace("FILL_IN_HEAD", "10.77.0.11").replace("FILL_IN_USER", "root")
    text = text.replace("[FILL_IN_WORKER]", "[10.77.0.12, 10.77.0.13]")
    config = yaml.safe_load(text)
    config["setup_commands"] = ["chmod 600 ~/.ray/auth_token"]
    config["file_mounts"] = {"~/.ray/auth_token": "~/.ray/auth_token"}
    environment = str(Path(sys.executable).parent)
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[key] = [c.replace("~/optgrid-env/bin/", f"{environment}/") for c in config[key]]
        # Three raylets share this machine's two cores and its memory.
        limits = "--object-store-memory=100000000"
        config[key] = [re.sub(r"(ray start )", rf"\1{limits} ", c) for c in config[key]]
    config["worker_start_ray_commands"] = [
        c.replace("ray start ", "ray start --num-cpus=1 ") for c in config["worker_start_ray_commands"]
    ]
    return yaml.safe_dump(config)


def test_up_submit_cut_down(lab: Lab, tmp_path: Path) -> None:
    desk = lab.home("desk")
    (desk / "cluster.yaml").write_text(filled_in())
    shutil.copytree(PLUGINS, desk / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    fields = {
        "name": "racks",
        "workloads": ["plugins/bowls.py:Bowl"],
        "optimizers": ["adam", "momentum"],
        "learning_rates": [1e-3, 1e-2, 1e-1, 1.0],
        "seeds": 10,
        "lanes": 4,
        "strategy": {"name": "one_device", "devices": ["CPU:0"]},
    }
    (desk / "study.yaml").write_text(yaml.safe_dump(fields))
    lab.at_desk("optgrid cluster token && optgrid cluster check cluster.yaml")
    lab.at_desk("RAY_UP_enable_autoscaler_v2=0 ray up -y --no-config-cache cluster.yaml")
    tunnel = "ssh -o StrictHostKeyChecking=no -f -N -L 8265:127.0.0.1:8265 root@10.77.0.11"
    # One shell: the tunnel ends with the host that it was opened on.
    line = f"{tunnel} && optgrid submit study.yaml --address http://127.0.0.1:8265 --no-report"
    log = tmp_path / "submit.log"
    at_head = lab.home("head") / "optgrid-results" / "racks"
    with (
        log.open("w") as stream,
        subprocess.Popen(
            lab.sit(line), env=lab.environment, stdout=stream, stderr=subprocess.STDOUT
        ) as submitting,
    ):
        deadline = time.monotonic() + 240
        while not {"work1", "work2"} <= {e["host"] for e in journal(at_head, "worker_ready")}:
            assert submitting.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        while len(journal(at_head, "tile_done")) < 4:
            assert submitting.poll() is None, log.read_text()
            time.sleep(0.2)
        lab.script("cut", "work2")
        assert submitting.wait(timeout=240) == 0, log.read_text()
    assert len(journal(at_head, "worker_lost")) >= 1
    assert rows(Results(desk / "results" / "racks")) == rows(study().run(tmp_path / "local"))
    lab.at_desk("RAY_UP_enable_autoscaler_v2=0 ray down -y cluster.yaml")
