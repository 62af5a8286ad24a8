"""The contract suite for optimizers: what a study relies on, checked on any optimizer."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from ._optimizer_trial import (
    LANES,
    RATE,
    STEPS,
    Broken,
    Trial,
    floats_of,
    identical,
    nearby,
    require_close,
    require_own_dtype,
    require_same_form,
    says,
    with_budget,
    with_floats,
)

_HINT = " (tf.cast takes a Python float through float32: use tf.constant(value, dtype) for numbers)"


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check: its name, whether it passed, and a sentence to act on."""

    name: str
    passed: bool
    detail: str


def check_optimizer(optimizer: Any, *, steps: int = 300) -> list[CheckResult]:
    """Runs the contract suite on an optimizer.

    Args:
        optimizer: an instance. Fields `steps` that are None (a schedule's budget) are filled in.
        steps: updates that the optimizer gets to bring a convex quadratic down to a tenth.

    Returns:
        One result per check, in a fixed order. An exception inside a check is a check that failed; its
        last line is the detail.
    """
    trial = Trial(with_budget(optimizer, steps), steps)
    return [_outcome(check, trial) for check in _CHECKS]


def _outcome(check: Callable[[Trial], str], trial: Trial) -> CheckResult:
    name = check.__name__.removeprefix("_check_")
    try:
        return CheckResult(name, True, check(trial))
    except Broken as broken:
        return CheckResult(name, False, str(broken))
    except Exception as error:
        return CheckResult(name, False, _sentence(error))


