"""The contract suite for workloads: what the engine relies on, checked on anybody's workload.

Each check is a function of the workload that returns a sentence of what it saw, or raises `Broken` with a
sentence of what is wrong. Whatever else is raised is the workload's own error, and counts as not passed.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from harness import draws, lift, means
from harness.checks import _workload_measures as measures
from harness.checks.optimizer import CheckResult

METHODS = ("init", "batch", "loss", "objective", "monitor", "evaluate")
FIELDS = ("target", "target_metric", "steps", "dtype", "optimum", "minimizers", "domain")

# Largest difference allowed between two ways to compute the same thing, relative to 1 + the largest
# number compared: some hundred roundings, and for bfloat16, of which XLA skips some, some ten.
TOLERANCE = {"float64": 1e-12, "float32": 3e-5, "bfloat16": 6e-2}

SEEDS = (0, 1, 2)
DOMAIN_POINTS = 2048
START_SEEDS = 32
PAIRED_SEEDS = 64
NOISE_DRAWS = 128
MINIMIZER_OFFSETS = (1e-2, 1e-6, 1e-12, 1e-25)


class Broken(AssertionError):
    """A clause of the contract does not hold; the message says which and how."""


def check_workload(workload: Any) -> list[CheckResult]:
    """Run the whole suite on one workload.

    Args:
        workload: an instance, in whatever dtype it is to be checked in.

    Returns:
        A result per check, in the order of `CHECKS`.
    """
    return [run_check(check, workload) for check in CHECKS]


def run_check(check: Callable[[Any], str], workload: Any) -> CheckResult:
    """Run one of `CHECKS`: whatever it raises is a result that did not pass, with one line to act on."""
    try:
        detail = check(workload)
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        sentence = lines[-1] if isinstance(error, Broken) else f"{type(error).__name__}: {lines[-1]}"
        return CheckResult(check.__name__, False, sentence)
    return CheckResult(check.__name__, True, detail)


def fields_and_methods(workload) -> str:
    """It is a frozen dataclass with every name of the contract, a finite target and a positive budget."""
    parameters = getattr(workload, "__dataclass_params__", None)
    _require(parameters is not None and parameters.frozen, "the class is not a frozen dataclass")
    for field in dataclasses.fields(workload):
        default = field.default, field.default_factory
        _require(default != (dataclasses.MISSING,) * 2, f"the field {field.name} has no default")
    missing = [name for name in (*METHODS, *FIELDS) if not hasattr(workload, name)]
    _require(not missing, f"the workload has no {', '.join(missing)}")
    _require(math.isfinite(workload.target), f"the target is {workload.target}, not a finite number")
    whole = isinstance(workload.steps, int) and workload.steps > 0
    _require(whole, f"the budget, steps = {workload.steps!r}, is not a positive whole number")
    hash(workload)
    return f"target {workload.target:g} on {workload.target_metric}, {workload.steps} steps"


def init_pure(workload) -> str:
    """The same seed gives the same parameters, finite and in the workload's dtype."""
    first = workload.init(0)
    for leaf in measures.leaves(first):
        name = leaf.dtype.name
        _require(name == workload.dtype, f"init gives {name}, the workload's dtype is {workload.dtype}")
    _require(measures.finite(first), "init(0) has a number that is not finite")
    workload.batch(0, 0)
    workload.init(1)
    _require(
        measures.equal(first, workload.init(0)), "init(0) differs from call to call: something keeps a state"
    )
    size = sum(leaf.numpy().size for leaf in measures.leaves(first))
    return f"{size} parameters in {len(measures.leaves(first))} tensors, {workload.dtype}"


def init_differs_between_seeds(workload) -> str:
    """Two seeds start from different points, unless a field `start` says otherwise."""
    if getattr(workload, "start", None) is not None:
        return "a fixed start is given"
    same = measures.equal(workload.init(0), workload.init(1))
    _require(not same, "init(0) and init(1) are the same: draw from the seed, or have a field `start`")
    return "init(0) and init(1) differ"


