"""The grids that are raced, as data: every side builds its program from the same `Work` and `Inputs`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

CLASSES = 10


@dataclass(frozen=True)
class Work:
    """One grid: a workload and an optimizer, `points` learning rates and `seeds` seeds.

    Args:
        key: its name in files.
        title: its name in tables.
        family: `function`, `mlp` or `cnn`.
        workload: as a study writes it, without its parameters.
        params: the workload's parameters that are not its defaults.
        optimizer: `adam` or `momentum`, with the catalogue's defaults.
        low, high, points: the learning rates, log-spaced.
        seeds, steps: of the grid.
        rounds: timed rounds of each side.
    """

    key: str
    title: str
    family: str
    workload: str
    params: dict[str, Any]
    optimizer: str
    low: float
    high: float
    points: int
    seeds: int
    steps: int
    rounds: int

    @property
    def cells(self) -> int:
        return self.points * self.seeds

    @property
    def cell_steps(self) -> int:
        return self.cells * self.steps

    @property
    def rates(self) -> np.ndarray:
        """[points] float64, as a study spaces them."""
        return np.geomspace(self.low, self.high, self.points)

    @property
    def expression(self) -> str:
        """The workload as a study writes it."""
        given = ", ".join(f"{k}={list(v) if isinstance(v, tuple) else v}" for k, v in self.params.items())
        return f"{self.workload}({given})" if given else self.workload

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of this project's study."""
        return {
            "workloads": [self.expression],
            "optimizers": [self.optimizer],
            "learning_rates": [float(rate) for rate in self.rates],
            "seeds": self.seeds,
            "steps": self.steps,
        }

    def flops(self) -> int:
        """Floating-point operations of the products in one step of one cell, counted by hand.

        A product of [a, b] and [b, c] is 2abc. Backward takes two products of the same size, one for the
        weights and one for the inputs; the first layer needs none for its inputs. Functions: 0.
        """
        products = layers(self)
        batch = self.params.get("batch_size", 64)
        return sum(2 * batch * rows * a * b * (2 if i == 0 else 3) for i, (rows, a, b) in enumerate(products))

    def bytes_moved(self) -> int:
        """Fewest bytes that one step of one cell of a function moves: parameters and state, read, written."""
        dimension = int(self.params.get("dimension", 2))
        slots = {"adam": 2, "momentum": 1}[self.optimizer]
        return 2 * 4 * dimension * (1 + slots)


def layers(work: Work) -> list[tuple[int, int, int]]:
    """(rows per example, inputs, outputs) of each product of a network, in order; none for a function."""
    if work.family == "mlp":
        widths = [64, *work.params["hidden"], CLASSES]
        return [(1, a, b) for a, b in pairwise(widths)]
    if work.family == "cnn":
        first, second = FILTERS
        side = work.params.get("side", 8)
        last = side // 2 - 2
        return [(side**2, 9, first), (last**2, 9 * first, second), (1, pooled(last) ** 2 * second, CLASSES)]
    return []


FILTERS = (8, 16)
LARGEST = 6  # side of the maps that the last layer of the convolutional network sees


def pooled(side: int) -> int:
    """The side of maps after means of 2x2 until they are at most `LARGEST`."""
    while side > LARGEST:
        side //= 2
    return side


@dataclass(frozen=True)
class Inputs:
    """What all sides start from, made once by this project's workload.

    Args:
        starts: initial parameters of each seed, a list of arrays [seeds, ...]: one for a function, weight
            and bias of each layer in turn for a network.
        rows: [steps, seeds, batch] int32, the images of each batch; empty for functions.
        images: [examples, pixels] float32, of the training part; empty for functions.
        labels: [examples, classes] float32, one-hot; empty for functions.
    """

    starts: list[np.ndarray]
    rows: np.ndarray
    images: np.ndarray
    labels: np.ndarray


WORKS = (
    Work(
        "rosenbrock", "Rosenbrock, Adam, 4,096 cells × 1,000 steps", "function",
        "rosenbrock", {}, "adam", 1e-4, 1e-2, 64, 64, 1000, 15,
    ),
    Work(
        "quadratic", "quadratic n = 100, momentum, 1,024 cells × 1,000 steps", "function",
        "quadratic", {"dimension": 100}, "momentum", 1e-4, 1e-2, 32, 32, 1000, 15,
    ),
    Work(
        "mlp_small", "MLP 64-32-10, batch 64, Adam, 16 rates × 8 seeds", "mlp",
        "digits_mlp", {"hidden": (32,), "batch_size": 64}, "adam", 1e-4, 1e-2, 16, 8, 300, 5,
    ),
    Work(
        "mlp_large", "MLP 64-256-256-10, batch 128, Adam, 16 rates × 8 seeds", "mlp",
        "digits_mlp", {"hidden": (256, 256), "batch_size": 128}, "adam", 1e-4, 1e-2, 16, 8, 40, 5,
    ),
    Work(
        "cnn_8", "CNN on 8 × 8 images, batch 64, Adam, 16 rates × 8 seeds", "cnn",
        "digits_cnn", {"batch_size": 64}, "adam", 1e-4, 1e-2, 16, 8, 60, 5,
    ),
    Work(
        "cnn_28", "CNN on 28 × 28 images, batch 64, Adam, 16 rates × 8 seeds", "cnn",
        "digits_cnn", {"side": 28, "batch_size": 64}, "adam", 1e-4, 1e-2, 16, 8, 6, 3,
    ),
)  # fmt: skip


def chosen(keys: list[str] | None, quick: bool) -> list[Work]:
    """The works of `keys` (all by default); quick: a fifth of the steps, and two rounds.

    Raises:
        SystemExit: there is no such work.
    """
    known = {work.key: work for work in WORKS}
    for key in keys or ():
        if key not in known:
            raise SystemExit(f"no work '{key}': there are {', '.join(known)}")
    works = [known[key] for key in keys or known]
    return [replace(w, steps=max(2, w.steps // 5), rounds=2) for w in works] if quick else works
