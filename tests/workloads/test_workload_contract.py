"""The contract suite: the catalogue passes it, and each broken workload fails the check meant for it."""

import dataclasses
import importlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import workloads
from harness.checks import _workload_measures as measures
from harness.checks.workload import CHECKS, check_workload, run_check
from harness.source import read_class
from workloads._functions import Function
from workloads.ackley import Ackley
from workloads.branin import Branin
from workloads.digits_logistic import DigitsLogistic
from workloads.quadratic import Quadratic
from workloads.rosenbrock import Rosenbrock

FOLDER = Path(workloads.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def class_of(name):
    camel = "".join(part.capitalize() for part in name.split("_"))
    return getattr(importlib.import_module(f"workloads.{name}"), camel)


def failures(workload):
    return {result.name: result.detail for result in check_workload(workload) if not result.passed}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_keeps_the_contract(name, dtype):
    assert failures(class_of(name)(dtype=dtype)) == {}


@pytest.mark.parametrize(
    "workload",
    [
        Rosenbrock(dimension=6, noise=0.3),
        Quadratic(dimension=5, rotated=True, noise=0.1),
        Branin(start=(0.0, 10.0)),
        Ackley(dtype="bfloat16"),
        DigitsLogistic(dtype="bfloat16", batch_size=5),
    ],
    ids=repr,
)
def test_other_fields_keep_the_contract(workload):
    assert failures(workload) == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_reads_every_field_and_default_without_importing(name):
    read = read_class(FOLDER / f"{name}.py", class_of(name).__name__)
    assert read is not None
    assert read.complete
    fields = {field.name: field.default for field in dataclasses.fields(class_of(name))}
    assert {field.name: field.default for field in read.fields.values()} == fields
    assert all(field.literal for field in read.fields.values())
    assert read.constants["target_metric"] == class_of(name).target_metric
    assert 20 < len(read.doc.splitlines()[0]) < 110


# --- workloads that break one clause each ---------------------------------------------------------------


@dataclass(frozen=True)
class Bowl(Function):
    """A sound workload: |x|^2 / 2 in two dimensions."""

    domain = ((-1.0, 1.0), (-1.0, 1.0))
    minimizers = ((0.0, 0.0),)
    optimum = 0.0

    def value(self, x):
        return 0.5 * tf.reduce_sum(tf.square(x), axis=-1)


@dataclass(frozen=True)
class Noisy(Bowl):
    noise: float = 0.5


@dataclass
class Thawed:
    """Has everything but is not frozen."""

    target: float = 1e-3


@dataclass(frozen=True)
class NoDefault:
    size: int


counter = itertools.count()


class RemembersInits(Bowl):
    def init(self, seed):
        return tf.constant([0.5, 0.001 * next(counter)], self.dtype)


class WrongDtype(Bowl):
    def init(self, seed):
        return tf.cast(super().init(seed), tf.float64)


class SeedlessInit(Bowl):
    def init(self, seed):
        return super().init(0)


class InfiniteInit(Bowl):
    def init(self, seed):
        return super().init(seed) / 0.0


class StatefulBatch(Noisy):
    def batch(self, seed, step):
        return tf.random.normal([2])


class CollidingBatch(Noisy):
    def batch(self, seed, step):
        return super().batch(seed + step, 0)


class StuckBatch(Noisy):
    def batch(self, seed, step):
        return super().batch(seed, 0)


class SharedStream(Noisy):
    def batch(self, seed, step):
        return 0.3 * self.init(seed) + 0.001 * super().batch(seed, step)


class VectorLoss(Bowl):
    def loss(self, params, batch):
        return tf.square(params)


class CoarseLoss(Bowl):
    def loss(self, params, batch):
        return tf.cast(super().loss(params, batch), tf.bfloat16)


class UndefinedLoss(Bowl):
    def loss(self, params, batch):
        return tf.math.log(-super().loss(params, batch))


@tf.custom_gradient
def doubled_gradient(x):
    return x, lambda upstream: 2.0 * upstream


class WrongGradient(Bowl):
    def loss(self, params, batch):
        return super().loss(doubled_gradient(params), batch)


class UndefinedBesideTheStart(Bowl):
    def init(self, seed):
        return tf.cast([0.25, 0.125 * tf.cast(seed, tf.float64)], self.dtype)

    def loss(self, params, batch):
        on_the_grid = tf.reduce_all(tf.equal(params * 8.0, tf.round(params * 8.0)))
        return tf.where(on_the_grid, super().loss(params, batch), np.nan)


class IdleParameter(Bowl):
    def init(self, seed):
        return {"used": super().init(seed), "idle": tf.zeros([1], self.dtype)}

    def loss(self, params, batch):
        return super().loss(params["used"], batch)


class MisplacedMinimizer(Bowl):
    minimizers = ((0.1, 0.0),)


class BetterElsewhere(Bowl):
    def value(self, x):
        return super().value(x) - 3.0 * tf.square(x[..., 0]) * tf.square(x[..., 1])


class SaddleCalledMinimizer(Bowl):
    def value(self, x):
        return super().value(x) * (1.0 + x[..., 0]) + 0.01 * x[..., 0]


class UndefinedAtMinimizer(Bowl):
    def value(self, x):
        return tf.sqrt(super().value(x))


class OtherObjective(Bowl):
    def objective(self, params):
        return super().objective(params) * 1.01


class BiasedNoise(Noisy):
    def batch(self, seed, step):
        return None if self.noise == 0 else super().batch(seed, step) + 0.4


class OtherDraws(Noisy):
    def draws(self, seed, steps):
        return super().draws(seed, steps + 1)


class FewerDraws(Noisy):
    def draws(self, seed, steps):
        return super().draws(seed, steps)[:1]


class UndefinedMetric(Bowl):
    def monitor(self, params):
        return {"ratio": tf.constant(np.nan)}


class VectorMetric(Bowl):
    def evaluate(self, params):
        return {"coordinates": params}


class UnknownTargetMetric(Bowl):
    target_metric = "validation_loss"


@dataclass(frozen=True)
class TargetBelowOptimum(Bowl):
    target: float = -1.0

    def __post_init__(self):
        pass


class NumpySeed(Bowl):
    def init(self, seed):
        return tf.constant(np.random.default_rng(int(seed)).uniform(-1.0, 1.0, 2), self.dtype)


class OtherWhenTraced(Bowl):
    def value(self, x):
        return super().value(x) if tf.executing_eagerly() else super().value(x) * 1.5


class ConvolutionPerLane(DigitsLogistic):
    def logits(self, params, images):
        filters = tf.reshape(params[0]["weight"], [1, 1, 64, 1, 10])
        maps = tf.reshape(images, [-1, 1, 1, 64, 1])
        return tf.nn.conv3d(maps, filters, [1] * 5, "VALID")[:, 0, 0, 0] + params[0]["bias"]


class OtherExamples(DigitsLogistic):
    def monitor(self, params):
        return {name: value * 1.01 for name, value in super().monitor(params).items()}


class MoreExamples(DigitsLogistic):
    def evaluate(self, params):
        return {name: v for name, v in super().evaluate(params).items() if not name.startswith("test")}


class Raises(Bowl):
    def value(self, x):
        raise RuntimeError("a first line\nthe data are not there")


BROKEN = [
    (Thawed(), "fields_and_methods", "not a frozen dataclass"),
    (NoDefault(3), "fields_and_methods", "size has no default"),
    (Bowl(target=float("inf")), "fields_and_methods", "not a finite number"),
    (RemembersInits(), "init_pure", "keeps a state"),
    (WrongDtype(), "init_pure", "float64, the workload's dtype is float32"),
    (InfiniteInit(), "init_pure", "not finite"),
    (SeedlessInit(), "init_differs_between_seeds", "are the same"),
    (StatefulBatch(), "batch_pure", "differs from call to call"),
    (CollidingBatch(), "batch_pure", "batch(0, 1) and batch(1, 0) are the same"),
    (StuckBatch(), "batch_pure", "are the same"),
    (SharedStream(), "init_and_batch_independent", "move together"),
    (VectorLoss(), "loss_is_a_finite_scalar", "a scalar is expected"),
    (CoarseLoss(), "loss_is_a_finite_scalar", "bfloat16"),
    (UndefinedLoss(), "loss_is_a_finite_scalar", "nan"),
    (WrongGradient(), "gradient_agrees_with_differences", "central differences"),
    (UndefinedBesideTheStart(), "gradient_agrees_with_differences", "by nan"),
    (IdleParameter(), "gradient_agrees_with_differences", "does not depend"),
    (MisplacedMinimizer(), "minimizers_are_minima", "f is 0.005"),
    (BetterElsewhere(), "minimizers_are_minima", "below the optimum"),
    (SaddleCalledMinimizer(), "minimizers_are_minima", "below the optimum"),
    (UndefinedAtMinimizer(), "minimizers_are_minima", "not finite"),
    (OtherObjective(), "objective_is_the_loss_without_noise", "differ by"),
    (BiasedNoise(), "objective_is_the_loss_without_noise", "standard errors"),
    (OtherDraws(), "draws_agree_with_batches", "the batch of seed 0, step 0 is not"),
    (FewerDraws(), "draws_agree_with_batches", "[1] rows for 4 steps"),
    (UndefinedMetric(), "metrics_are_finite_scalars", "ratio is nan"),
    (VectorMetric(), "metrics_are_finite_scalars", "a scalar is expected"),
    (UnknownTargetMetric(), "metrics_are_finite_scalars", "'validation_loss'"),
    (OtherExamples(), "examples_agree_with_metrics", "monitor: validation_loss is"),
    (MoreExamples(), "examples_agree_with_metrics", "measure train_loss"),
    (TargetBelowOptimum(), "target_is_within_reach", "not above the optimum"),
    (Bowl(target=5.0), "target_is_within_reach", "met at the start"),
    (NumpySeed(), "compiles_by_xla", "TypeError"),
    (OtherWhenTraced(), "compiles_by_xla", "differs by"),
    (ConvolutionPerLane(), "lifts_to_lanes", "Error"),
    (Raises(), "loss_is_a_finite_scalar", "RuntimeError: the data are not there"),
]


def test_the_sound_workload_under_the_broken_ones_passes():
    assert failures(Bowl()) == {}
    assert failures(Noisy()) == {}


@pytest.mark.parametrize(
    ("workload", "check", "detail"),
    [pytest.param(*case, id=f"{case[1]}-{type(case[0]).__name__}") for case in BROKEN],
)
def test_a_broken_workload_fails_the_check_meant_for_it(workload, check, detail):
    found = run_check({one.__name__: one for one in CHECKS}[check], workload)
    assert (found.name, found.passed) == (check, False)
    assert detail in found.detail
    assert "\n" not in found.detail


def test_every_check_has_a_workload_that_breaks_it():
    assert {check for _, check, _ in BROKEN} == {check.__name__ for check in CHECKS}


def test_results_come_in_order_with_a_sentence_each():
    results = check_workload(Bowl())
    assert [result.name for result in results] == [check.__name__ for check in CHECKS]
    assert all(result.passed and result.detail for result in results)


def test_a_number_that_is_not_finite_on_one_side_only_is_an_infinite_difference():
    assert measures.difference(tf.constant([1.0, np.nan]), tf.constant([1.0, 2.0])) == np.inf
    assert measures.difference(tf.constant([1.0, np.nan]), tf.constant([1.0, np.nan])) == 0.0
    assert measures.difference({"a": None, "b": tf.constant(3.0)}, {"a": None, "b": tf.constant(1.0)}) == 1.0
