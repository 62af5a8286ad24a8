"""`lift.opaque`: numbers that stay, chosen so that whole vectors of them are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import Study, runtime
from harness.runtime import tensorflow
from tests.engine.frames import bits

tf = tensorflow()

from harness import lift  # noqa: E402  # after TensorFlow is set up
from harness.strategies import Placement  # noqa: E402
from harness.worker import Programs  # noqa: E402

FIELDS: dict[str, Any] = {"name": "opaque", "seeds": 3, "learning_rates": [1e-3, 1e-1, 10.0]}


def kinds(fn: Any, *args: Any) -> list[str]:
    return [op.type for op in tf.function(fn).get_concrete_function(*args).graph.get_operations()]


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", "int64", "bool"])
def test_to_the_bit(dtype: str, jit: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(runtime, "MASKED_STORES", False)
    kind = tf.as_dtype(dtype).as_numpy_dtype
    small = np.random.default_rng(0).integers(0, 256, 64 * np.dtype(kind).itemsize, np.uint8)
    x = small.view(kind) if dtype != "bool" else small % 2 == 1  # any bits: small numbers, no numbers, ...
    if tf.as_dtype(dtype).is_floating:
        x[:4] = np.array([-0.0, np.inf, -np.inf, np.nan]).astype(kind)

    def same(x: Any, count: Any) -> Any:
        return lift.opaque(x, lift.unknown_zero(count))

    found = tf.function(same, jit_compile=jit)(tf.constant(x), tf.constant(7)).numpy()
    assert found.dtype == x.dtype
    assert found.tobytes() == x.tobytes()


def test_nothing_is_done_where_there_is_nothing_to_gain(monkeypatch: Any) -> None:
    x, count = tf.constant([1.0]), tf.constant(7)

    def same(x: Any, count: Any) -> Any:
        return lift.opaque((x, ()), lift.unknown_zero(count))[0] * 2.0

    for stores, expected in ((True, 0), (False, 1)):
        monkeypatch.setattr(runtime, "MASKED_STORES", stores)
        assert kinds(same, x, count).count("BitwiseXor") == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"workloads": ["rosenbrock"], "optimizers": ["adam", "momentum"], "steps": 60},
        {
            "workloads": ["quadratic(dimension=40)"],
            "optimizers": ["momentum"],
            "stop": "target",
            "steps": 200,
        },
        {"workloads": ["digits_mlp(hidden=[16], batch_size=32, steps=12)"], "optimizers": ["adam"]},
        {"workloads": ["rosenbrock"], "optimizers": ["adam"], "steps": 60, "dtype": "float64"},
    ],
    ids=["function", "target", "network", "float64"],
)
def test_the_same_rows(fields: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPTGRID_CACHE", str(tmp_path / "cache"))  # nothing is read that was traced before
    found = []
    for stores in (True, False):
        monkeypatch.setattr(runtime, "MASKED_STORES", stores)
        found.append(bits(Study(**FIELDS, **fields).run(tmp_path / str(stores)).cells()))
    assert found[0] == found[1]


@pytest.mark.parametrize("workload", ["rosenbrock", "digits_mlp(hidden=[16], batch_size=32, steps=12)"])
def test_nothing_that_stays_is_chosen_as_it_lies(workload: str, tmp_path: Path, monkeypatch: Any) -> None:
    """In a step of a program, parameters and Adam's two means."""
    monkeypatch.setenv("OPTGRID_CACHE", str(tmp_path / "cache"))
    made: list[int] = []
    opaque = lift.opaque

    def counted(nest: Any, zero: Any) -> Any:
        found = opaque(nest, zero)
        pairs = zip(tf.nest.flatten(found), tf.nest.flatten(nest), strict=True)
        made.append(sum(a is not b for a, b in pairs))
        return found

    monkeypatch.setattr(lift, "opaque", counted)
    study = Study(**FIELDS | {"name": "counted"}, workloads=[workload], optimizers=["adam"], steps=12)
    leaves = 4 if workload.startswith("digits") else 1
    for stores, least in ((True, 0), (False, 3 * leaves)):
        monkeypatch.setattr(runtime, "MASKED_STORES", stores)
        made.clear()
        for program in study.plan().programs.values():
            Programs(Placement("one_device", ["CPU:0"])).get(program)
        assert made
        assert min(made) >= least and (stores is False or max(made) == 0)
