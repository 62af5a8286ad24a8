"""The contract suite over the whole catalogue, and on optimizers that break it."""

import ast
import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import tensorflow as tf

from harness.checks import optimizer as suite
from harness.checks._optimizer_trial import Trial
from harness.checks.optimizer import CheckResult, check_optimizer
from optimizers._scalars import cast
from optimizers._types import Optimizer
from optimizers.adagrad import Adagrad
from optimizers.adam import Adam
from optimizers.adamw import Adamw
from optimizers.gradient_descent import GradientDescent
from optimizers.lion import Lion
from optimizers.momentum import Momentum
from optimizers.nadam import Nadam
from optimizers.rmsprop import Rmsprop
from optimizers.transforms.accumulate import Accumulate
from optimizers.transforms.clip_by_global_norm import ClipByGlobalNorm
from optimizers.transforms.clip_by_norm import ClipByNorm
from optimizers.transforms.clip_by_value import ClipByValue
from optimizers.transforms.constant import Constant
from optimizers.transforms.cosine import Cosine
from optimizers.transforms.exponential import Exponential
from optimizers.transforms.linear_warmup import LinearWarmup
from optimizers.transforms.lookahead import Lookahead
from optimizers.transforms.one_cycle import OneCycle
from optimizers.transforms.step import Step
from optimizers.transforms.switch import Switch
from optimizers.transforms.warmup_stable_decay import WarmupStableDecay
from optimizers.transforms.weight_decay import WeightDecay

# No paper stands behind these.
PLAIN = ("accumulate", "constant", "exponential")

# The suite takes four updates eagerly and lanes at steps 0 to 4: periods are short enough to be met.
CATALOGUE: list[Any] = [
    GradientDescent(),
    Momentum(),
    Momentum(nesterov=True),
    Rmsprop(momentum=0.5),
    Rmsprop(centered=True),
    Adagrad(),
    Adam(),
    Adam(amsgrad=True),
    Adamw(),
    Nadam(),
    Lion(weight_decay=0.01),
    ClipByValue(Momentum(), max_value=0.5),
    ClipByNorm(Adagrad()),
    ClipByGlobalNorm(Adam()),
    WeightDecay(Momentum()),
    Constant(Adam(), scale=0.5),
    Step(Momentum()),
    Exponential(Adam()),
    Cosine(Adam()),
    LinearWarmup(Momentum(), initial=0.1),
    OneCycle(Adam()),
    WarmupStableDecay(Momentum()),
    Lookahead(Adam(), sync_period=3),
    Accumulate(Momentum(), every=2),
    Switch(Momentum(), Adam(), at=2),
]
COMPOSITIONS: list[Any] = [
    Cosine(WeightDecay(ClipByGlobalNorm(Adam(amsgrad=True), max_norm=0.5))),
    LinearWarmup(Accumulate(Lookahead(Nadam(), sync_period=2), every=2)),
    Switch(Lookahead(Adam(), sync_period=2), Constant(Cosine(Momentum()), scale=0.3), at=2),
    Lookahead(Switch(Adam(), Accumulate(Lion(), every=2), at=1), sync_period=3),
]


@pytest.mark.parametrize("optimizer", [*CATALOGUE, *COMPOSITIONS], ids=lambda o: type(o).__name__)
def test_keeps_the_contract(optimizer):
    results = check_optimizer(optimizer)
    assert len({result.name for result in results}) == len(results) == 13
    assert [result for result in results if not result.passed] == []


def test_the_suite_runs_over_every_file(catalogue_files):
    classes = {definition.name for _, definition in catalogue_files.values()}
    assert {type(optimizer).__name__ for optimizer in CATALOGUE} == classes


def test_the_catalogue_is_readable_without_importing(catalogue_files):
    """File name = name; one class in camel case; a docstring; literal defaults; wrapped optimizers first."""
    for name, (path, definition) in catalogue_files.items():
        assert definition.name == "".join(part.capitalize() for part in name.split("_"))
        assert "Source: " in (ast.get_docstring(definition) or "") or name in (
            "accumulate",
            "constant",
            "exponential",
        )
        fields = [node for node in definition.body if isinstance(node, ast.AnnAssign)]
        wrapped = [ast.unparse(field.annotation) == "Optimizer" for field in fields]
        assert wrapped == sorted(wrapped, reverse=True)
        assert any(wrapped) == (path.parent.name == "transforms")
        for field, is_wrapped in zip(fields, wrapped, strict=True):
            assert (field.value is None) == is_wrapped
            if field.value is not None:
                ast.literal_eval(field.value)


