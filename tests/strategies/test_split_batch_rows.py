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


def test_resumes_to_the_same_rows(tmp_path: Path) -> None:
    fields = FIELDS | {"lanes": 2, "workloads": FIELDS["workloads"][:1]}
    whole = exact(run(tmp_path / "out", THREE, fields))
    files = sorted((tmp_path / "out" / "cells").glob("*.parquet"))
    assert len(files) > 1
    files[0].unlink()
    assert exact(run(tmp_path / "out", THREE, fields)) == whole


def test_a_remainder_is_dropped_where_asked(tmp_path: Path) -> None:
    fields = FIELDS | {"workloads": FIELDS["workloads"][:1]}
    whole = table(run(tmp_path / "whole", THREE, fields))
    even = table(run(tmp_path / "even", THREE | {"drop_remainder": True}, fields))
    assert not set(whole["cell_id"]) & set(even["cell_id"])
    gaps = np.abs(whole["initial_loss"] / even["initial_loss"] - 1)  # of 16 examples and of 15
    assert (gaps > 1e-6).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_narrow_types(tmp_path: Path, dtype: str) -> None:
    """Gradients of 16 bits are summed in 32, so that the sum adds no error that one device lacks."""
    fields = FIELDS | {"dtype": dtype, "learning_rates": [1e-3], "workloads": ["digits_logistic(steps=20)"]}
    one, split = table(run(tmp_path / "one", "one_device", fields)), table(run(tmp_path / "s", THREE, fields))
    rtol = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(split["final_loss"], one["final_loss"], rtol=rtol)
    np.testing.assert_allclose(split["initial_gradient_norm"], one["initial_gradient_norm"], rtol=rtol)


def test_what_cannot_be_lifted_is_split_too(tmp_path: Path) -> None:
    plugin = Path(__file__).parents[1] / "engine" / "plugins.py"
    fields = FIELDS | {"optimizers": [f"{plugin}:OneAtATime"], "learning_rates": [1e-3]}
    fields |= {"workloads": FIELDS["workloads"][:1]}
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
