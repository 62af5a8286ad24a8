"""This project's own ways to run an update, from an article's eager loop to one flat buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import LEARNING_RATE, Case, NotApplicable, Prepared
from .device import outputs_fused, tensorflow

_SAME = 1e-6  # relative; a flat buffer changes the order of no sum in an element-wise rule


def eager(case: Case) -> Prepared:
    """One operation after the other from Python, results assigned to variables: an article's loop."""
    tf = tensorflow()
    variables = [tf.Variable(p) for p in case.parameters()]
    state = tf.nest.map_structure(tf.Variable, case.rule.init([tf.convert_to_tensor(v) for v in variables]))
    grads, rate, step = case.gradients(), tf.constant(LEARNING_RATE, tf.float64), tf.Variable(0)

    def call() -> None:
        params = [tf.convert_to_tensor(v) for v in variables]
        slots = tf.nest.map_structure(tf.convert_to_tensor, state)
        now = tf.convert_to_tensor(step)
        new_params, new_state = case.rule.update(params, grads, slots, rate, now)
        for variable, value in zip(variables, new_params, strict=True):
            variable.assign(value)
        for slot, value in zip(tf.nest.flatten(state), tf.nest.flatten(new_state), strict=True):
            slot.assign(value)
        step.assign_add(1)

    return Prepared(call, case.device.wait, compiles=False, params=lambda: variables)


def function(case: Case) -> Prepared:
    """`VariableOptimizer` in a `tf.function` without XLA."""
    return _on_variables(case, case.parameters(), case.gradients(), compiled=False)


def xla_in_place(case: Case) -> Prepared:
    """`VariableOptimizer` in a `tf.function(jit_compile=True)`: the variables' own memory is written."""
    return _on_variables(case, case.parameters(), case.gradients(), compiled=True)


def xla_fresh(case: Case) -> Prepared:
    """The pure update, compiled: tensors in, new tensors out."""
    tf = tensorflow()
    params, grads = case.parameters(), case.gradients()
    update = tf.function(case.rule.update, autograph=False, jit_compile=True)
    rate = tf.constant(LEARNING_RATE, tf.float64)
    held = [params, case.rule.init(params), tf.constant(0)]

    def call() -> None:
        held[0], held[1] = update(held[0], grads, held[1], rate, held[2])

    def hlo() -> str:
        return update.experimental_get_compiler_ir(held[0], grads, held[1], rate, held[2])(
            stage="optimized_hlo"
        )

    return Prepared(call, case.device.wait, hlo, params=lambda: held[0])


def one_pass(case: Case) -> Prepared:
    """`VariableOptimizer(one_pass=True)`: a kernel per variable writes it and all its slots."""
    _require_fused_outputs(case)
    return _on_variables(case, case.parameters(), case.gradients(), compiled=True, one_pass=True)


def _require_fused_outputs(case: Case) -> None:
    if case.device.is_cpu and not outputs_fused():
        raise NotApplicable("XLA was not told to fuse outputs before it compiled anything in this process")


def flat_one_pass(case: Case) -> Prepared:
    """One buffer and one kernel for everything."""
    _require_fused_outputs(case)
    return flat(case, one_pass=True)


def flat(case: Case, one_pass: bool = False) -> Prepared:
    """All parameters in one variable, gradients taken with respect to it: whatever their tensors."""
    if case.layout.tensors > 1 or len(case.layout.shapes[0]) != 1:
        require_elementwise(case.rule, case.dtype)
    total = ((case.layout.parameters,),)
    return _on_variables(
        case, case.parameters(total), case.gradients(total), compiled=True, one_pass=one_pass
    )


def require_elementwise(rule: Any, dtype: str) -> None:
    """Whether the rule does to a flat buffer what it does to the tensors in it.

    Raises:
        NotApplicable: it does not: it looks at tensors one by one, or at their shapes.
    """
    tf = tensorflow()
    shapes = ((4, 3), (5,), (2, 3))
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    start, slope = (tf.cast(tf.random.stateless_normal([int(ends[-1])], [s, 0]), dtype) for s in (3, 4))

    def trees(buffer: Any) -> list[Any]:
        return [tf.reshape(buffer[a:b], s) for a, b, s in zip(ends, ends[1:], shapes, strict=False)]

    def after(params: list[Any], grads: list[Any]) -> np.ndarray:
        state = rule.init(params)
        for step in range(3):
            params, state = rule.update(params, grads, state, LEARNING_RATE, tf.constant(step))
        return np.concatenate([np.ravel(tf.cast(p, tf.float64)) for p in params])

    one, many = after([start], [slope]), after(trees(start), trees(slope))
    if not np.allclose(one, many, rtol=_SAME, atol=_SAME * LEARNING_RATE):
        raise NotApplicable("the rule looks at each tensor by itself, so one flat buffer is another rule")


def _on_variables(
    case: Case, params: list[Any], grads: list[Any], compiled: bool, one_pass: bool = False
) -> Prepared:
    from optimizers import VariableOptimizer

    tf = tensorflow()
    variables = [tf.Variable(p) for p in params]
    del params
    optimizer = VariableOptimizer(case.rule, LEARNING_RATE, jit_compile=compiled, one_pass=one_pass)
    optimizer.build(variables)

    def update(gradients: list[Any]) -> None:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    program = tf.function(update, autograph=False, jit_compile=compiled)

    def hlo() -> str:
        return program.experimental_get_compiler_ir(grads)(stage="optimized_hlo")

    text = hlo if compiled else None
    return Prepared(lambda: program(grads), case.device.wait, text, params=lambda: variables)


BUILDERS: dict[str, Callable[[Case], Prepared]] = {
    "eager": eager,
    "function": function,
    "xla_in_place": xla_in_place,
    "xla_fresh": xla_fresh,
    "one_pass": one_pass,
    "flat": flat,
    "flat_one_pass": flat_one_pass,
}
