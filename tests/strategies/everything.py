"""The whole catalogue as one problem: every workload's parameters, trained by every optimizer, at once.

An optimizer sees the parameters of all workloads together, so that what works on norms couples them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from harness import catalog

STEPS = 100
INNER = ("adam", "momentum")


def optimizers() -> dict[str, Any]:
    """Every optimizer and transform of the catalogue by name, with its defaults; transforms wrap `INNER`."""
    made = {name: catalog.load(entry)() for name, entry in catalog.entries("optimizer").items()}
    for name, entry in catalog.entries("transform").items():
        given: dict[str, Any] = {
            field: made[wrapped] for field, wrapped in zip(entry.inner, INNER, strict=False)
        }
        if entry.field("steps") is not None:
            given["steps"] = STEPS
        made[name] = catalog.load(entry)(**given)
    return made


def workloads(functions: bool, **changes: Any) -> dict[str, Any]:
    """The test functions of the catalogue, or the workloads that learn, by name, in float64."""
    found = {}
    for name, entry in catalog.entries("workload").items():
        made = catalog.load(entry)(dtype="float64")
        if (made.domain is not None) == functions:
            found[name] = catalog.load(entry)(dtype="float64", **changes)
    return found


@dataclass(frozen=True)
class All:
    """The sum of some workloads' losses, each for every optimizer's own parameters.

    Args:
        parts: workloads by name.
        rules: optimizers by name.
        batch_size: of the workloads that learn.
    """

    parts: dict[str, Any]
    rules: dict[str, Any]
    batch_size: int | None = None
    target_metric: ClassVar[str] = "loss"
    optimum: ClassVar[None] = None

    def init(self, seed: Any) -> Any:
        return {rule: {name: part.init(seed) for name, part in self.parts.items()} for rule in self.rules}

    def batch(self, seed: Any, step: Any) -> Any:
        drawn = {name: part.batch(seed, step) for name, part in self.parts.items()}
        return None if all(b is None for b in drawn.values()) else drawn

    def loss(self, params: Any, batch: Any) -> tf.Tensor:
        return tf.add_n(
            [
                part.loss(params[rule][name], None if batch is None else batch[name])
                for rule in self.rules
                for name, part in self.parts.items()
            ]
        )

    def objective(self, params: Any) -> None:
        return None

    def monitor(self, params: Any) -> dict[str, tf.Tensor]:
        return {}

    def evaluate(self, params: Any) -> dict[str, tf.Tensor]:
        return {}


@dataclass(frozen=True)
class Everybody:
    """Every optimizer on its own parameters, each at a rate of its own: the middle of its range."""

    rules: dict[str, Any]
    slower: float = 1.0

    def rate(self, rule: str) -> tf.Tensor:
        low, high = self.rules[rule].learning_rates
        return tf.constant((low * high) ** 0.5 / self.slower, tf.float64)

    def init(self, params: Any) -> Any:
        return {name: rule.init(params[name]) for name, rule in self.rules.items()}

    def update(self, params: Any, grads: Any, state: Any, lr: Any, step: Any) -> Any:
        new_params, new_state = {}, {}
        for name, rule in self.rules.items():
            new_params[name], new_state[name] = rule.update(
                params[name], grads[name], state[name], self.rate(name), step
            )
        return new_params, new_state

    def eval_params(self, params: Any, state: Any) -> Any:
        return params


def plain(workload: All, optimizer: Everybody, seed: int) -> Any:
    """Parameters after `STEPS` steps, by a plain loop: no lanes, no XLA, no strategy."""

    @tf.function(autograph=False)
    def loop(params: Any, state: Any) -> Any:
        def body(step: Any, params: Any, state: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(params)
                loss = workload.loss(params, workload.batch(seed, step))
            gradients = tape.gradient(loss, params)
            return step + 1, *optimizer.update(params, gradients, state, 0.0, step)

        return tf.while_loop(lambda step, *_: step < STEPS, body, (tf.constant(0), params, state))[1]

    params = tf.nest.map_structure(tf.convert_to_tensor, workload.init(seed))
    return loop(params, optimizer.init(params))
