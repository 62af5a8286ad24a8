"""Every command and snippet of the README runs, in a folder with nothing else in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
KIND = r"<!-- (?P<kind>commands|python|file)(?P<more>:[^>]*)? -->"
BLOCK = re.compile(KIND + r"\n```\w+\n(?P<text>.*?)```", re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the examples, and the README's own files."""
    made = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", made / "examples")
    return made


def run(command: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_commands_and_snippets_in_their_order(folder: Path) -> None:
    blocks = list(BLOCK.finditer(README))
    assert {b["kind"] for b in blocks} == {"commands", "python", "file"}
    for block in blocks:
        if block["kind"] == "file":
            (folder / block["more"].lstrip(": ").strip()).write_text(block["text"])
        elif block["kind"] == "python":
            run([sys.executable, "-c", block["text"]], folder)
        else:
            for line in block["text"].splitlines():
                run(["bash", "-c", line], folder)
    for name in ("short", "mine", "valley", "notebook"):
        assert (folder / "results" / name / "report" / "index.html").is_file()


def test_the_main_command_installs_and_runs_the_built_in_study() -> None:
    line = re.search(r"<!-- run-command -->\n```sh\n(.*?)\n```", README, re.S)
    assert line is not None and line[1].endswith("optgrid run") and "pip install" in line[1]


def test_the_study_file_that_is_shown_is_the_example() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.S)
    assert shown is not None
    lines = (ROOT / "examples" / "study.yaml").read_text().splitlines()
    assert shown[1].splitlines() == [line for line in lines if line and not line.startswith("#")]


def test_the_picture_is_there() -> None:
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file()
