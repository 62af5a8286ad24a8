"""The same on GPUs, NCCL's all-reduce among it. Needs two; the lanes' test needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tests.strategies.conftest import assert_close, exact, run

GPUS = [f"GPU:{i}" for i, _ in enumerate(tf.config.list_physical_devices("GPU"))]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="TensorFlow sees no GPU")]
two = pytest.mark.skipif(len(GPUS) < 2, reason="TensorFlow sees one GPU")
FIELDS: dict[str, Any] = {
    "workloads": ["digits_mlp(steps=50, batch_size=63)"],
    "optimizers": ["adam"],
    "learning_rates": [1e-3, 1e-2],
    "seeds": 4,
    "lanes": 2,
    "dtype": "float64",
}


@pytest.mark.parametrize("name", ["mirrored", "central_storage", "multi_worker_mirrored"])
def test_lanes_are_those_of_one_gpu(tmp_path: Path, name: str) -> None:
    one = run(tmp_path / "one", {"name": "one_device", "devices": GPUS[:1]}, FIELDS)
    strategy = {"name": name, "devices": GPUS}
    if name == "multi_worker_mirrored":
        strategy = {"name": name, "replicas": len(GPUS)}
    assert exact(run(tmp_path / "all", strategy, FIELDS)) == exact(one)


@pytest.mark.parametrize("name", ["mirrored", "central_storage", "multi_worker_mirrored"])
@two
def test_a_batch_over_all_gpus(tmp_path: Path, name: str) -> None:
    one = run(tmp_path / "one", {"name": "one_device", "devices": GPUS[:1]}, FIELDS)
    strategy: dict[str, Any] = {"name": name, "split": "batch", "replicas": len(GPUS)}
    if name != "multi_worker_mirrored":
        strategy["devices"] = GPUS
    made = run(tmp_path / "all", strategy, FIELDS)
    assert_close(made, one)
    assert (made.cells()["all_reduce_share"] > 0).all()


def test_a_batch_on_one_gpu(tmp_path: Path) -> None:
    strategy = {"name": "mirrored", "devices": GPUS[:1], "split": "batch"}
    one = run(tmp_path / "one", {"name": "one_device", "devices": GPUS[:1]}, FIELDS)
    assert_close(run(tmp_path / "split", strategy, FIELDS), one)
