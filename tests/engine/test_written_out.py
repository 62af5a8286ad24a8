"""A study's rows are the same, up to the order of sums, whether products are written out or a library's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness import Study, planning

GRID: dict[str, Any] = {
    "workloads": ["digits_mlp(hidden=[8], steps=12)"],
    "learning_rates": list(np.geomspace(1e-3, 1e-1, 12)),
    "seeds": 2,
    "record": {"points": 4},
}
EXACT = ["cell_id", "status", "steps"]
MEASURED = ["final_loss", "best_loss", "initial_loss", "path_length"]

PRODUCTS = """
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Whitened:
    '''A step along the gradient times its own square: products in the update, and one that einsum makes.'''

    def init(self, params):
        return tf.nest.map_structure(lambda leaf: leaf, params), tf.constant(0)

    def update(self, params, grads, state, lr, step):
        def move(p, g):
            if p.shape.rank == 2:
                square = tf.matmul(g, tf.matmul(g, g, transpose_a=True))
                g = g + 0.1 * square + 0.1 * tf.einsum("ij,ij->ij", g, g)
            return p - tf.cast(lr, p.dtype) * g

        return tf.nest.map_structure(move, params, grads), (params, state[1] + 1)

    def eval_params(self, params, state):
        return tf.nest.map_structure(lambda p, last: 0.5 * (p + last), params, state[0])
"""


LOOPS = """
from dataclasses import dataclass

import tensorflow as tf
from workloads.digits_logistic import DigitsLogistic


@dataclass(frozen=True)
class Thrice:
    '''Three small steps along one gradient, in a loop.'''

    def init(self, params):
        return ()

    def update(self, params, grads, state, lr, step):
        def move(p, g):
            size = tf.cast(lr, p.dtype) / 3
            begin = tf.constant(0), p
            return tf.while_loop(lambda i, _: i < 3, lambda i, q: (i + 1, q - size * g), begin)[1]

        return tf.nest.map_structure(move, params, grads), state

    def eval_params(self, params, state):
        return params


@dataclass(frozen=True)
class Looked(DigitsLogistic):
    '''Its metrics have a loop.'''

    def evaluate(self, params):
        found = super().evaluate(params)
        whole = tf.while_loop(lambda i, _: i < 2, lambda i, x: (i + 1, x + found["test_loss"]), (0, 0.0))[1]
        return found | {"twice": whole}
"""


MIXED = """
from dataclasses import dataclass

import tensorflow as tf
from workloads import _streams
from workloads.digits_mlp import DigitsMlp

SHAPES = {
    "filters": [3, 3, 1, 4], "embed": [4, 6], "places": [9, 6],
    "query": [6, 6], "key": [6, 6], "last": [54, 10],
}


@dataclass(frozen=True)
class Mixed(DigitsMlp):
    '''What others' networks are made of: windows, rows of a table, Einstein sums, attention, a penalty.'''

    def init(self, seed):
        def draw(i, shape):
            return tf.cast(_streams.uniform(_streams.INIT, seed, i, shape) - 0.5, self.dtype)

        return {name: draw(i, shape) for i, (name, shape) in enumerate(SHAPES.items())}

    def logits(self, params, images):
        maps = tf.nn.conv2d(tf.reshape(images, [-1, 8, 8, 1]), params["filters"], 1, "SAME")
        maps = tf.nn.avg_pool2d(tf.nn.max_pool2d(maps, 3, 2, "SAME"), 2, 1, "VALID")
        tokens = tf.matmul(tf.reshape(maps, [-1, 9, 4]), params["embed"])
        tokens += tf.nn.embedding_lookup(params["places"], tf.range(9))
        queries = tf.einsum("bti,id->btd", tokens, params["query"])
        keys = tf.einsum("...i,id->...d", tokens, params["key"])
        tokens += tf.matmul(tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True)), tokens)
        return tf.reshape(tokens, [-1, 54]) @ params["last"]

    def loss(self, params, batch):
        penalty = sum(tf.nn.l2_loss(leaf) for leaf in params.values())
        return super().loss(params, batch) + 1e-3 * penalty
"""


def rows(out: Path, **fields: Any) -> pd.DataFrame:
    frame = Study(name="written", **(GRID | fields)).run(out).cells().sort_values("cell_id")
    assert (frame["status"] != "failed").all() and not frame["detail"].fillna("").str.contains(
        "at a time"
    ).any()
    return frame


def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with products written out, and without."""
    ours = rows(tmp_path / "ours", **fields)
    monkeypatch.setattr(planning, "_can_write_out", lambda *_: False)
    return ours, rows(tmp_path / "theirs", **fields)


def agree(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    for name in [column for column in EXACT if column in ours]:
        assert ours[name].tolist() == theirs[name].tolist(), name
    for name in [column for column in MEASURED if column in ours]:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-3, err_msg=name)
    for a, b in zip(ours["metrics"], theirs["metrics"], strict=True):
        assert dict(a).keys() == dict(b).keys()
        assert all(abs(value - dict(b)[key]) < 0.02 for key, value in dict(a).items())


def test_rows_of_rules_with_and_without_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizers = ["gradient_descent", "adam(beta_1=[0.8, 0.9])", "lookahead(momentum)"]
    agree(*both(tmp_path, monkeypatch, optimizers=optimizers, workloads=["digits_logistic(steps=12)"]))


def test_rows_of_a_rule_with_products_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rule.py").write_text(PRODUCTS)
    agree(*both(tmp_path, monkeypatch, optimizers=[f"{tmp_path / 'rule.py'}:Whitened"]))


def test_a_loop_in_a_rule_or_in_metrics_is_left_to_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(LOOPS)
    rule, workload = f"{tmp_path / 'mine.py'}:Thrice", f"{tmp_path / 'mine.py'}:Looked(steps=12)"
    agree(*both(tmp_path / "rule", monkeypatch, optimizers=[rule]))
    monkeypatch.undo()
    ours, theirs = both(tmp_path / "metrics", monkeypatch, optimizers=["adam"], workloads=[workload])
    agree(ours, theirs)
    assert all(np.isclose(dict(m)["twice"], 2 * dict(m)["test_loss"]) for m in ours["metrics"])


def test_rows_of_runs_that_stop_at_their_target_or_diverge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        "workloads": ["digits_logistic(target=0.9, steps=40)"], "optimizers": ["momentum"], "stop": "target",
        "learning_rates": [*np.geomspace(1e-3, 1.0, 11), 1e9],
    }  # fmt: skip
    ours, theirs = both(tmp_path, monkeypatch, **fields)
    agree(ours[ours["status"] != "diverged"], theirs[theirs["status"] != "diverged"])
    assert set(ours["status"]) == {"converged", "budget", "diverged"}


def test_rows_of_batches_that_are_looked_at_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {
        "workloads": ["digits_cnn(filters=[4, 6], steps=12)"], "optimizers": ["lookahead(momentum)"],
    }  # fmt: skip
    agree(*both(tmp_path, monkeypatch, **fields))


def test_rows_of_a_network_of_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MIXED)
    workload = f"{tmp_path / 'mine.py'}:Mixed(steps=12, batch_size=8)"
    ours, theirs = both(tmp_path, monkeypatch, optimizers=["momentum"], workloads=[workload], dtype="float64")
    agree(ours, theirs)
    np.testing.assert_allclose(ours["final_loss"], theirs["final_loss"], rtol=1e-9)


def test_rows_in_double_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = both(tmp_path, monkeypatch, optimizers=["adam"], dtype="float64")
    np.testing.assert_allclose(ours["final_loss"], theirs["final_loss"], rtol=1e-9)