def test_what_is_read_is_what_is_imported(catalogue_files):
    for name, (path, definition) in catalogue_files.items():
        package = "optimizers.transforms" if path.parent.name == "transforms" else "optimizers"
        imported = getattr(importlib.import_module(f"{package}.{name}"), definition.name)
        read = [
            node.target.id
            for node in definition.body
            if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)
        ]
        assert [field.name for field in dataclasses.fields(imported)] == read


@dataclass(frozen=True)
class Descent:
    """A right optimizer with a slot, which each planted one breaks in one place."""

    decay: float = 0.5
    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1.0)

    def init(self, params):
        return {"v": tf.nest.map_structure(tf.zeros_like, params)}

    def update(self, params, grads, state, lr, step):
        v = tf.nest.map_structure(lambda v, g: cast(self.decay, v.dtype) * v + g, state["v"], grads)
        return tf.nest.map_structure(lambda p, v: p - cast(lr, p.dtype) * v, params, v), {"v": v}

    def eval_params(self, params, state):
        return params


class NotADataclass:
    learning_rates = (1e-3, 1.0)

    def init(self, params):
        return Descent().init(params)

    def update(self, params, grads, state, lr, step):
        return Descent().update(params, grads, state, lr, step)

    def eval_params(self, params, state):
        return params


@dataclass
class NotFrozen(NotADataclass):
    decay: float = 0.5


@dataclass(frozen=True)
class WithoutEvaluation:
    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1.0)
    init = Descent.init
    update = Descent.update
    decay: float = 0.5


@dataclass(frozen=True)
class WithAList(Descent):
    names: Any = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class StateInFloat64(Descent):
    def update(self, params, grads, state, lr, step):
        params, state = super().update(params, grads, state, lr, step)
        return params, tf.nest.map_structure(lambda v: tf.cast(v, tf.float64), state)


@dataclass(frozen=True)
class StateInFloat32(Descent):
    def init(self, params):
        return {"v": tf.nest.map_structure(lambda p: tf.zeros(p.shape, tf.float32), params)}


@dataclass(frozen=True)
class ParametersInFloat32(Descent):
    def update(self, params, grads, state, lr, step):
        params, state = super().update(params, grads, state, lr, step)
        return tf.nest.map_structure(lambda p: tf.cast(p, tf.float32), params), state


@dataclass(frozen=True)
class OtherStructure(Descent):
    def update(self, params, grads, state, lr, step):
        params, state = super().update(params, grads, state, lr, step)
        return params, {**state, "step": tf.cast(step, tf.float32)}


@dataclass(frozen=True)
class OtherShape(Descent):
    def update(self, params, grads, state, lr, step):
        params, state = super().update(params, grads, state, lr, step)
        return params, tf.nest.map_structure(lambda v: v[None], state)


@dataclass(frozen=True)
class EvaluatesByList(Descent):
    def eval_params(self, params, state):
        return tf.nest.flatten(params)


@dataclass(frozen=True)
class InfiniteState(Descent):
    def init(self, params):
        return {**super().init(params), "best": tf.constant(float("inf"))}

    def update(self, params, grads, state, lr, step):
        params, new = super().update(params, grads, state, lr, step)
        return params, {**new, "best": state["best"]}


@dataclass(frozen=True)
class Mutates(Descent):
    def update(self, params, grads, state, lr, step):
        params, new = super().update(params, grads, state, lr, step)
        state.update(new)
        return params, state


@dataclass(frozen=True)
class Random(Descent):
    def update(self, params, grads, state, lr, step):
        noisy = tf.nest.map_structure(lambda g: g + tf.cast(tf.random.normal(g.shape), g.dtype), grads)
        return super().update(params, noisy, state, lr, step)


@dataclass(frozen=True)
class Remembers(Descent):
    calls: ClassVar[list[int]] = []

    def update(self, params, grads, state, lr, step):
        self.calls.append(1)
        return super().update(params, grads, state, lr * len(self.calls), step)


@dataclass(frozen=True)
class LikesNumbers(Descent):
    def update(self, params, grads, state, lr, step):
        return super().update(params, grads, state, lr if isinstance(lr, float) else 1.1 * lr, step)


