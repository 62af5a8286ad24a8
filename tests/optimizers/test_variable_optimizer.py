"""`VariableOptimizer`: eager, graph and XLA; every strategy; checkpoints from one strategy to another."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from optimizers import VariableOptimizer
from optimizers.adam import Adam
from optimizers.gradient_descent import GradientDescent
from optimizers.momentum import Momentum
from optimizers.nadam import Nadam
from optimizers.transforms.clip_by_global_norm import ClipByGlobalNorm
from optimizers.transforms.lookahead import Lookahead

# Two examples, one for each replica; the loss is the mean over them.
EXAMPLES = np.array([[1.0, 2.0, -1.0], [3.0, -0.5, 0.25]], np.float32)
STRATEGIES = {
    "default": tf.distribute.get_strategy,
    "one_device": lambda: tf.distribute.OneDeviceStrategy("CPU:1"),
    # Not by the default's collectives: TensorFlow numbers them from the same start in every strategy of a
    # process, and aborts them all where two strategies reduce tensors of other shapes.
    "mirrored": lambda: tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    ),
    "central_storage": lambda: tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"]),
}
METHOD = Lookahead(ClipByGlobalNorm(Nadam(), max_norm=3.0), sync_period=2)


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return STRATEGIES[request.param]()


class Loop:
    """A Core-API training loop of a user: two variables, a loss, `apply_gradients`."""

    def __init__(self, strategy, method=METHOD, rate=0.1, **options):
        self.strategy = strategy
        with strategy.scope():
            self.weights = tf.Variable([0.5, -1.0, 2.0])
            self.bias = tf.Variable(0.25)
            self.optimizer = VariableOptimizer(method, rate, **options)
        self.variables = [self.weights, self.bias]
        self.checkpoint = tf.train.Checkpoint(variables=self.variables, optimizer=self.optimizer)

    def replica_step(self, examples):
        """On this replica's part of the examples."""
        with tf.GradientTape() as tape:
            residual = tf.reduce_sum(self.weights * examples, axis=1) - self.bias
            loss = tf.reduce_mean(residual**2)
        gradients = tape.gradient(loss, self.variables)
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))

    def step(self):
        replicas = self.strategy.num_replicas_in_sync

        def part(context):
            share = len(EXAMPLES) // replicas
            first = context.replica_id_in_sync_group * share
            return tf.constant(EXAMPLES[first : first + share])

        self.strategy.run(
            self.replica_step, args=(self.strategy.experimental_distribute_values_from_function(part),)
        )

    def train(self, steps, how="graph"):
        wrapped = {
            "eager": lambda: self.step,
            "graph": lambda: tf.function(self.step),
            "compiled": lambda: tf.function(self.step, jit_compile=True),
        }[how]()
        for _ in range(steps):
            wrapped()
        return self

    def values(self):
        return np.concatenate([self.weights.numpy(), [self.bias.numpy()]])


@pytest.fixture(scope="module")
def expected():
    """The same training by the pure functions, in one process and without variables: 6 steps."""
    params = [tf.constant([0.5, -1.0, 2.0]), tf.constant(0.25)]
    state = METHOD.init(params)
    for t in range(6):
        with tf.GradientTape() as tape:
            tape.watch(params)
            residual = tf.reduce_sum(params[0] * EXAMPLES, axis=1) - params[1]
            loss = tf.reduce_mean(residual**2)
        params, state = METHOD.update(params, tape.gradient(loss, params), state, 0.1, tf.constant(t))
    return np.concatenate([params[0].numpy(), [params[1].numpy()]])


