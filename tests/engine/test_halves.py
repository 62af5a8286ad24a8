"""Steps in two halves: what they come to, and that XLA makes a function of each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import Study
from harness.runtime import tensorflow
from harness.types import Lanes

tf = tensorflow()

from harness import halves  # noqa: E402
from harness.strategies import Placement  # noqa: E402
from harness.tiles import Tiles  # noqa: E402
from harness.worker import Programs  # noqa: E402

MLP = "digits_mlp(hidden=[48, 32], batch_size=24, steps=30)"
CLOCKS = ["compile_seconds", "train_seconds", "evaluate_seconds"]
FIELDS: dict[str, Any] = {"workloads": [MLP], "learning_rates": [1e-3, 1e-2, 1e-1], "seeds": 4, "lanes": 8}


def halved(fields: dict[str, Any]) -> list[bool]:
    programs = Programs(Placement("one_device", ["CPU:0"]))
    found = [programs.get(p)[0] for p in Study(name="halves", **fields).plan().programs.values()]
    assert not any(warm.note for warm in found)
    return [warm.compiled.halved for warm in found]


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizers": ["adam"]},
        {"optimizers": ["adam"], "record": {"curves": False, "stability": False}},
        {"optimizers": ["momentum"], "stop": "target"},
        {"optimizers": ["lookahead(momentum)"]},
        {"optimizers": ["gradient_descent"], "lanes": 4},  # of one seed, which share their batches
        {
            "optimizers": ["gradient_descent"],
            "dtype": "float64",
            "workloads": ["digits_logistic(batch_size=24, steps=30)"],
        },
    ],
    ids=["recorded", "plain", "target", "averaged", "one seed", "two products"],
)
def test_the_same_rows_in_halves(fields: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    # A graph that is read, and not traced, says nothing of halves.
    monkeypatch.setenv("OPTGRID_CACHE", str(tmp_path / "cache"))
    fields = FIELDS | fields
    found = []
    for least in (1 << 40, 1):
        monkeypatch.setattr(halves, "LEAST", least)
        assert halved(fields) == [least == 1]
        results = Study(name="halves", **fields).run(tmp_path / str(least))
        curves = results.curves()
        found.append(numbers(results.cells()) | (numbers(curves) if len(curves) else {}))
    whole, cut = found
    assert whole.keys() == cut.keys() and {"loss", "best_loss"} & whole.keys()
    for name, expected in whole.items():
        # Rounding grows along a run.
        np.testing.assert_allclose(cut[name], expected, rtol=2e-3, atol=1e-5, err_msg=name)


def numbers(frame: Any) -> dict[str, Any]:
    """A frame's columns of numbers, and of arrays of them, one array each; without clocks."""
    frame = frame.sort_values("cell_id")
    plain = frame.select_dtypes("number").columns.difference(CLOCKS)
    found = {name: frame[name].to_numpy(float, na_value=np.nan) for name in plain}
    lists = [name for name in frame if isinstance(frame[name].iloc[0], np.ndarray)]
    return found | {name: np.concatenate(frame[name].to_list()).astype(float) for name in lists}


def cut(fn: Any) -> Any:
    args = (tf.TensorSpec([3, 8, 8]),)
    with tf.Graph().as_default():
        return halves.Halves(fn, args, tf.TensorSpec([4, 8]), Lanes(1, 3), Tiles())


def test_where_it_is_cut() -> None:
    def deep(w: Any, batch: Any) -> Any:
        x = batch
        for _ in range(5):
            x = tf.nn.relu(x @ w)
        return tf.reduce_sum(x)

    made = cut(deep)
    assert made.worth and [tuple(spec.shape) for spec in made.between] == [(3, 4, 8)]
    products = [op for op in made.lane.operations if op.type == "MatMul"]
    reads = made._between[0].op
    assert products[3]._id <= reads._id < products[4]._id  # four, and one with the rest of the step


def test_what_is_not_cut() -> None:
    assert not cut(lambda w, batch: tf.reduce_sum(batch @ w)).worth  # one product
    assert not cut(lambda w, batch: tf.reduce_sum(batch @ w @ tf.linalg.inv(w))).worth  # left to kernels
    assert not cut(
        lambda w, batch: tf.reduce_sum(w) + tf.reduce_sum(batch @ tf.transpose(batch) @ batch)
    ).worth


def test_each_half_is_a_function(tmp_path: Path) -> None:
    """In a process of its own: XLA reads its flags once."""
    script = """
from harness import halves
halves.LEAST = 1
from tests.engine.test_halves import FIELDS, halved
print(halved(FIELDS | {"optimizers": ["adam"], "record": {"curves": False, "stability": False}}))
"""
    env = {"XLA_FLAGS": f"--xla_dump_to={tmp_path / 'dump'}", "OPTGRID_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[True]"]
    code = [file.read_text() for file in (tmp_path / "dump").glob("*call*computation*ir-no-opt.ll")]
    each = [{*re.findall(r"@(gemm_F32_(?:24x\w+|\w+x24x\w+))", text)} for text in code]  # of 24 examples
    assert sum(map(bool, each)) == 2
