"""`profile: true` on a cluster: every type of node is profiled once, with the user's own plug-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.executors.ray_code import parcel_of
from harness.executors.ray_options import ClusterOptions
from harness.executors.ray_worker import relocated, unpack
from harness.expressions import parse_optimizer
from harness.kernels import study as of_study
from harness.kernels.study import expression
from tests.cluster.conftest import study
from tests.conftest import STORE

PLANTED = Path(__file__).resolve().parents[1] / "kernels" / "plugins" / "one_pass.py"


def test_a_plug_in_is_named_by_its_path_on_the_node() -> None:
    (component,) = parse_optimizer(f"clip_by_norm({PLANTED}:Planted)")
    files, sources = parcel_of([component])
    folder = unpack(files)
    text = expression(relocated(component, folder, sources))
    assert str(folder) in text and str(PLANTED) not in text
    (again,) = parse_optimizer(text)
    assert again.label == component.label


@pytest.mark.slow
def test_each_type_of_node_is_profiled_once(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three nodes of two types: a card that only Ray knows makes another type of the same machine."""
    monkeypatch.setattr(of_study, "SIZES", "1e3")
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
    card = {"accelerator_type:A100": 1}
    cluster.add_node(num_cpus=1, num_gpus=1, resources=card, object_store_memory=STORE)
    options = ClusterOptions(cluster.address, gpus=0)
    made = study(optimizers=[f"{PLANTED}:Planted"], learning_rates=[1e-2], seeds=2, profile=True)
    results = made.run(tmp_path / "out", cluster=options)
    files = sorted((tmp_path / "out" / "kernels").glob("*.parquet"))
    assert [f.stem.startswith("node-") for f in files] == [True, True]
    kernels = results.kernels()
    assert set(kernels["status"]) == {"measured"}
    assert set(kernels["optimizer"]) == {"one_pass.py:Planted"}
    before = [f.stat().st_mtime_ns for f in files]
    made.run(tmp_path / "out", cluster=options)  # a resumed study has its kernels already
    assert [f.stat().st_mtime_ns for f in sorted((tmp_path / "out" / "kernels").glob("*"))] == before