def _sentence(error: Exception) -> str:
    """The last line of an exception; for an op that tf.vectorized_map cannot lift, which one it is."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or ["no message"]
    unliftable = [line.rpartition(" ")[2] for line in lines if "No pfor vectorization defined" in line]
    if unliftable:
        return f"tf.vectorized_map cannot lift the op {unliftable[0]}: write the maths in ops that it can."
    return f"{type(error).__name__}: {lines[-1]}"


def _check_is_a_frozen_dataclass(trial: Trial) -> str:
    optimizer = trial.optimizer
    if not dataclasses.is_dataclass(optimizer) or isinstance(optimizer, type):
        raise Broken("Make it an instance of a class under @dataclass(frozen=True).")
    if not type(optimizer).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Broken("Freeze it: @dataclass(frozen=True). A run must not change its hyperparameters.")
    for method in ("init", "update", "eval_params"):
        if not callable(getattr(optimizer, method, None)):
            raise Broken(f"Add the method {method}: see the optimizer contract in optimizers/_types.py.")
    hash(optimizer)
    return "A frozen dataclass with init, update and eval_params."


def _check_keeps_structure_and_dtypes(trial: Trial) -> str:
    params, state = trial.params, trial.optimizer.init(trial.params)
    require_own_dtype(trial.optimizer)
    # The first update by itself: a wrong dtype there makes the next one raise something less clear.
    rate = tf.constant(RATE, tf.float64)
    for new_params, new_state in trial.run(trial.optimizer.update, rate, trial.gradients[:1]):
        require_same_form(params, new_params, "A parameter")
        require_same_form(state, new_state, "A tensor of the state")
    for new_params, new_state in trial.eager:
        require_same_form(params, new_params, "A parameter")
        require_same_form(state, new_state, "A tensor of the state")
    last_params, last_state = trial.eager[-1]
    require_same_form(params, trial.optimizer.eval_params(last_params, last_state), "A result of eval_params")
    return "Parameters and state keep structure, shapes and dtypes (float32, float64, bfloat16, nested)."


def _check_state_is_finite(trial: Trial) -> str:
    for i, (_, state) in enumerate(trial.eager):
        for leaf in tf.nest.flatten(state):
            if leaf.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(leaf))):
                raise Broken(f"The state holds NaN or infinity after {i} updates with finite gradients.")
    return "The state stays finite while the gradients do."


def _check_does_not_mutate_its_inputs(trial: Trial) -> str:
    params, state = trial.eager[1]
    inputs = tf.nest.map_structure(lambda leaf: leaf, (params, trial.gradients[0], state))
    kept = tf.nest.map_structure(lambda leaf: leaf, inputs)
    trial.optimizer.update(*inputs, RATE, tf.constant(1, tf.int32))
    before, after = tf.nest.flatten(kept), tf.nest.flatten(inputs)
    # Tensors cannot change; the containers that hold them can.
    if len(before) != len(after) or any(a is not b for a, b in zip(before, after, strict=True)):
        raise Broken("update changed its arguments: make new containers and return them.")
    return "Arguments of update are as they were."


def _check_is_deterministic(trial: Trial) -> str:
    if not identical(trial.eager, trial.run(trial.optimizer.update, tf.constant(RATE, tf.float64))):
        raise Broken("Two equal runs differ: draw no random numbers and keep nothing between calls.")
    return "Two equal runs agree to the bit."


def _check_takes_float_and_tensor_rates_alike(trial: Trial) -> str:
    require_close(
        trial.eager,
        trial.run(trial.optimizer.update, RATE),
        f"A learning rate as a Python float and as a float64 tensor give two results{_HINT}.",
    )
    return "A learning rate may be a Python float or a float64 tensor."


def _check_rests_at_learning_rate_zero(trial: Trial) -> str:
    if says(trial.optimizer, "ignores_learning_rate"):
        return "Says by its attribute ignores_learning_rate that it may move at lr = 0."
    for params, state in trial.run(trial.optimizer.update, 0.0):
        for what in (params, trial.optimizer.eval_params(params, state)):
            if not identical(trial.params, what):
                raise Broken(
                    "Parameters move at lr = 0: scale every change by lr, weight decay too (or say so by the "
                    "class attribute ignores_learning_rate = True)."
                )
    return "At lr = 0 nothing moves, by weight decay neither."


def _check_takes_nan_gradients(trial: Trial) -> str:
    bad = [tf.nest.map_structure(lambda g: g * float("nan"), gradient) for gradient in trial.gradients]
    params, state = trial.run(trial.optimizer.update, RATE, bad)[-1]
    require_same_form(trial.eager[0][0], params, "A parameter under NaN gradients")
    require_same_form(trial.eager[0][1], state, "A tensor of the state under NaN gradients")
    return "NaN gradients raise nothing: a diverged run stays a row of the results."


def _check_gives_compiled_what_it_gives_eagerly(trial: Trial) -> str:
    compiled = tf.function(trial.optimizer.update, autograph=False, jit_compile=True)
    by_xla = trial.run(compiled, tf.constant(RATE, tf.float64))
    require_close(trial.eager, by_xla, "Compiled by XLA and run eagerly, updates give two results.")
    return "Compiled by XLA it gives what it gives eagerly, within rounding."


def _check_traces_once_for_all_hyperparameters(trial: Trial) -> str:
    traces = 0

    @tf.function(autograph=False)
    def update(params, gradient, state, rate, step, floats):
        nonlocal traces
        traces += 1
        return with_floats(trial.optimizer, floats).update(params, gradient, state, rate, step)

    # The last update: at the first, slots of zeros hide what a hyperparameter does to them.
    params, state = trial.eager[-2]
    for i in range(3):
        rate, step = tf.constant(RATE * (i + 1), tf.float64), tf.constant(STEPS - 1, tf.int32)
        floats = {
            name: tf.constant(nearby(value, i), tf.float64)
            for name, value in floats_of(trial.optimizer).items()
        }
        result = update(params, trial.gradients[-1], state, rate, step, floats)
        if i == 0:
            sentence = f"Hyperparameters as numbers and as tensors differ{_HINT}."
            require_close(trial.eager[-1], result, sentence)
    if traces != 1:
        raise Broken(f"Three learning rates made {traces} traces: make no tf.Variable in update.")
    return "One trace serves all learning rates and float hyperparameters."


def _check_vectorizes(trial: Trial) -> str:
    stacked = trial.over_lanes(*trial.lanes)
    for i in range(LANES):
        params, gradient, state, rate, step, floats = tf.nest.map_structure(
            lambda leaf, lane=i: leaf[lane], trial.lanes
        )
        single = with_floats(trial.optimizer, floats).update(params, gradient, state, rate, step)
        lane = tf.nest.map_structure(lambda leaf, lane=i: leaf[lane], stacked)
        require_close(single, lane, "A lane under tf.vectorized_map and the same run alone differ.")
    return "Runs under tf.vectorized_map without a fallback, and gives each lane its own result."


def _check_keeps_lanes_apart(trial: Trial) -> str:
    straight = trial.over_lanes(*trial.lanes)
    order = tf.constant([(i + 2) % LANES for i in range(LANES)])
    permuted = trial.over_lanes(*tf.nest.map_structure(lambda leaf: tf.gather(leaf, order), trial.lanes))
    if not identical(tf.nest.map_structure(lambda leaf: tf.gather(leaf, order), straight), permuted):
        raise Broken("A lane's result depends on its place: compute nothing across lanes.")

    def spoil(leaf):
        first = tf.range(LANES) == 0
        shaped = tf.reshape(first, [LANES] + [1] * (leaf.shape.rank - 1))
        return tf.where(shaped, leaf * float("nan"), leaf)

    params, gradients, *rest = trial.lanes
    spoilt = trial.over_lanes(params, tf.nest.map_structure(spoil, gradients), *rest)
    others = tf.nest.map_structure(lambda leaf: leaf[1:], (straight, spoilt))
    if not identical(*others):
        raise Broken("A NaN in one lane reaches another: compute nothing across lanes.")
    return "Lanes agree to the bit in any order, and beside a lane of NaN."


def _check_minimizes_a_quadratic(trial: Trial) -> str:
    curvature = {"x": tf.constant([0.5, 1.0, 2.0]), "y": (tf.constant([1.5, 4.0]),)}
    start = {"x": tf.constant([1.0, -1.5, 0.5]), "y": (tf.constant([-1.0, 0.8]),)}

    def loss(params):
        terms = tf.nest.map_structure(lambda c, p: tf.reduce_sum(0.5 * c * p * p), curvature, params)
        return tf.add_n(tf.nest.flatten(terms))

    @tf.function(autograph=False, jit_compile=True)
    def final_loss(rate):
        def body(step, params, state):
            gradients = tf.nest.map_structure(tf.multiply, curvature, params)
            return step + 1, *trial.optimizer.update(params, gradients, state, rate, step)

        initial = (tf.constant(0), start, trial.optimizer.init(start))
        _, params, state = tf.while_loop(lambda step, *_: step < trial.steps, body, initial)
        return loss(trial.optimizer.eval_params(params, state))

    low, high = trial.optimizer.learning_rates
    if not 0 < low < high:
        raise Broken(f"learning_rates must be (low, high) with 0 < low < high, got ({low}, {high}).")
    goal = 0.1 * float(loss(start))
    rate = high
    best = float("inf")
    while rate >= low * 0.999:
        best = min(best, float(final_loss(tf.constant(rate, tf.float64))))
        if best <= goal:
            return f"Brings a convex quadratic to a tenth in {trial.steps} steps, at lr = {rate:.2g}."
        rate /= 10**0.5
    raise Broken(
        f"No learning rate from {low:g} to {high:g} brings a convex quadratic to a tenth in {trial.steps} "
        f"steps (the best reached {best / goal / 10:.2g} of the start): check the signs, or learning_rates."
    )


_CHECKS: tuple[Callable[[Trial], str], ...] = (
    _check_is_a_frozen_dataclass,
    _check_keeps_structure_and_dtypes,
    _check_state_is_finite,
    _check_does_not_mutate_its_inputs,
    _check_is_deterministic,
    _check_takes_float_and_tensor_rates_alike,
    _check_rests_at_learning_rate_zero,
    _check_takes_nan_gradients,
    _check_gives_compiled_what_it_gives_eagerly,
    _check_traces_once_for_all_hyperparameters,
    _check_vectorizes,
    _check_keeps_lanes_apart,
    _check_minimizes_a_quadratic,
)
