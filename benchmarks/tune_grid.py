"""The grid of `benchmarks.shell` as a Ray Tune experiment: a trial per cell, one core each.

    python -m benchmarks.tune_grid --trials 270 [--reuse]

A trial is a function that trains its cell with a compiled TensorFlow step and reports its last loss.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from functools import cache
from typing import Any

import numpy as np

from benchmarks.shell import HIGH, LOW, OPTIMIZERS, RATES, SEEDS, STEPS

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")


@cache
def compiled(name: str) -> tuple[Any, Any]:
    """The Keras optimizer and the compiled step of an optimizer, made once per process."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    keras = tf.keras.optimizers
    made = {"gradient_descent": keras.SGD, "momentum": lambda: keras.SGD(momentum=0.9), "adam": keras.Adam}
    optimizer = made[name]()
    x = tf.Variable(tf.zeros(2))
    optimizer.build([x])

    @tf.function(jit_compile=True)
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2
        optimizer.apply_gradients([(tape.gradient(loss, x), x)])
        return loss

    return (x, optimizer), step


def trial(config: dict[str, Any]) -> None:
    """Trains one cell."""
    from ray import tune

    cell = config["cell"]
    (x, optimizer), step = compiled(cell["optimizer"])
    for variable in optimizer.variables:
        variable.assign(np.zeros(variable.shape))
    optimizer.learning_rate = cell["rate"]
    x.assign(np.random.default_rng(cell["seed"]).uniform(-2.048, 2.048, 2))
    for _ in range(STEPS):
        loss = step()
    tune.report({"loss": float(loss)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--reuse", action="store_true")
    given = parser.parse_args()

    import ray
    from ray import tune

    from benchmarks.tune_grid import trial  # by its module's name, which workers can import

    ray.init(include_dashboard=False, log_to_driver=False)
    rates = [float(rate) for rate in np.geomspace(LOW, HIGH, RATES)]
    cells = list(itertools.product(OPTIMIZERS, rates, range(SEEDS)))[: given.trials]
    configs = [{"optimizer": o, "rate": r, "seed": s} for o, r, s in cells]
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={"cell": tune.grid_search(configs)},
            tune_config=tune.TuneConfig(reuse_actors=given.reuse),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    done = sum(1 for result in results if result.metrics and "loss" in result.metrics)
    if done != given.trials:
        raise SystemExit(f"{done} of {given.trials} trials came back")


if __name__ == "__main__":
    main()
