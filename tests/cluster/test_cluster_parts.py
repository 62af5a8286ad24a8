"""What the cluster's side is made of, each by itself: tokens, the parcel of code, merged files, options."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness import tokens
from harness.compaction import FEW, compact
from harness.executors.ray_code import parcel
from harness.executors.ray_options import ClusterOptions
from harness.executors.ray_worker import Setup, TileRunner, own_versions
from harness.records import Store
from harness.results import Results
from harness.types import Layout, RunError, UsageError
from tests.cluster.conftest import PLUGINS, rows, study


def setup(address: Path, **changes: Any) -> Setup:
    fields: dict[str, Any] = {
        "address": str(address),
        "study": "cluster",
        "layout": Layout("one_device", devices=("CPU:0",)),
        "curves": True,
        "gather": False,
        "fingerprint": "f",
        "versions": own_versions(),
    }
    return Setup(**(fields | changes))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(tokens.MODE)
    monkeypatch.setenv(tokens.TOKEN_PATH, str(tmp_path / ".ray" / "auth_token"))
    return tmp_path


def test_the_token_is_made_for_its_owner_only(home: Path) -> None:
    before = os.umask(0)
    try:
        path = tokens.ensure_token()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(tokens.find_token() or "") == 64
    first = path.read_text()
    path.chmod(0o644)
    assert tokens.ensure_token().read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_cluster_without_a_token_unless_it_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="there is no token"):
        tokens.require(insecure=False)
    monkeypatch.setenv(tokens.MODE, "disabled")
    with pytest.raises(UsageError, match="whoever reaches the cluster can run code"):
        tokens.require(insecure=False)
    tokens.require(insecure=True)
    assert os.environ[tokens.MODE] == "disabled"
    monkeypatch.delenv(tokens.MODE)
    tokens.require(insecure=False, make=True)
    assert os.environ[tokens.MODE] == "token"


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "somewhere", "host:port", ""])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError):
        ClusterOptions(address)


def test_plug_ins_travel_with_their_neighbours(tmp_path: Path) -> None:
    here = shutil.copytree(PLUGINS, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    (here / "data.csv").write_text("1,2\n")
    (here / ".git").mkdir()
    (here / ".git" / "hook.py").write_text("")
    (here / "notes").mkdir()
    (here / "notes" / "not_a_package.py").write_text("")
    mine = study(workloads=[f"{here / 'bowls.py'}:Bowl"], seeds=1, optimizers=["adam"])
    expected = rows(mine.run(tmp_path / "local"))
    tiles = mine.plan().tiles
    files, sources = parcel(tiles)
    assert sorted(Path(name).name for name in files) == ["bowls.py", "bowls_helper.py"]
    shutil.rmtree(here)
    out = tmp_path / "out"
    shutil.copytree(tmp_path / "local", out, ignore=shutil.ignore_patterns("cells", "curves"))
    fingerprint = Store(str(out)).read_study()["fingerprint"]
    runner = TileRunner(setup(out, files=files, sources=sources, fingerprint=fingerprint), gpus=0)
    runner.hello()
    reply = runner.run(tiles)
    assert sum(o.cells for o in reply.outcomes) == 4
    assert rows(Results(out)) == expected


def test_memory_grows_on_a_gpu_before_tensorflow_takes_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness import strategies
    from harness.executors.ray import ENVIRONMENT

    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    seen: list[str | None] = []
    monkeypatch.setattr(
        strategies,
        "devices",
        lambda wanted: seen.append(os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH")) or ["CPU:0"],
    )
    runner = TileRunner(setup(tmp_path, gather=True, environment=ENVIRONMENT), gpus=0)
    assert runner.hello().device == "CPU:0"
    assert seen == ["true"]


def test_a_worker_that_sees_other_folders_or_versions_is_turned_away(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not see the results folder .* or --gather"):
        TileRunner(setup(tmp_path), gpus=0).hello()
    with pytest.raises(RunError, match=r"has tensorflow .*, the driver 1\.0"):
        TileRunner(setup(tmp_path, versions={"tensorflow": "1.0"}), gpus=0).hello()
    older = own_versions() | {"optgrid code": "0123456789ab"}
    with pytest.raises(RunError, match=r"has optgrid code .*, the driver 0123456789ab: .*every node"):
        TileRunner(setup(tmp_path, versions=older), gpus=0).hello()


def test_merging_files_loses_no_row_wherever_it_is_cut(tmp_path: Path) -> None:
    made = study(seeds=40, optimizers=["adam"]).run(tmp_path / "out")
    before = rows(made)
    assert len(made.store.files("cells")) == 40 > FEW
    shutil.copytree(tmp_path / "out", tmp_path / "small")
    assert compact(made.store) == 80
    assert rows(made) == before
    # Cut between publishing and deleting: every row is there twice, and read once.
    shutil.copytree(tmp_path / "small", tmp_path / "out", dirs_exist_ok=True)
    assert len(made.store.files("cells")) == 41
    assert rows(made) == before
    assert compact(made.store) > 0
    assert rows(made) == before
    assert len(made.store.files("cells")) == len(made.store.files("curves")) == 1
    assert compact(made.store) == 0


def test_a_cell_in_two_files_is_one_row_once_they_are_merged(tmp_path: Path) -> None:
    made = study(seeds=6, optimizers=["adam"]).run(tmp_path)
    before = rows(made)
    table, _ = made.store.read("cells")
    made.store.commit("other", table.slice(3, 5), made.store.read("curves")[0].slice(0, 2))
    assert len(made.store.files("cells")) <= FEW
    assert compact(made.store) > 0
    assert rows(made) == before
    files = [Path(path) for path in made.store.files("cells")]
    assert sum(pq.read_metadata(path).num_rows for path in files) == table.num_rows == 24
    assert compact(made.store) == 0


def test_a_file_that_is_merged_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = study(seeds=40, optimizers=["adam"]).run(tmp_path).store
    real, stale = Store.files, [store.files("cells")]
    compact(store)
    monkeypatch.setattr(Store, "files", lambda self, folder: stale.pop() if stale else real(self, folder))
    table, problems = store.read("cells", ["cell_id"])
    assert problems == []
    assert table.num_rows == 160
