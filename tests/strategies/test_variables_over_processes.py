"""`VariableOptimizer` in a loop of a user's own over two processes, and its checkpoint elsewhere."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from optimizers import VariableOptimizer
from tests.strategies.variables_worker import EXAMPLES, METHOD, START

ROOT = Path(__file__).resolve().parents[2]


def plain(params: tf.Tensor, state: object, first: int, steps: int) -> tuple[tf.Tensor, object]:
    """The same by the pure functions, on both examples at once."""
    for number in range(first, first + steps):
        gradient = np.mean([2 * x * (x @ params.numpy()) for x in EXAMPLES], axis=0)
        params, state = METHOD.update(params, tf.constant(gradient), state, 0.1, tf.constant(number))
    return params, state


def test_trains_over_two_processes_and_restores_in_one(tmp_path: Path) -> None:
    held = [socket.socket() for _ in range(2)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    peers = [f"127.0.0.1:{each.getsockname()[1]}" for each in held]
    for each in held:
        each.close()
    checkpoint = str(tmp_path / "checkpoint")
    command = [sys.executable, "-m", "tests.strategies.variables_worker"]
    workers = [
        subprocess.Popen(
            [*command, str(i), checkpoint, *peers],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = []
    for worker in workers:
        out, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors[-3000:]
        said.append(out.split())
    assert said[0] == said[1]  # to the bit
    start = tf.constant(START)
    expected, _ = plain(start, METHOD.init(start), 0, 6)
    found = [float.fromhex(value) for value in said[0]]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)

    mirrored = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with mirrored.scope():
        weights = tf.Variable(np.zeros(3))
        optimizer = VariableOptimizer(METHOD, 123.0, aggregate="mean")
        optimizer.build([weights])
    status = tf.train.Checkpoint(weights=weights, optimizer=optimizer).read(checkpoint)
    status.assert_consumed()
    halfway, _ = plain(start, METHOD.init(start), 0, 3)
    np.testing.assert_allclose(weights.numpy(), halfway.numpy(), rtol=1e-12)

    @tf.function
    def step() -> None:
        def replica() -> None:
            context = tf.distribute.get_replica_context()
            example = tf.constant(EXAMPLES)[tf.cast(context.replica_id_in_sync_group, tf.int32)]
            gradient = 2 * example * tf.reduce_sum(weights * example)
            optimizer.apply_gradients([(gradient, weights)])

        mirrored.run(replica)

    for _ in range(3):
        step()
    for copy in mirrored.experimental_local_results(weights):
        np.testing.assert_allclose(copy.numpy(), expected.numpy(), rtol=1e-12)