def batch_pure(workload) -> str:
    """A batch depends on its seed and step, on both, and on nothing else."""
    places = list(itertools.product(SEEDS, SEEDS))
    batches = {place: workload.batch(*place) for place in places}
    if all(batch is None for batch in batches.values()):
        return "no batches: the loss is the same in every step"
    _require(all(batch is not None for batch in batches.values()), "batch() is None at some steps only")
    for place in reversed(places):
        _require(
            measures.equal(batches[place], workload.batch(*place)), f"batch{place} differs from call to call"
        )
    for one, other in itertools.combinations(places, 2):
        _require(
            not measures.equal(batches[one], batches[other]), f"batch{one} and batch{other} are the same"
        )
    shapes = {tuple(tuple(leaf.shape) for leaf in measures.leaves(batch)) for batch in batches.values()}
    _require(len(shapes) == 1, "batches have different shapes at different steps")
    return f"batch(seed, step) is pure and differs over {len(places)} places"


def init_and_batch_independent(workload) -> str:
    """What a seed starts from tells nothing about its batches: they come from separate streams."""
    if workload.batch(0, 0) is None or getattr(workload, "start", None) is not None:
        return "nothing is drawn twice"
    starts = measures.lively([workload.init(seed) for seed in range(PAIRED_SEEDS)], 4)
    batches = measures.lively([workload.batch(seed, 0) for seed in range(PAIRED_SEEDS)], 4)
    highest = max(abs(measures.rank_correlation(a, b)) for a, b in itertools.product(starts, batches))
    # 16 rank correlations of 64 independent pairs exceed 0.6 with a chance below 1e-5.
    _require(highest < 0.6, f"init and batch move together over seeds (rank correlation {highest:.2f})")
    return f"highest rank correlation over {PAIRED_SEEDS} seeds: {highest:.2f}"


def loss_is_a_finite_scalar(workload) -> str:
    """At the start of some seeds the loss is one finite number of at least float32."""
    losses = [workload.loss(workload.init(seed), workload.batch(seed, 0)) for seed in SEEDS]
    for loss in losses:
        _require(loss.shape.rank == 0, f"the loss has shape {loss.shape}, a scalar is expected")
        _require(loss.dtype in (tf.float32, tf.float64), f"the loss is {loss.dtype.name}: too coarse")
    values = [float(loss) for loss in losses]
    _require(bool(np.isfinite(values).all()), f"the loss at the start is {values}")
    return "at the start: " + ", ".join(f"{value:.4g}" for value in values)


def gradient_agrees_with_differences(workload) -> str:
    """The gradient is finite, has the parameters' structure, and in float64 is the loss's slope."""
    params, batch = workload.init(0), workload.batch(0, 0)
    _, gradients = measures.value_and_gradients(workload.loss, params, batch)
    idle = [place for place, leaf in enumerate(tf.nest.flatten(gradients)) if leaf is None]
    _require(not idle, f"the loss does not depend on the parameter tensors {idle}: they have no gradient")
    _require(measures.finite(gradients), f"the gradient at the start is not finite in {workload.dtype}")
    wide = dataclasses.replace(workload, dtype="float64")
    errors = []
    for seed in SEEDS:
        params, batch = wide.init(seed), wide.batch(seed, 0)
        names = {leaf.dtype.name for leaf in measures.leaves(params)}
        _require(names == {"float64"}, f"with dtype float64, init gives {', '.join(sorted(names))}")
        errors.append(measures.slope_error(wide, params, batch, seed))
    worst = float(np.max(errors))  # NaN where one is, unlike max()
    _require(worst < 1e-5, f"the gradient differs from central differences by {worst:.1e} of its norm")
    return f"largest difference from central differences: {worst:.1e} of the gradient's norm"


def minimizers_are_minima(workload) -> str:
    """At each minimizer f is the optimum and its gradient zero, and nowhere in the domain is f lower."""
    if workload.optimum is None:
        return "no optimum is known"
    wide = dataclasses.replace(workload, dtype="float64")
    if wide.domain is None:  # nowhere to look but where runs start
        values = np.array([float(wide.objective(wide.init(seed))) for seed in range(START_SEEDS)])
    else:
        values = measures.values_over_domain(wide, DOMAIN_POINTS)
    scale = 1.0 + abs(wide.optimum)
    lowest = float(values.min())
    below = f"f falls to {lowest:.6g}, below the optimum {wide.optimum:.6g}"
    _require(lowest >= wide.optimum - 1e-9 * scale, below)
    for version in (wide, workload):
        for point in version.minimizers:
            _check_minimizer(version, np.asarray(point, np.float64))
    return f"{len(wide.minimizers)} minimizers; lowest of {values.size} points: {lowest:.4g}"


