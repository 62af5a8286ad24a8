"""Keras, one trial at a time: `compile(jit_compile=True)` and `fit`.

One model serves all trials: between them its weights and the optimizer's are set back and the learning rate
is assigned, so that only the first trial traces and compiles. `steps_per_execution` keeps the loop over
steps inside TensorFlow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from keras import layers, ops

from benchmarks.sides import Prepared, Round
from benchmarks.works import FILTERS, LARGEST, Inputs, Work

TRIALS = 3
STEPS_PER_EXECUTION = 20


def rosenbrock(x: Any) -> Any:
    return ops.sum(100.0 * ops.square(x[1:] - ops.square(x[:-1])) + ops.square(1.0 - x[:-1]))


def quadratic(x: Any) -> Any:
    eigenvalues = np.geomspace(1.0, 100.0, x.shape[0]).astype(np.float32)
    return 0.5 * ops.sum(eigenvalues * ops.square(x))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {"rosenbrock": rosenbrock, "quadratic": quadratic}


class Point(keras.Model):
    """A point in space as a model: what it predicts, whatever goes in, is the function's value there."""

    def __init__(self, function: Callable[[Any], Any], dimension: int):
        super().__init__()
        self.function = function
        self.x = self.add_weight(shape=(dimension,), name="x")

    def call(self, inputs: Any) -> Any:
        return self.function(self.x) + 0.0 * inputs


def network(work: Work) -> keras.Model:
    """The work's network, in Keras' layers."""
    if work.family == "mlp":
        hidden = [layers.Dense(units, activation="relu") for units in work.params["hidden"]]
        return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])
    side = work.params.get("side", 8)
    first, second = FILTERS
    stack: list[Any] = [
        keras.Input((side * side,)),
        layers.Reshape((side, side, 1)),
        layers.Conv2D(first, 3, padding="same", activation="relu"),
        layers.AveragePooling2D(2),
        layers.Conv2D(second, 3, activation="relu"),
    ]
    last = side // 2 - 2
    while last > LARGEST:
        stack.append(layers.AveragePooling2D(2))
        last //= 2
    return keras.Sequential([*stack, layers.Flatten(), layers.Dense(10)])


def optimizer(work: Work) -> keras.Optimizer:
    made = {"adam": keras.optimizers.Adam, "momentum": lambda: keras.optimizers.SGD(momentum=0.9)}
    return made[work.optimizer]()


class Keras:
    """A few trials of the grid, one after the other."""

    def prepare(self, work: Work, inputs: Inputs) -> Prepared:
        self.work, self.inputs = work, inputs
        self.found = np.full((work.points, work.seeds), np.nan)
        if work.family == "function":
            self.model: Any = Point(FUNCTIONS[work.workload], inputs.starts[0].shape[1])
            self.data = (np.zeros((work.steps, 1), np.float32), np.zeros((work.steps, 1), np.float32))
            self.batch, loss = 1, lambda truth, value: ops.mean(value)
        else:
            self.model = network(work)
            self.batch = work.params["batch_size"]
            loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.model.compile(
            optimizer=optimizer(work),
            loss=loss,
            jit_compile=True,
            steps_per_execution=min(STEPS_PER_EXECUTION, work.steps),
        )
        begin = time.perf_counter()
        self._trial(0, 0)
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        self._trial(0, 0)
        return Prepared(first - (time.perf_counter() - begin), f"{TRIALS} trials a round")

    def _trial(self, rate: int, seed: int) -> None:
        work, inputs = self.work, self.inputs
        for variable in self.model.optimizer.variables:
            variable.assign(ops.zeros_like(variable))
        self.model.optimizer.learning_rate = float(work.rates[rate])
        starts = [leaf[seed] for leaf in inputs.starts]
        for variable, start in zip(self.model.weights, starts, strict=True):
            variable.assign(start.reshape(variable.shape))
        if work.family != "function":
            rows = inputs.rows[:, seed].reshape(-1)
            self.data = (inputs.images[rows], inputs.labels[rows])
        self.model.fit(*self.data, batch_size=self.batch, epochs=1, shuffle=False, verbose=0)

    def run(self) -> Round:
        """Trials at rates spread over the grid, all of the first seed."""
        chosen = np.linspace(0, self.work.points - 1, TRIALS).round().astype(int)
        begin = time.perf_counter()
        for rate in chosen:
            self._trial(int(rate), 0)
            self._book(int(rate))
        seconds = time.perf_counter() - begin
        return Round(seconds - self.booking, TRIALS * self.work.steps, self.booking)

    booking = 0.0

    def _book(self, rate: int) -> None:
        begin = time.perf_counter()
        if self.work.family == "function":
            value = float(FUNCTIONS[self.work.workload](self.model.x))
        else:
            logits = self.model(self.inputs.images)
            value = float(
                ops.mean(keras.losses.categorical_crossentropy(self.inputs.labels, logits, from_logits=True))
            )
        self.found[rate, 0] = value
        self.booking = (0.0 if rate == 0 else self.booking) + time.perf_counter() - begin

    def losses(self) -> np.ndarray:
        return self.found
