"""A split batch gives what one device gives, on every workload and every optimizer of the catalogue.

Its gradient depends on the workload alone, and the update that follows on the optimizer alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from harness import catalog, lift
from harness.batchsplit import BatchLoop
from harness.program import LaneProgram
from harness.strategies import placements, prepare
from harness.types import Component, Lanes, Layout, Program
from harness.worker import idle_inputs
from tests.strategies.everything import STEPS, All, Everybody, optimizers, plain, workloads

pytestmark = pytest.mark.slow

SEED, BATCH = 5, 14  # over 4 replicas: 4, 4, 3, 3


def trained(workload: All, optimizer: Everybody, layout: Layout, jit: bool = True) -> Any:
    """The replicas' parameters after `STEPS` steps of one run."""
    part = Component("everything", {}, "everything")
    program = Program(
        key="e",
        workload=part,
        optimizer=part,
        budget=STEPS,
        target=0.0,
        stop="budget",
        dtype="float64",
        lanes=Lanes(1, 1),
        stride=STEPS,
        stability=False,
        split="batch",
        replicas=layout.replicas or 1,
    )
    place = placements(layout, prepare(layout))[0]
    made = LaneProgram(
        program, workload, lambda _: optimizer, jit=jit, loop=lambda lanes: BatchLoop(lanes, place)
    )
    one = tf.constant([True])
    inputs = idle_inputs(made)._replace(
        begin=tf.nest.map_structure(lambda leaf: leaf[None], workload.init(SEED)),
        group_seeds=tf.constant([SEED]),
        targets=tf.fill([12, 1], tf.constant(-np.inf, tf.float64)),
        limit=tf.constant([np.inf], tf.float64),
        go=one,
    )
    carry = made.seat(made.empty(), inputs, one)
    # `advance` itself raises where replicas differ in a bit.
    ran, found = place.run(made.advance, carry, inputs, made.plan.rounds, made.plan.span)
    carry = made.booked(carry, inputs, ran, found)
    assert carry.step.tolist() == [STEPS]
    params = lift.load(carry.params, made.trailing)
    return tf.nest.map_structure(lambda leaf: leaf[0].numpy(), params)


def compare(workload: All, optimizer: Everybody, layouts: list[Layout]) -> None:
    expected = plain(workload, optimizer, SEED)
    begin = workload.init(SEED)
    for layout in layouts:
        found = trained(workload, optimizer, layout)
        for rule in workload.rules:
            for name in workload.parts:
                moved = 0.0
                for mine, other, first in zip(
                    *(tf.nest.flatten(each[rule][name]) for each in (found, expected, begin)), strict=True
                ):
                    scale = np.abs(other).max()
                    worst = np.abs(mine - other).max() / max(scale, 1e-300)
                    assert worst <= 1e-10, f"{layout.words()}: {rule} on {name}: {worst:.1e}"
                    moved = max(moved, np.abs(other - first).max())
                assert moved > 1e-6, f"{rule} on {name} stood still"


def some(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: rule for name, rule in optimizers().items() if name in names}


RULES = sorted({**catalog.entries("optimizer"), **catalog.entries("transform")})
TOGETHER = 4  # that XLA compiles as one program: its time grows faster than their number


@pytest.mark.parametrize(
    "names", [tuple(RULES[i : i + TOGETHER]) for i in range(0, len(RULES), TOGETHER)], ids="-".join
)
def test_every_optimizer(names: tuple[str, ...]) -> None:
    """On matrices and vectors, and gradients that a split batch has cut in uneven parts."""
    parts = {"digits_logistic": workloads(functions=False, batch_size=BATCH)["digits_logistic"]}
    rules = some(names)
    compare(All(parts, rules, BATCH), Everybody(rules), [Layout("mirrored", "batch", 3)])


@pytest.mark.parametrize("name", sorted({*workloads(functions=False)} - {"digits_logistic"}))
def test_every_workload_that_learns(name: str) -> None:
    """`digits_logistic` is in the test above."""
    parts, rules = {name: workloads(functions=False, batch_size=BATCH)[name]}, some(("adam",))
    compare(All(parts, rules, BATCH), Everybody(rules), [Layout("mirrored", "batch", 4)])


@pytest.mark.parametrize("noise", [0.0, 0.05], ids=["deterministic", "noisy"])
def test_every_function(noise: float) -> None:
    """A function has no examples: the first replica has all of it, and the others follow."""
    parts, rules = workloads(functions=True, noise=noise), some(("adam",))
    compare(All(parts, rules), Everybody(rules), [Layout("mirrored", "batch", 2)])


@pytest.mark.parametrize(
    "layout",
    [
        Layout("central_storage", "batch", 4),
        Layout("one_device", "batch", 1),
        Layout("default", "batch", 1),
    ],
    ids=lambda layout: f"{layout.name}-{layout.replicas}",
)
def test_other_strategies(layout: Layout) -> None:
    parts = {"digits_logistic": workloads(functions=False, batch_size=BATCH)["digits_logistic"]}
    rules = {name: optimizers()[name] for name in ("adam", "clip_by_global_norm", "lookahead")}
    compare(All(parts, rules, BATCH), Everybody(rules), [layout])
