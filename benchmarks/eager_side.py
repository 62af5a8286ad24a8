"""The eager loop of the Core-API tutorials: `tf.Variable`, `GradientTape`, an optimizer class, `assign`."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf

from benchmarks.sides import Prepared, Round
from benchmarks.works import LARGEST, Inputs, Work

STEPS = 150  # of one cell in a round


class Adam:
    """Adam over a list of variables, as a tutorial writes it."""

    def __init__(self, rate: float, variables: list[tf.Variable]):
        self.rate, self.t = rate, 0
        self.m = [tf.Variable(tf.zeros_like(v)) for v in variables]
        self.v = [tf.Variable(tf.zeros_like(v)) for v in variables]

    def apply(self, gradients: list[Any], variables: list[tf.Variable]) -> None:
        self.t += 1
        for g, x, m, v in zip(gradients, variables, self.m, self.v, strict=True):
            m.assign(0.9 * m + 0.1 * g)
            v.assign(0.999 * v + 0.001 * g**2)
            corrected, square = m / (1 - 0.9**self.t), v / (1 - 0.999**self.t)
            x.assign_sub(self.rate * corrected / (tf.sqrt(square) + 1e-7))


class Momentum:
    """The heavy ball over a list of variables."""

    def __init__(self, rate: float, variables: list[tf.Variable]):
        self.rate = rate
        self.v = [tf.Variable(tf.zeros_like(v)) for v in variables]

    def apply(self, gradients: list[Any], variables: list[tf.Variable]) -> None:
        for g, x, v in zip(gradients, variables, self.v, strict=True):
            v.assign(0.9 * v - self.rate * g)
            x.assign_add(v)


OPTIMIZERS = {"adam": Adam, "momentum": Momentum}


def rosenbrock(x: Any) -> Any:
    return tf.reduce_sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def quadratic(x: Any) -> Any:
    eigenvalues = np.geomspace(1.0, 100.0, x.shape[0]).astype(np.float32)
    return 0.5 * tf.reduce_sum(eigenvalues * tf.square(x))


FUNCTIONS = {"rosenbrock": rosenbrock, "quadratic": quadratic}


def logits(work: Work, variables: list[tf.Variable], images: Any) -> Any:
    """[batch, pixels] -> [batch, classes]."""
    h = images
    if work.family == "cnn":
        side = work.params.get("side", 8)
        first, first_bias, second, second_bias, *variables = variables
        kernels = tf.reshape(first, [3, 3, 1, -1]), tf.reshape(second, [3, 3, first.shape[1], -1])
        h = tf.nn.conv2d(tf.reshape(h, [-1, side, side, 1]), kernels[0], 1, "SAME")
        h = tf.nn.avg_pool2d(tf.nn.relu(h + first_bias), 2, 2, "VALID")
        h = tf.nn.relu(tf.nn.conv2d(h, kernels[1], 1, "VALID") + second_bias)
        while h.shape[1] > LARGEST:
            h = tf.nn.avg_pool2d(h, 2, 2, "VALID")
        h = tf.reshape(h, [len(images), -1])
    for i in range(0, len(variables), 2):
        h = tf.matmul(h, variables[i]) + variables[i + 1]
        h = tf.nn.relu(h) if i + 2 < len(variables) else h
    return h


class Eager:
    """Some steps of one cell."""

    def prepare(self, work: Work, inputs: Inputs) -> Prepared:
        self.work, self.inputs = work, inputs
        self.steps = min(STEPS, work.steps)
        self.run()
        return Prepared(0.0, f"{self.steps} steps of one cell a round")

    def _loss(self, variables: list[tf.Variable], step: int) -> Any:
        if self.work.family == "function":
            return FUNCTIONS[self.work.workload](variables[0])
        rows = self.inputs.rows[step, 0]
        z = logits(self.work, variables, self.inputs.images[rows])
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(self.inputs.labels[rows], z))

    def run(self) -> Round:
        variables = [tf.Variable(leaf[0]) for leaf in self.inputs.starts]
        optimizer = OPTIMIZERS[self.work.optimizer](float(self.work.rates[0]), variables)
        begin = time.perf_counter()
        for step in range(self.steps):
            with tf.GradientTape() as tape:
                loss = self._loss(variables, step)
            optimizer.apply(tape.gradient(loss, variables), variables)
        seconds = time.perf_counter() - begin
        self.variables = variables
        return Round(seconds, self.steps)

    def losses(self) -> np.ndarray:
        """Known where a round is a whole run."""
        out = np.full((self.work.points, self.work.seeds), np.nan)
        if self.steps < self.work.steps:
            return out
        if self.work.family == "function":
            out[0, 0] = float(FUNCTIONS[self.work.workload](self.variables[0]))
        else:
            z = logits(self.work, self.variables, self.inputs.images)
            cross = tf.nn.softmax_cross_entropy_with_logits(self.inputs.labels, z)
            out[0, 0] = float(tf.reduce_mean(cross))
        return out
