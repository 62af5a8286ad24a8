"""What is measured: a rule on the parameters of one layout, and the bytes that it cannot do without."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..types import Component
from .device import Device, tensorflow
from .shapes import Layout, Shape

LEARNING_RATE = 1e-3  # its value does not change the time; small, so that parameters stay in range


@dataclass(frozen=True)
class Case:
    """An optimizer on a layout, in one dtype, on one device.

    Args:
        rule: the optimizer itself.
        bytes_moved, state_bytes: see `least_bytes`.
    """

    component: Component
    rule: Any
    layout: Layout
    dtype: str
    device: Device
    bytes_moved: int
    state_bytes: int

    @property
    def working_bytes(self) -> int:
        """Parameters, gradients and state together."""
        return 2 * self.layout.parameters * tensorflow().as_dtype(self.dtype).size + self.state_bytes

    def parameters(self, shapes: tuple[Shape, ...] | None = None) -> list[Any]:
        """Initial parameters: normal, of size 0.1."""
        return _normal(self.layout.shapes if shapes is None else shapes, self.dtype, 0.1, seed=1)

    def gradients(self, shapes: tuple[Shape, ...] | None = None) -> list[Any]:
        """Gradients: normal, of size 1, the same at every update."""
        return _normal(self.layout.shapes if shapes is None else shapes, self.dtype, 1.0, seed=2)


@dataclass
class Prepared:
    """An implementation, ready to run.

    Args:
        call: one update.
        wait: until everything called is done.
        hlo: the optimised program as text; None where XLA does not compile it.
        compiles: whether the first call makes something that later calls use.
        params: the parameters as they are now.
        state_bytes: of its own state where that is not the rule's: a peer may keep more slots, or fewer.
    """

    call: Callable[[], Any]
    wait: Callable[[], None]
    hlo: Callable[[], str] | None = None
    compiles: bool = True
    params: Callable[[], list[Any]] = list
    state_bytes: int | None = None


class NotApplicable(Exception):
    """This implementation does not exist for this rule; the sentence says why."""


def _normal(shapes: tuple[Shape, ...], dtype: str, size: float, seed: int) -> list[Any]:
    tf = tensorflow()
    kind = tf.as_dtype(dtype)
    return [
        tf.cast(tf.random.stateless_normal(shape, [seed, i], stddev=size), kind)
        for i, shape in enumerate(shapes)
    ]


def least_bytes(rule: Any, shapes: tuple[Shape, ...], dtype: str) -> tuple[int, int]:
    """Fewest bytes an update must move, and the bytes of its state.

    Parameters, gradients and state are each read once, where the rule uses them; new parameters and new
    state are each written once, where they are not what came in. Traced with shapes only: no memory.

    Args:
        rule: any optimizer.
        shapes, dtype: of the parameters.
    Returns:
        (bytes moved, bytes of state).
    """
    tf = tensorflow()
    with tf.Graph().as_default():

        def given(like: Any) -> Any:
            return tf.compat.v1.placeholder(like.dtype, like.shape)

        params = [tf.compat.v1.placeholder(tf.as_dtype(dtype), shape) for shape in shapes]
        grads = [given(p) for p in params]
        state = tf.nest.map_structure(given, rule.init(params))
        before = {id(t): len(t.consumers()) for t in (*params, *grads, *tf.nest.flatten(state))}
        rate, step = tf.constant(LEARNING_RATE, tf.float64), tf.compat.v1.placeholder(tf.int32, [])
        new_params, new_state = rule.update(params, grads, state, rate, step)
        inputs = [*params, *grads, *tf.nest.flatten(state)]
        outputs = [*tf.nest.flatten(new_params), *tf.nest.flatten(new_state)]
        read = sum(_size(t) for t in inputs if len(t.consumers()) > before[id(t)])
        kept = {id(t) for t in inputs}
        written = sum(_size(t) for t in outputs if id(_origin(t)) not in kept)
        return read + written, sum(_size(t) for t in tf.nest.flatten(state))


def _origin(tensor: Any) -> Any:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _size(tensor: Any) -> int:
    return math.prod(tensor.shape.as_list()) * tensor.dtype.size
