"""The peers run the same grids as this project: the same losses, cell by cell, on tiny works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.__main__ import disagreement
from benchmarks.jax_side import NETWORKS, Jax, variants
from benchmarks.ours import TrainOnly
from benchmarks.sides import make
from benchmarks.works import WORKS, Work, layers

KNOWN = {work.key: work for work in WORKS}
TINY = [
    replace(KNOWN["rosenbrock"], points=3, seeds=2, steps=25),
    replace(KNOWN["quadratic"], params={"dimension": 5}, points=2, seeds=3, steps=25),
    replace(KNOWN["mlp_small"], params={"hidden": (5,), "batch_size": 8}, points=2, seeds=2, steps=6),
    replace(KNOWN["cnn_8"], params={"batch_size": 4}, points=2, seeds=2, steps=3),
]


@pytest.fixture(scope="module", params=TINY, ids=lambda work: work.key)
def raced(request):
    """(work, inputs, this project's side after a run)."""
    work: Work = request.param
    ours = TrainOnly()
    inputs = ours.inputs(work)
    ours.prepare(work, inputs)
    took = ours.run()
    assert took.cell_steps == work.cell_steps and took.seconds > 0
    losses = ours.losses()
    assert losses.shape == (work.points, work.seeds) and np.isfinite(losses).all()
    return work, inputs, ours


def test_jax_comes_to_the_same_losses(raced):
    work, inputs, ours = raced
    jax = Jax()
    ready = jax.prepare(work, inputs)
    jax.run()
    assert ready.variant in ready.tried
    jax.start()
    cold = jax.cold(work, inputs, ready.variant)
    assert cold.compile_seconds > 0 and cold.run_seconds > 0
    assert disagreement(ours.losses(), jax.losses()).max() < 1e-4
    if work.family == "function":
        rows = {
            (c.learning_rate, c.seed): b
            for r in ours.runs
            for c, b in zip(r.cells, r.ledger.best, strict=True)
        }
        best = np.array([rows[key] for key in sorted(rows)])
        assert disagreement(best, np.asarray(jax.result[1])).max() < 1e-4


@pytest.mark.parametrize("name", ["keras", "eager"])
def test_one_trial_at_a_time_comes_to_the_same_losses(raced, name):
    work, inputs, ours = raced
    side = make(name)
    side.prepare(work, inputs)
    took = side.run()
    found = side.losses()
    assert took.cell_steps >= work.steps and took.seconds > 0
    # Keras adds Adam's epsilon elsewhere, which early steps with small gradients feel.
    assert disagreement(ours.losses(), found).max() < 1e-2


def test_every_variant_of_jax_is_the_same_program(raced):
    import jax

    work, inputs, _ = raced
    rates = work.rates.astype(np.float32)
    if work.family == "function":
        arguments = np.tile(inputs.starts[0], (work.points, 1)), np.repeat(rates, work.seeds)
    else:
        arguments = inputs.starts, rates, inputs.rows
    found = {name: jax.jit(fn)(*arguments)[0] for name, fn in variants(work, inputs).items()}
    first, *others = (jax.tree.leaves(result) for result in found.values())
    assert others
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_different_losses_end_the_comparison():
    same = np.array([[1.0, 2.0]])
    assert disagreement(same, same).max() == 0
    with pytest.raises(SystemExit, match="did not compute the same"):
        disagreement(same, 1.1 * same)
    with pytest.raises(SystemExit, match="no cell in common"):
        disagreement(same, np.full((1, 2), np.nan))


def test_convolutions_are_counted_as_they_are_shaped():
    rng = np.random.default_rng(0)
    for key, side in (("cnn_8", 8), ("cnn_28", 28)):
        work = KNOWN[key]
        shapes = [(a, b) for _, a, b in layers(work)]
        params = [leaf for a, b in shapes for leaf in (rng.normal(size=(a, b)), np.zeros(b))]
        for network in NETWORKS["cnn"].values():
            assert network(params, rng.normal(size=(3, side * side))).shape == (3, 10)


def test_flops_by_hand():
    work = replace(KNOWN["mlp_small"], params={"hidden": (32,), "batch_size": 64})
    forward = 2 * 64 * (64 * 32 + 32 * 10)
    # Backward: weights of both layers, inputs of the second.
    assert work.flops() == forward + 2 * 64 * (64 * 32 + 32 * 10) + 2 * 64 * 32 * 10
    assert KNOWN["rosenbrock"].flops() == 0