def _check_minimizer(workload, point: np.ndarray) -> None:
    """f and its gradient at one minimizer, and beside it, in the workload's dtype."""
    exact = workload.dtype == "float64"
    scale = 1.0 + abs(workload.optimum)
    for offset in (0.0, *MINIMIZER_OFFSETS):
        params = measures.unflatten(point + offset, workload.init(0))
        value, gradients = measures.value_and_gradients(workload.objective, params)
        near = f"at {tuple(point.tolist())} + {offset:g}, in {workload.dtype},"
        _require(measures.finite(gradients), f"{near} the gradient is not finite")
        if offset == 0.0:
            away = abs(float(value) - workload.optimum) / scale
            _require(
                away <= (1e-9 if exact else TOLERANCE[workload.dtype]), f"{near} f is {float(value):.9g}"
            )
        if offset == 0.0 and exact:
            norm = float(np.linalg.norm(measures.numbers(gradients)))
            _require(norm <= 1e-6 * scale, f"{near} the gradient's norm is {norm:.1e}, not 0")


def objective_is_the_loss_without_noise(workload) -> str:
    """Where there is an objective it is the loss itself, or the loss's mean over batches."""
    params = workload.init(0)
    if workload.objective(params) is None:
        return "no objective"
    if workload.batch(0, 0) is None:
        gap = measures.difference(workload.loss(params, None), workload.objective(params))
        _require(gap <= TOLERANCE[workload.dtype], f"objective and loss differ by {gap:.1e} with no batch")
        return "objective and loss agree"
    if "noise" in {field.name for field in dataclasses.fields(workload)}:
        objective_is_the_loss_without_noise(dataclasses.replace(workload, noise=0.0))
    away = measures.bias(workload, params, NOISE_DRAWS)
    _require(
        away < 5.0,
        f"over {NOISE_DRAWS} batches the loss or its gradient is off by {away:.1f} standard errors",
    )
    return f"largest bias of loss and gradient over {NOISE_DRAWS} batches: {away:.1f} standard errors"


def compiles_by_xla(workload) -> str:
    """Compiled by XLA, with seed and step as tensors in a loop, everything is as it is uncompiled."""
    shapes = functools.partial(tf.nest.map_structure, tf.TensorSpec.from_tensor)
    start, batch = workload.init(1), workload.batch(1, 2)

    @tf.function(jit_compile=True)
    def drawn(seeds, steps):
        starts = lift.map_in_turn(workload.init, seeds, shapes(start))
        if batch is None:
            return starts, None
        draw = lift.map_in_turn(lambda place: workload.batch(*place), (seeds, steps), shapes(batch))
        return starts, draw

    compiled = measures.lane(drawn(tf.constant([0, 1]), tf.constant([0, 2])), 1)
    gap = measures.difference(compiled, (start, batch))
    _require(gap <= TOLERANCE[workload.dtype], f"compiled, init or batch differs by {gap:.1e}")
    single = tf.function(functools.partial(measures.everything, workload), jit_compile=True)
    gap = max(gap, measures.difference(single(start, batch), measures.everything(workload, start, batch)))
    _require(gap <= TOLERANCE[workload.dtype], f"compiled, the loss or a metric differs by {gap:.1e}")
    return f"largest difference between compiled and not: {gap:.1e}"


def lifts_to_lanes(workload) -> str:
    """Many runs at once, in groups that share a batch, give what each run gives alone."""
    seeds, scales = SEEDS[:2], (1.0, 0.9, 1.1)
    batches = [workload.batch(seed, 0) for seed in seeds]
    runs = [[measures.scaled(workload.init(seed), scale) for scale in scales] for seed in seeds]
    stacked = measures.stack([measures.stack(group) for group in runs])
    shared = () if batches[0] is None else (measures.stack(batches),)

    def group(packed):
        starts, *batch = packed
        run = functools.partial(measures.everything, workload, batch=batch[0] if batch else None)
        return measures.vectorized(run, starts)

    lifted = tf.function(functools.partial(measures.vectorized, group), jit_compile=True)
    together = lifted((stacked, *shared))
    gap = 0.0
    for row, column in itertools.product(range(len(seeds)), range(len(scales))):
        alone = measures.everything(workload, runs[row][column], batches[row])
        gap = max(gap, measures.difference(measures.lane(measures.lane(together, row), column), alone))
    _require(gap <= TOLERANCE[workload.dtype], f"lifted to lanes, the loss or a metric differs by {gap:.1e}")
    return f"largest difference between {len(seeds) * len(scales)} lanes and single runs: {gap:.1e}"


