"""One of several processes that train `tf.Variable`s together: `python -m … INDEX CHECKPOINT HOST:PORT …`.

Prints the variables, to the bit, after six steps, and saves a checkpoint of the third.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

from optimizers import VariableOptimizer
from optimizers.nadam import Nadam
from optimizers.transforms.clip_by_global_norm import ClipByGlobalNorm

EXAMPLES = np.array([[1.0, 2.0, -1.0], [3.0, -0.5, 0.25]], np.float64)
START = np.array([0.5, -1.0, 2.0])
METHOD = ClipByGlobalNorm(Nadam(), max_norm=3.0)


def main(index: int, checkpoint: str, peers: list[str]) -> None:
    kinds = tf.distribute.experimental
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": peers}), task_type="worker", task_id=index, rpc_layer="grpc"
    )
    options = kinds.CommunicationOptions(implementation=kinds.CommunicationImplementation.RING)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    with strategy.scope():
        weights = tf.Variable(START)
        optimizer = VariableOptimizer(METHOD, 0.1, aggregate="mean")

    @tf.function(jit_compile=True)
    def gradient(values: tf.Tensor, example: tf.Tensor) -> tf.Tensor:
        return 2 * example * tf.reduce_sum(values * example)

    def replica(example: tf.Tensor) -> None:
        optimizer.apply_gradients([(gradient(weights.read_value(), example), weights)])

    @tf.function
    def step(example: tf.Tensor) -> None:
        strategy.run(replica, args=(example,))

    saved = tf.train.Checkpoint(weights=weights, optimizer=optimizer)
    for number in range(6):
        if number == 3:
            saved.write(checkpoint if index == 0 else f"{checkpoint}-{index}")
        step(tf.constant(EXAMPLES[index]))
    print(*(value.hex() for value in weights.numpy().tolist()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