@pytest.mark.parametrize("how", ["eager", "graph"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_as_the_pure_functions_do(strategy, how, jit_compile, expected):
    loop = Loop(strategy, aggregate="mean", jit_compile=jit_compile).train(6, how)
    np.testing.assert_allclose(loop.values(), expected, rtol=1e-5)
    assert int(loop.optimizer.step.numpy()) == 6


def test_trains_within_a_compiled_function(expected):
    loop = Loop(tf.distribute.get_strategy()).train(6, "compiled")
    np.testing.assert_allclose(loop.values(), expected, rtol=1e-5)


def test_slots_are_mirrored_and_replicas_agree():
    mirrored = STRATEGIES["mirrored"]()
    loop = Loop(mirrored, aggregate="mean").train(3)
    slots = loop.optimizer.slots
    assert set(slots) == {
        *(f"optimizer/{slot}/variable_{i}" for slot in "mv" for i in range(2)),
        *(f"slow/variable_{i}" for i in range(2)),
        "optimizer/product",
    }
    for variable in [*loop.variables, *slots.values(), loop.optimizer.step, loop.optimizer.learning_rate]:
        first, second = mirrored.experimental_local_results(variable)
        assert first.device != second.device
        np.testing.assert_array_equal(first.numpy(), second.numpy())


@pytest.mark.parametrize("aggregate, factor", [("mean", 0.5), ("sum", 1.0), (None, None)])
def test_gradients_are_reduced_once(aggregate, factor):
    """One step of gradient descent from two replicas whose gradients are 1 and 10."""
    mirrored = STRATEGIES["mirrored"]()
    with mirrored.scope():
        variable = tf.Variable(0.0)
        optimizer = VariableOptimizer(GradientDescent(), 1.0, aggregate=aggregate)

    @tf.function
    def step():
        def replica_step():
            context = tf.distribute.get_replica_context()
            gradient = tf.constant([1.0, 10.0])[tf.cast(context.replica_id_in_sync_group, tf.int32)]
            if aggregate is None:
                gradient = context.all_reduce(tf.distribute.ReduceOp.SUM, gradient) / 4
            optimizer.apply_gradients([(gradient, variable)])

        mirrored.run(replica_step)

    step()
    reduced = -11.0 / 4 if factor is None else -11.0 * factor
    copies = [copy.numpy() for copy in mirrored.experimental_local_results(variable)]
    assert copies == [reduced, reduced]


class Counting(tf.distribute.ReductionToOneDevice):
    """Counts what is reduced."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def reduce_implementation(self, reduce_op, per_replica_value, destinations, options):
        self.shapes.append(tuple(per_replica_value.values[0].shape))
        return super().reduce_implementation(reduce_op, per_replica_value, destinations, options)


def test_each_gradient_is_aggregated_once_and_nothing_else():
    counting = Counting()
    loop = Loop(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=counting))
    loop.train(1, "eager")
    counting.shapes.clear()
    loop.train(3, "eager")
    assert counting.shapes == [(3,), ()] * 3


BY_COLLECTIVES = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from optimizers import VariableOptimizer
from optimizers.gradient_descent import GradientDescent

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    variable = tf.Variable([0.0, 0.0])
    optimizer = VariableOptimizer(GradientDescent(), 1.0)

def replica_step():
    context = tf.distribute.get_replica_context()
    gradient = tf.constant([[1.0, 2.0], [10.0, 20.0]])[tf.cast(context.replica_id_in_sync_group, tf.int32)]
    optimizer.apply_gradients([(gradient, variable)])

step = tf.function(lambda: strategy.run(replica_step))
step()
step()
print(*[copy.numpy().tolist() for copy in strategy.experimental_local_results(variable)])
"""


def test_replicas_agree_by_the_default_collectives():
    """In a process of its own, for the reason beside STRATEGIES."""
    command = [sys.executable, "-c", BY_COLLECTIVES]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[-22.0, -44.0] [-22.0, -44.0]"


def test_gradients_may_be_compiled_beside_the_update():
    """As the docstring says: compiled gradients, all-reduce, compiled update."""
    loop = Loop(STRATEGIES["mirrored"](), GradientDescent(), aggregate="sum", rate=0.5)

    @tf.function(jit_compile=True)
    def gradients_of(weights, bias, examples):
        residual = tf.reduce_sum(weights * examples, axis=1) - bias
        return 2 * tf.linalg.matvec(examples, residual, transpose_a=True), -2 * tf.reduce_sum(residual)

    def replica_step(examples):
        gradients = gradients_of(loop.weights.read_value(), loop.bias.read_value(), examples)
        loop.optimizer.apply_gradients(zip(gradients, loop.variables, strict=True))

    loop.replica_step = replica_step
    residual = EXAMPLES @ [0.5, -1.0, 2.0] - 0.25
    expected = [*(np.array([0.5, -1.0, 2.0]) - residual @ EXAMPLES), 0.25 + residual.sum()]
    np.testing.assert_allclose(loop.train(1).values(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "before, after, built",
    [
        ("default", "default", False),
        ("default", "mirrored", False),
        ("default", "mirrored", True),
        ("mirrored", "default", False),
        ("mirrored", "default", True),
        ("mirrored", "mirrored", False),
        ("mirrored", "one_device", False),
        ("mirrored", "central_storage", False),
        ("central_storage", "mirrored", True),
    ],
)
def test_a_checkpoint_goes_from_strategy_to_strategy(before, after, built, tmp_path, expected):
    """Three steps, a checkpoint, three steps elsewhere: what six steps in one place give."""
    first = Loop(STRATEGIES[before](), aggregate="mean").train(3)
    path = first.checkpoint.save(str(tmp_path / "checkpoint"))
    second = Loop(STRATEGIES[after](), aggregate="mean", rate=123.0)
    if built:
        second.optimizer.build(second.variables)
    status = second.checkpoint.restore(path)
    second.train(3)
    status.assert_consumed()
    np.testing.assert_allclose(second.values(), expected, rtol=1e-5)
    assert int(second.optimizer.step.numpy()) == 6
    assert float(second.optimizer.learning_rate.numpy()) == 0.1


def test_follows_keras_in_a_loop():
    """With hyperparameters that Keras keeps in float64, and an epsilon of nothing: see Adam's docstring."""
    start = np.array([1.0, -2.0, 0.5])
    mine, theirs = tf.Variable(start), keras.Variable(start, dtype="float64")
    optimizer = VariableOptimizer(Adam(beta_1=0.75, beta_2=0.9375, epsilon=1e-40), 0.125)
    peer = keras.optimizers.Adam(0.125, beta_1=0.75, beta_2=0.9375, epsilon=1e-40)
    for _ in range(20):
        optimizer.apply_gradients([(mine - 3.0, mine)])
        peer.apply_gradients([(theirs.value - 3.0, theirs)])
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-12)
    assert np.abs(mine.numpy() - start).max() > 1


def test_takes_keras_variables():
    variable = keras.Variable([1.0, -2.0], dtype="float32")
    VariableOptimizer(GradientDescent(), 0.5).apply_gradients([(tf.constant([1.0, 1.0]), variable)])
    np.testing.assert_array_equal(variable.numpy(), [0.5, -2.5])


def test_the_learning_rate_changes_without_a_trace():
    variable, traces = tf.Variable(0.0), []
    optimizer = VariableOptimizer(GradientDescent(), 1.0)

    @tf.function
    def step():
        traces.append(1)
        optimizer.apply_gradients([(tf.constant(1.0), variable)])

    step()
    once = len(traces)  # tf.function traces twice where variables are made
    optimizer.learning_rate.assign(10.0)
    step()
    assert variable.numpy() == -11.0
    assert len(traces) == once


def test_a_users_learning_rate_variable_is_used_as_it_is():
    variable, rate = tf.Variable(0.0), tf.Variable(1.0)
    optimizer = VariableOptimizer(GradientDescent(), rate)
    assert optimizer.learning_rate is rate
    optimizer.apply_gradients([(tf.constant(1.0), variable)])
    rate.assign(10.0)
    optimizer.apply_gradients([(tf.constant(1.0), variable)])
    assert variable.numpy() == -11.0


@pytest.mark.parametrize("how", ["none", "left out"])
def test_a_variable_without_gradient_is_skipped_with_its_slots(how):
    """The other one moves as if it were alone."""
    kept, moved, alone = tf.Variable([1.0]), tf.Variable([2.0]), tf.Variable([2.0])
    optimizer, reference = (VariableOptimizer(ClipByGlobalNorm(Momentum()), 0.1) for _ in range(2))
    optimizer.apply_gradients([(tf.constant([5.0]), kept), (tf.constant([0.0]), moved)])
    reference.apply_gradients([(tf.constant([0.0]), alone)])
    before, slot = kept.numpy(), optimizer.slots["v/variable_0"].numpy()
    assert slot != 0
    gradient = (tf.constant([3.0]), moved)
    if how == "none":
        with pytest.warns(UserWarning, match="No gradients for .*not updated"):
            optimizer.apply_gradients([(None, kept), gradient])
    else:
        optimizer.apply_gradients([gradient])
    reference.apply_gradients([(tf.constant([3.0]), alone)])
    np.testing.assert_array_equal(kept.numpy(), before)
    np.testing.assert_array_equal(optimizer.slots["v/variable_0"].numpy(), slot)
    np.testing.assert_array_equal(moved.numpy(), alone.numpy())
    assert moved.numpy() != 2.0


def test_sparse_gradients_are_made_dense():
    table = tf.Variable(tf.ones([3, 2]))
    rows = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([0, 0]), tf.constant([3, 2]))
    VariableOptimizer(GradientDescent(), 1.0).apply_gradients([(rows, table)])
    np.testing.assert_array_equal(table.numpy(), [[-3.0, -5.0], [1.0, 1.0], [1.0, 1.0]])


def test_keeps_mixed_dtypes():
    variables = [tf.Variable([1.0], dtype=dtype) for dtype in (tf.float32, tf.float64, tf.bfloat16)]
    optimizer = VariableOptimizer(Adam(), 0.5)
    optimizer.apply_gradients([(tf.ones_like(v), v) for v in variables])
    for i, variable in enumerate(variables):
        assert optimizer.slots[f"m/variable_{i}"].dtype == variable.dtype
        assert float(variable[0]) == pytest.approx(0.5, rel=1e-6)


def test_evaluates_by_averaged_parameters(strategy):
    loop = Loop(strategy, Lookahead(GradientDescent(), sync_period=100), rate=0.01).train(3)
    fast = loop.values()
    slow = [0.5, -1.0, 2.0, 0.25]
    averaged = loop.optimizer.eval_params()
    np.testing.assert_array_equal(np.concatenate([averaged[0].numpy(), [averaged[1].numpy()]]), slow)
    np.testing.assert_array_equal(loop.values(), fast)
    with loop.optimizer.evaluating():
        np.testing.assert_array_equal(loop.values(), slow)
    np.testing.assert_array_equal(loop.values(), fast)
    with pytest.raises(KeyError), loop.optimizer.evaluating():
        raise KeyError
    np.testing.assert_array_equal(loop.values(), fast)
    assert np.abs(fast - slow).max() > 1e-3


def test_offers_its_variables_as_a_module():
    loop = Loop(tf.distribute.get_strategy(), Momentum()).train(1)
    assert {v.name for v in loop.optimizer.variables} == {
        "learning_rate:0",
        "step:0",
        "v/variable_0:0",
        "v/variable_1:0",
    }
    assert loop.optimizer.trainable_variables == ()


def test_building_again_is_harmless():
    loop = Loop(tf.distribute.get_strategy(), Momentum()).train(2)
    velocity = loop.optimizer.slots["v/variable_0"].numpy()
    loop.optimizer.build(reversed(loop.variables))
    np.testing.assert_array_equal(loop.optimizer.slots["v/variable_0"].numpy(), velocity)


class TestErrors:
    def setup_method(self):
        self.variable = tf.Variable([1.0], name="weights")
        self.optimizer = VariableOptimizer(Momentum(), 0.1)

    def test_no_gradient_at_all(self):
        with pytest.raises(ValueError, match="every gradient is None"):
            self.optimizer.apply_gradients([(None, self.variable)])
        with pytest.raises(ValueError, match="No gradients"):
            self.optimizer.apply_gradients([])

    def test_unknown_variable(self):
        self.optimizer.build([self.variable])
        stranger = tf.Variable([1.0], name="stranger")
        with pytest.raises(ValueError, match=r"Not among the variables.*stranger"):
            self.optimizer.apply_gradients([(tf.constant([1.0]), stranger)])
        with pytest.raises(ValueError, match="serves 1 other variables"):
            self.optimizer.build([self.variable, stranger])

    def test_variable_given_twice(self):
        with pytest.raises(ValueError, match="more than once"):
            self.optimizer.build([self.variable, self.variable])

    def test_integers(self):
        with pytest.raises(ValueError, match="counter:0 is int32: only floats"):
            self.optimizer.build([tf.Variable(1, name="counter")])

    def test_no_variable(self):
        with pytest.raises(TypeError, match=r"Expected a tf.Variable, got .*Tensor"):
            self.optimizer.build([tf.constant([1.0])])

    def test_before_the_slots(self):
        with pytest.raises(ValueError, match="No variables yet"):
            self.optimizer.eval_params()

    def test_unknown_aggregation(self):
        with pytest.raises(ValueError, match='"sum", "mean" or None, got \'max\''):
            VariableOptimizer(Momentum(), 0.1, aggregate="max")

    def test_other_strategy(self):
        mirrored = STRATEGIES["mirrored"]()
        with mirrored.scope():
            optimizer = VariableOptimizer(Momentum(), 0.1)
        with pytest.raises(ValueError, match=r"weights:0 was made under another .*same strategy.scope"):
            optimizer.build([self.variable])

    def test_cross_replica_context(self):
        mirrored = STRATEGIES["mirrored"]()
        with mirrored.scope():
            loop = Loop(mirrored)
            with pytest.raises(RuntimeError, match=r"in the function given to strategy\.run"):
                loop.optimizer.apply_gradients([(tf.constant(1.0), loop.bias)])