def metrics_are_finite_scalars(workload) -> str:
    """`monitor` and `evaluate` give names with one finite number each; the target's metric is there."""
    params = workload.init(0)
    monitored, evaluated = workload.monitor(params), workload.evaluate(params)
    for method, metrics in (("monitor", monitored), ("evaluate", evaluated)):
        _require(isinstance(metrics, dict), f"{method} gives {type(metrics).__name__}, not a dictionary")
        for name, value in metrics.items():
            _require(isinstance(name, str), f"{method} has the name {name!r}, not a string")
            number = np.asarray(value)
            _require(number.shape == (), f"{method}: {name} has shape {number.shape}, a scalar is expected")
            _require(bool(np.isfinite(number)), f"{method}: {name} is {number} at the start")
    metric = workload.target_metric
    known = workload.objective(params) is not None if metric == "loss" else metric in monitored
    place = "an objective" if metric == "loss" else f"one of monitor's ({', '.join(monitored) or 'none'})"
    _require(known, f"the target's metric is {metric!r}, for which there must be {place}")
    return f"{len(monitored)} monitored, {len(evaluated)} evaluated"


def draws_agree_with_batches(workload) -> str:
    """Where `draws` says what several steps draw, `batch_of` makes of each what `batch` gives for it."""
    if not (hasattr(workload, "draws") and hasattr(workload, "batch_of")):
        return "nothing is drawn ahead"
    if workload.batch(0, 0) is None:
        return "nothing is random"
    steps = (0, 7, 3, int(workload.steps))
    for seed in SEEDS:
        drawn = tf.nest.map_structure(tf.convert_to_tensor, workload.draws(seed, tf.constant(steps)))
        sizes = {len(leaf) for leaf in tf.nest.flatten(drawn)}
        _require(sizes == {len(steps)}, f"draws gives {sorted(sizes)} rows for {len(steps)} steps")
        for i, step in enumerate(steps):
            made = workload.batch_of(tf.nest.map_structure(lambda leaf, i=i: leaf[i], drawn))
            own = workload.batch(seed, step)
            tf.nest.assert_same_structure(own, made)
            where = f"the batch of seed {seed}, step {step}"
            _require(measures.equal(own, made), f"{where} is not what batch_of makes of its draw")
    _require(draws.agrees(workload), "batch was written anew, and what it is made of was not")
    return "batches are what is made of their draws"


def examples_agree_with_metrics(workload) -> str:
    """Where `measure` says what each example gives, the means of that are `monitor`'s and `evaluate`'s."""
    if not (hasattr(workload, "measure") and hasattr(workload, "measured")):
        return "nothing is said of single examples"
    params, count = workload.init(0), 0
    within = max(means.CLOSE, TOLERANCE[workload.dtype])
    for method in ("monitor", "evaluate"):
        metrics = getattr(workload, method)(params)
        told = means.Means(workload.measure, workload.measured(method)).alone(params)
        _require(
            told.keys() == metrics.keys(),
            f"{method} gives {', '.join(metrics) or 'nothing'}, and measure {', '.join(told) or 'nothing'}",
        )
        for name, value in told.items():
            _require(
                means.close(value, metrics[name], within),
                f"{method}: {name} is {float(metrics[name]):.6g}, and the mean of measure {value:.6g}",
            )
        count += len(told)
    return f"{count} metrics agree with their means over examples"


def target_is_within_reach(workload) -> str:
    """The target lies above the optimum and below where runs start."""
    below = f"the target {workload.target:g} is not above the optimum {workload.optimum}"
    _require(workload.optimum is None or workload.target > workload.optimum, below)
    initial = float(np.median([_target_value(workload, workload.init(seed)) for seed in range(9)]))
    _require(workload.target < initial, f"the target {workload.target:g} is met at the start ({initial:.4g})")
    return f"target {workload.target:g}, median at the start {initial:.4g}"


CHECKS: tuple[Callable[[Any], str], ...] = (
    fields_and_methods,
    init_pure,
    init_differs_between_seeds,
    batch_pure,
    init_and_batch_independent,
    loss_is_a_finite_scalar,
    gradient_agrees_with_differences,
    minimizers_are_minima,
    objective_is_the_loss_without_noise,
    metrics_are_finite_scalars,
    draws_agree_with_batches,
    examples_agree_with_metrics,
    target_is_within_reach,
    compiles_by_xla,
    lifts_to_lanes,
)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise Broken(sentence)


def _target_value(workload, params) -> float:
    if workload.target_metric == "loss":
        return float(workload.objective(params))
    return float(workload.monitor(params)[workload.target_metric])
