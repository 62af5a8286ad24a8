"""A split batch keeps the same books: rows and curves agree with one device's, resume and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.batchsplit import parts
from tests.strategies.conftest import assert_close, exact, run, table
from workloads._digits import Examples
from workloads.digits_logistic import DigitsLogistic

THREE = {"name": "mirrored", "replicas": 3, "split": "batch"}
FIELDS: dict[str, Any] = {
    "workloads": [
        "digits_logistic(steps=70, batch_size=16, target=0.9)",
        "rosenbrock(steps=70, noise=0.05, start=[-1.2, 1.0], target=3.9)",
    ],
    "optimizers": ["momentum"],
    "learning_rates": [1e-4, 1e-3, 3e-1],
    "seeds": 2,
    "dtype": "float64",
    "record": {"points": 6},
}


@pytest.mark.parametrize("stop", ["budget", "target"])
def test_rows_agree_with_one_device(tmp_path: Path, stop: str) -> None:
    fields = FIELDS | {"stop": stop}
    one = run(tmp_path / "one", "one_device", fields)
    split = run(tmp_path / "split", THREE, fields)
    assert_close(split, one)
    cells = table(split)
    assert {"converged", "diverged", "budget"} <= set(cells["status"])
    assert set(cells["replicas"]) == {3} and set(cells["split"]) == {"batch"}
    assert set(cells["device"]) == {"CPU:0, CPU:1, CPU:2"}
    assert ((cells["all_reduce_share"] > 0) & (cells["all_reduce_share"] < 1)).all()
    assert table(one)["all_reduce_share"].isna().all()


def test_a_remainder_is_dropped_where_asked_and_a_resume_gives_the_same_rows(tmp_path: Path) -> None:
    fields = FIELDS | {"lanes": 2, "workloads": ["digits_logistic(steps=40, batch_size=16)"]}
    strategy = THREE | {"drop_remainder": True}
    results = run(tmp_path / "out", strategy, fields)
    workload = DigitsLogistic(batch_size=16, dtype="float64")
    for row in table(results).itertuples():
        images, labels = workload.batch(row.seed, 0)
        even = workload.loss(workload.init(row.seed), Examples(images[:15], labels[:15]))
        assert row.initial_loss == pytest.approx(float(even), rel=1e-12)
    whole = exact(results)
    files = sorted((tmp_path / "out" / "cells").glob("*.parquet"))
    assert len(files) > 1
    files[0].unlink()
    assert exact(run(tmp_path / "out", strategy, fields)) == whole


def test_16_bits(tmp_path: Path) -> None:
    """Gradients are summed in 32 bits, so that the sum adds no error that one device lacks."""
    fields = FIELDS | {
        "dtype": "bfloat16",
        "learning_rates": [1e-3],
        "workloads": ["digits_logistic(steps=20)"],
    }
    one, split = table(run(tmp_path / "one", "one_device", fields)), table(run(tmp_path / "s", THREE, fields))
    np.testing.assert_allclose(split["final_loss"], one["final_loss"], rtol=2e-2)
    np.testing.assert_allclose(split["initial_gradient_norm"], one["initial_gradient_norm"], rtol=2e-2)


def test_what_cannot_be_lifted_is_split_too(tmp_path: Path) -> None:
    plugin = Path(__file__).parents[1] / "engine" / "plugins.py"
    fields = FIELDS | {"optimizers": [f"{plugin}:OneAtATime"], "learning_rates": [1e-3]}
    fields |= {"workloads": FIELDS["workloads"][1:]}
    cells = table(run(tmp_path / "out", THREE, fields))
    good = table(run(tmp_path / "good", THREE, fields | {"optimizers": [f"{plugin}:Good"]}))
    assert (cells["lanes"] == 1).all() and cells["detail"].str.contains("one lane at a time").all()
    np.testing.assert_allclose(cells["final_loss"], good["final_loss"], rtol=1e-9)


def test_a_fault_of_the_maths_fails_its_rows(tmp_path: Path) -> None:
    plugin = Path(__file__).parents[1] / "engine" / "plugins.py"
    fields = FIELDS | {"optimizers": [f"{plugin}:Raises"], "workloads": FIELDS["workloads"][:1]}
    cells = table(run(tmp_path / "out", THREE, fields))
    assert (cells["status"] == "failed").all() and cells["detail"].str.contains("no luck today").all()
    assert set(cells["replicas"]) == {3} and pd.isna(cells["all_reduce_share"]).all()


@given(size=st.integers(1, 300), replicas=st.integers(1, 20), drop=st.booleans())
def test_parts_share_a_batch_out(size: int, replicas: int, drop: bool) -> None:
    found = parts(size, replicas, drop)
    used = sum(part.size for part in found)
    assert used == (size - size % replicas if drop and size >= replicas else size)
    assert [p.first for p in found] == [sum(q.size for q in found[:i]) for i in range(replicas)]
    assert max(p.size for p in found) - min(p.size for p in found) <= (0 if drop and size >= replicas else 1)
    assert sum(p.share for p in found) == pytest.approx(1.0, abs=1e-12)
    assert all(p.share == p.size / used for p in found)


def test_what_cannot_be_cut_is_the_first_replicas() -> None:
    assert [(p.size, p.share) for p in parts(None, 3)] == [(1, 1.0), (0, 0.0), (0, 0.0)]