@dataclass(frozen=True)
class CastsNumbers(Descent):
    def update(self, params, grads, state, lr, step):
        v = tf.nest.map_structure(lambda v, g: 0.5 * v + g, state["v"], grads)
        return tf.nest.map_structure(lambda p, v: p - tf.cast(lr, p.dtype) * v, params, v), {"v": v}


@dataclass(frozen=True)
class DecaysAlways(Descent):
    def update(self, params, grads, state, lr, step):
        shrunk = tf.nest.map_structure(lambda p: p * tf.cast(0.99, p.dtype), params)
        return super().update(shrunk, grads, state, lr, step)


@dataclass(frozen=True)
class EvaluatesByHalf(Descent):
    def eval_params(self, params, state):
        return tf.nest.map_structure(lambda p: p / 2, params)


@dataclass(frozen=True)
class RefusesNan(Descent):
    def update(self, params, grads, state, lr, step):
        for g in tf.nest.flatten(grads):
            tf.debugging.assert_all_finite(g, "gradient")
        return super().update(params, grads, state, lr, step)


@dataclass(frozen=True)
class OtherwiseInGraphs(Descent):
    def update(self, params, grads, state, lr, step):
        return super().update(params, grads, state, lr if tf.executing_eagerly() else lr * 1.01, step)


@dataclass(frozen=True)
class BranchesOnTensors(Descent):
    def update(self, params, grads, state, lr, step):
        return super().update(params, grads, state, lr if self.decay > 0.3 else 2 * lr, step)


@dataclass(frozen=True)
class RoundsHyperparameters(Descent):
    def update(self, params, grads, state, lr, step):
        coarse = self.decay if isinstance(self.decay, float) else tf.round(self.decay * 10) / 9
        return Descent(coarse).update(params, grads, state, lr, step)


@dataclass(frozen=True)
class MakesVariables(Descent):
    made: ClassVar[list[tf.Variable]] = []

    def update(self, params, grads, state, lr, step):
        if not tf.executing_eagerly() and not self.made:
            self.made.append(tf.Variable(0.0))
        return super().update(params, grads, state, lr, step)


@dataclass(frozen=True)
class NotVectorizable(Descent):
    def update(self, params, grads, state, lr, step):
        def there_and_back(g):
            whole = tf.bitcast(g, {2: tf.int16, 4: tf.int32, 8: tf.int64}[g.dtype.size])
            return tf.bitcast(whole, g.dtype)

        same = tf.nest.map_structure(there_and_back, grads)
        return super().update(params, same, state, lr, step)


@dataclass(frozen=True)
class Ascends(Descent):
    def update(self, params, grads, state, lr, step):
        return super().update(params, grads, state, -lr, step)


@dataclass(frozen=True)
class RatesTooLow(Descent):
    learning_rates: ClassVar[tuple[float, float]] = (1e-9, 1e-8)


@dataclass(frozen=True)
class RatesReversed(Descent):
    learning_rates: ClassVar[tuple[float, float]] = (1.0, 1e-3)


