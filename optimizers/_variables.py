"""Optimizers on `tf.Variable`s, for a training loop of one's own."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from ._one_pass import fuse_outputs, separately
from ._tree import leaves_by_path
from ._types import Optimizer, Structure

_REDUCTIONS = {"sum": tf.distribute.ReduceOp.SUM, "mean": tf.distribute.ReduceOp.MEAN, None: None}


@dataclass(frozen=True)
class _Binding:
    """Which variables an optimizer serves. A plain object, so that a checkpoint does not follow it."""

    variables: dict[str, tf.Variable]  # key -> variable
    keys: dict[Any, str]  # variable.ref() -> key
    paths: list[str]  # of the state's leaves, in tf.nest's order
    state: Structure  # the state's structure


class VariableOptimizer(tf.Module):
    """Updates `tf.Variable`s in place with any optimizer, in a Core-API loop.

    ```python
    optimizer = VariableOptimizer(Adam(), learning_rate=1e-3)
    gradients = tape.gradient(loss, variables)
    optimizer.apply_gradients(zip(gradients, variables))
    ```

    Works eagerly, in a `tf.function`, and in a `tf.function(jit_compile=True)`. The update itself is a pure
    function, compiled by XLA unless `jit_compile=False` (which variables on several devices need, where no
    strategy mirrors them).

    Under `tf.distribute`: make variables and optimizer within `strategy.scope()`, and call
    `apply_gradients` inside `strategy.run`. Gradients are reduced over replicas once, then every replica
    computes the same update on its own copy. There, leave `apply_gradients` out of compiled functions of your
    own (no all-reduce can be compiled): compile the gradients, and the update is compiled here.

    The slots, `step` and `learning_rate` are variables of this module: `tf.train.Checkpoint(optimizer=...)`
    saves them, and restores them before or after the slots are made, and under another strategy. Slots are
    stored by the place of their variable in the list given to `build` (or to the first `apply_gradients`).

    Gradients that are `tf.IndexedSlices` are made dense: the update touches every row.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        learning_rate: float | tf.Variable,
        *,
        aggregate: str | None = "sum",
        jit_compile: bool = True,
        one_pass: bool = False,
        name: str | None = None,
    ):
        """Binds an optimizer; variables come with `build` or the first `apply_gradients`.

        Args:
            optimizer: any optimizer or transform.
            learning_rate: a number is kept in a float64 variable, so that `learning_rate.assign(...)` changes
                it without a new trace; a `tf.Variable` is used as it is.
            aggregate: over replicas, "sum" where each replica's loss is divided by the global batch
                (`tf.nn.compute_average_loss`; what Keras' optimizers do), "mean" where each loss is the mean
                over the replica's own part, None where the gradients are reduced already.
            jit_compile: whether XLA compiles the update.
            one_pass: whether an element-wise rule becomes one kernel per variable that writes the variable
                and all its slots, on a CPU too; it needs XLA, and must come before anything else is compiled
                (or call `optimizers.fuse_outputs()` first). A rule that sums over parameters (a global norm)
                would do so once per slot: leave it off there.
            name: name of the module.

        Raises:
            ValueError: for an unknown `aggregate`, and for `one_pass` where XLA cannot do it.
        """
        super().__init__(name=name)
        if aggregate not in _REDUCTIONS:
            raise ValueError(f'aggregate must be "sum", "mean" or None, got {aggregate!r}.')
        self.optimizer = optimizer
        self._reduction = _REDUCTIONS[aggregate]
        self._strategy = tf.distribute.get_strategy()
        update = optimizer.update
        if one_pass:
            if not (jit_compile and fuse_outputs()):
                raise ValueError(
                    "one_pass needs jit_compile=True, and XLA compiled programs in this process without it: "
                    "call optimizers.fuse_outputs() before the first compiled function."
                )
            update = separately(update)
        self._update = tf.function(update, autograph=False, jit_compile=jit_compile)
        self._binding: _Binding | None = None
        self._slots: dict[str, tf.Variable] = {}
        # int64: TensorFlow has GPU kernels for it where int32 variables stay on the host.
        self.step = tf.Variable(tf.zeros([], tf.int64), trainable=False, name="step")
        if not isinstance(learning_rate, tf.Variable):
            initial = tf.constant(learning_rate, tf.float64)
            learning_rate = tf.Variable(initial, trainable=False, name="learning_rate")
        self.learning_rate = learning_rate

    @property
    def built(self) -> bool:
        """Whether the slots exist."""
        return self._binding is not None

    @property
    def slots(self) -> dict[str, tf.Variable]:
        """The state's variables by path, as `m/variable_0`; `variable_i` is the i-th variable given."""
        return dict(self._slots)

    def build(self, variables: Iterable[tf.Variable]) -> None:
        """Makes the slots for these variables, once.

        Args:
            variables: the variables to be optimized. Their order names the slots in a checkpoint.

        Raises:
            ValueError: for a variable given twice, of another strategy, or of no floating dtype; and for
                other variables than those of the first call.
        """
        variables = [_tf_variable(variable) for variable in variables]
        if self._binding is not None:
            if {v.ref() for v in variables} != set(self._binding.keys):
                raise ValueError(
                    f"This optimizer serves {len(self._binding.keys)} other variables; "
                    "make a new VariableOptimizer for these."
                )
            return
        self._check(variables)
        # Out of any tf.function that is being traced; the strategy does not follow there by itself.
        with tf.init_scope(), self._strategy.scope():
            by_key = {f"variable_{i}": variable for i, variable in enumerate(variables)}
            params = {key: tf.convert_to_tensor(variable) for key, variable in by_key.items()}
            state = self.optimizer.init(params)
            leaves = dict(leaves_by_path(state))
            for path, leaf in leaves.items():
                self._make_slot(path, leaf, by_key)
        keys = {variable.ref(): key for key, variable in by_key.items()}
        structure = tf.nest.map_structure(lambda _: None, state)
        self._binding = _Binding(by_key, keys, list(leaves), structure)

    def apply_gradients(
        self, grads_and_variables: Iterable[tuple[tf.Tensor | tf.IndexedSlices | None, tf.Variable]]
    ) -> None:
        """One update of the variables, in place.

        A variable whose gradient is None, or that is left out, is skipped with its slots, with a warning for
        None as in Keras; the others are updated as if it did not exist.

        Args:
            grads_and_variables: pairs (gradient, variable).

        Raises:
            ValueError: if no variable has a gradient, or a variable is not one that `build` was given.
            RuntimeError: in cross-replica context.
        """
        pairs = [(gradient, _tf_variable(variable)) for gradient, variable in grads_and_variables]
        missing = [variable.name for gradient, variable in pairs if gradient is None]
        if len(missing) == len(pairs):
            raise ValueError("No gradients: every gradient is None. Does the loss depend on the variables?")
        if missing:
            warnings.warn(f"No gradients for {missing}: they are not updated.", stacklevel=2)
        replica = tf.distribute.get_replica_context()
        if replica is None:
            raise RuntimeError(
                "apply_gradients was called in cross-replica context; call it in the function given to "
                "strategy.run."
            )
        everything = [variable for _, variable in pairs]
        targets = [variable for gradient, variable in pairs if gradient is not None]
        gradients = [tf.convert_to_tensor(gradient) for gradient, _ in pairs if gradient is not None]
        if not tf.distribute.has_strategy():
            self._bind(everything, targets)
            self._write(None, *self._arguments(targets, gradients))
            return
        if self._reduction is not None:
            gradients = list(replica.all_reduce(self._reduction, gradients))

        def on_all_replicas(strategy, gradients):
            self._bind(everything, targets)
            strategy.extended.update(
                targets[0], self._write, args=self._arguments(targets, gradients), group=False
            )

        replica.merge_call(on_all_replicas, args=(gradients,))

    def eval_params(self) -> list[tf.Tensor]:
        """Parameters to evaluate by, in the order of the variables: copies, the variables stay.

        They differ from the variables for methods that average (`lookahead`).
        """
        binding = self._require_binding()
        params = {key: tf.convert_to_tensor(variable) for key, variable in binding.variables.items()}
        leaves = [tf.convert_to_tensor(self._slots[path]) for path in binding.paths]
        state = tf.nest.pack_sequence_as(binding.state, leaves)
        averaged = self.optimizer.eval_params(params, state)
        return [averaged[key] for key in binding.variables]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within this context the variables hold the parameters to evaluate by; then they are set back."""
        variables = list(self._require_binding().variables.values())
        kept = [tf.convert_to_tensor(variable) for variable in variables]
        for variable, value in zip(variables, self.eval_params(), strict=True):
            variable.assign(value)
        try:
            yield
        finally:
            for variable, value in zip(variables, kept, strict=True):
                variable.assign(value)

    def _check(self, variables: Sequence[tf.Variable]) -> None:
        if len({variable.ref() for variable in variables}) != len(variables):
            raise ValueError("A variable is given more than once.")
        for variable in variables:
            if not variable.dtype.is_floating:
                raise ValueError(f"{variable.name} is {variable.dtype.name}: only floats are optimized.")
            if not self._strategy.extended.variable_created_in_scope(variable):
                raise ValueError(
                    f"{variable.name} was made under another distribution strategy than this optimizer; "
                    "make both within the same strategy.scope()."
                )

    def _make_slot(self, path: str, value: tf.Tensor, variables: dict[str, tf.Variable]) -> None:
        owner = next((variables[part] for part in path.split("/") if part in variables), self.step)
        with self._strategy.extended.colocate_vars_with(owner):
            # Assigning it to the tracked dict also restores it, where a checkpoint waits for it.
            self._slots[path] = tf.Variable(value, trainable=False, name=path)

    def _bind(self, variables: Sequence[tf.Variable], targets: Sequence[tf.Variable]) -> None:
        if self._binding is None:
            self.build(variables)
        unknown = [v.name for v in targets if v.ref() not in self._require_binding().keys]
        if unknown:
            raise ValueError(f"Not among the variables of this optimizer: {unknown}.")

    def _require_binding(self) -> _Binding:
        if self._binding is None:
            raise ValueError("No variables yet: call build(variables) or apply_gradients first.")
        return self._binding

    def _arguments(self, targets: Sequence[tf.Variable], gradients: Sequence[tf.Tensor]) -> tuple[Any, ...]:
        """What `_write` needs, all in containers that `extended.update` unwraps for each replica."""
        binding = self._require_binding()
        by_key = {binding.keys[v.ref()]: g for v, g in zip(targets, gradients, strict=True)}
        return dict(binding.variables), by_key, dict(self._slots), self.learning_rate, self.step

    def _write(
        self,
        _: tf.Variable | None,
        variables: dict[str, tf.Variable],
        gradients: dict[str, tf.Tensor],
        slots: dict[str, tf.Variable],
        learning_rate: tf.Variable,
        step: tf.Variable,
    ) -> None:
        """Reads one replica's variables, updates, and writes them back."""
        binding = self._require_binding()
        skipped = set(variables) - set(gradients)
        params = {key: tf.convert_to_tensor(variable) for key, variable in variables.items()}
        zeros = {key: tf.zeros_like(params[key]) for key in skipped}
        leaves = [tf.convert_to_tensor(slots[path]) for path in binding.paths]
        state = tf.nest.pack_sequence_as(binding.state, leaves)
        rate = tf.cast(learning_rate, tf.float64)
        new_params, new_state = self._update(
            params, {**gradients, **zeros}, state, rate, tf.cast(step, tf.int32)
        )
        tf.nest.assert_same_structure(binding.state, new_state)
        for key in gradients:
            variables[key].assign(new_params[key])
        for path, leaf in zip(binding.paths, tf.nest.flatten(new_state), strict=True):
            if skipped.isdisjoint(path.split("/")):
                slots[path].assign(leaf)
        step.assign_add(1)


def _tf_variable(variable: Any) -> tf.Variable:
    """The `tf.Variable` itself, or that inside a Keras variable."""
    inner = variable if isinstance(variable, tf.Variable) else getattr(variable, "value", variable)
    if not isinstance(inner, tf.Variable):
        raise TypeError(f"Expected a tf.Variable, got {type(variable).__name__}.")
    return inner