PLANTED = [
    (NotFrozen(), "is_a_frozen_dataclass", "Freeze it"),
    (NotADataclass(), "is_a_frozen_dataclass", "Make it an instance"),
    (WithoutEvaluation(), "is_a_frozen_dataclass", "Add the method eval_params"),
    (WithAList(), "is_a_frozen_dataclass", "unhashable"),
    (StateInFloat64(), "keeps_structure_and_dtypes", "state went from float32 to float64"),
    (StateInFloat32(), "keeps_structure_and_dtypes", "state of float64 parameters holds a float32"),
    (ParametersInFloat32(), "keeps_structure_and_dtypes", "parameter went from float64 to float32"),
    (OtherStructure(), "keeps_structure_and_dtypes", "state changed structure"),
    (OtherShape(), "keeps_structure_and_dtypes", "state went from shape"),
    (EvaluatesByList(), "keeps_structure_and_dtypes", "eval_params changed structure"),
    (InfiniteState(), "state_is_finite", "NaN or infinity after 0 updates"),
    (Mutates(), "does_not_mutate_its_inputs", "make new containers"),
    (Random(), "is_deterministic", "draw no random numbers"),
    (Remembers(), "is_deterministic", "keep nothing between calls"),
    (LikesNumbers(), "takes_float_and_tensor_rates_alike", "give two results"),
    (CastsNumbers(), "takes_float_and_tensor_rates_alike", "tf.constant(value, dtype)"),
    (DecaysAlways(), "rests_at_learning_rate_zero", "weight decay too"),
    (EvaluatesByHalf(), "rests_at_learning_rate_zero", "move at lr = 0"),
    (RefusesNan(), "takes_nan_gradients", "InvalidArgumentError"),
    (OtherwiseInGraphs(), "gives_compiled_what_it_gives_eagerly", "times more than rounding"),
    (BranchesOnTensors(), "traces_once_for_all_hyperparameters", "bool"),
    (RoundsHyperparameters(), "traces_once_for_all_hyperparameters", "as numbers and as tensors differ"),
    (MakesVariables(), "traces_once_for_all_hyperparameters", "make no tf.Variable"),
    (NotVectorizable(), "vectorizes", "cannot lift the op Bitcast"),
    (Ascends(), "minimizes_a_quadratic", "check the signs"),
    (RatesTooLow(), "minimizes_a_quadratic", "No learning rate from 1e-09 to 1e-08"),
    (RatesReversed(), "minimizes_a_quadratic", "0 < low < high"),
]


def _failures(results: list[CheckResult]) -> dict[str, str]:
    return {result.name: result.detail for result in results if not result.passed}


def test_the_right_one_passes():
    assert _failures(check_optimizer(Descent())) == {}


@pytest.mark.parametrize("planted, check, words", PLANTED, ids=lambda value: type(value).__name__)
def test_catches_a_broken_contract(planted, check, words):
    (function,) = (c for c in suite._CHECKS if c.__name__ == f"_check_{check}")
    result = suite._outcome(function, Trial(planted, 300))
    assert not result.passed
    assert words in result.detail


def test_every_check_catches_something():
    caught = {check for _, check, _ in PLANTED} | {"keeps_lanes_apart"}
    assert caught == {result.name for result in check_optimizer(Descent())}


def test_one_fault_leaves_a_full_report():
    """An exception fails the checks that meet it; the others still run."""
    results = check_optimizer(RefusesNan())
    assert len(results) == 13
    assert set(_failures(results)) == {"takes_nan_gradients"}


def test_a_hopeless_optimizer_fails_without_raising():
    results = check_optimizer(object())
    assert len(results) == 13
    assert not any(result.passed for result in results)
    assert all(result.detail for result in results)


def _lanes_that_meet(mix):
    """A Trial whose lanes are not independent; code for one run alone cannot bring that about."""
    real = Trial.over_lanes.func

    def over_lanes(self):
        update = real(self)
        return lambda *arguments: tf.nest.map_structure(mix, update(*arguments))

    return property(over_lanes)


@pytest.mark.parametrize(
    "mix, words",
    [
        (
            lambda leaf: (
                leaf * tf.cast(tf.range(leaf.shape[0]), leaf.dtype)[(...,) + (None,) * (leaf.shape.rank - 1)]
            ),
            "place",
        ),
        (
            lambda leaf: leaf + 0 * tf.reduce_sum(leaf, axis=0, keepdims=True),
            "NaN in one lane reaches another",
        ),
    ],
    ids=["by place", "by neighbours"],
)
def test_catches_lanes_that_meet(mix, words, monkeypatch):
    monkeypatch.setattr(Trial, "over_lanes", _lanes_that_meet(mix))
    assert words in _failures(check_optimizer(Descent()))["keeps_lanes_apart"]


def test_an_optimizer_may_say_that_it_ignores_the_learning_rate():
    @dataclass(frozen=True)
    class Declared(DecaysAlways):
        ignores_learning_rate: ClassVar[bool] = True

    for optimizer in (Declared(), ClipByValue(Declared())):
        assert "rests_at_learning_rate_zero" not in _failures(check_optimizer(optimizer))
    assert "rests_at_learning_rate_zero" in _failures(check_optimizer(ClipByValue(DecaysAlways())))


def test_ours_are_optimizers():
    """The protocol holds for a method and a transform: pyright checks this annotation."""
    optimizers: list[Optimizer] = [Adam(), Cosine(Adam())]
    assert all(callable(optimizer.update) for optimizer in optimizers)
