"""Tensors that programs leave on the device, in variables that they change in place.

What a program returned it would have to put together, which was 7 to 13 % of what there was to compile. Of an
argument that it changes XLA makes a copy first, as an operation of its own, and of one of a megabyte in parts
that it leaves to other threads, which may be at work on another tile.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from harness import nodes
from harness.graphs import packer

Nest = Any

LARGE = 2**20  # bytes; see `Kept`
PAGE, NEAR, TRIES = 4096, 512, 8  # bytes, bytes, times; see `_apart`


class _Here(threading.local):
    """What this thread has of each."""

    def __init__(self) -> None:
        self.shelves: WeakKeyDictionary[Kept, Shelf] = WeakKeyDictionary()


_HERE = _Here()


class Kept:
    """Variables for a nest of tensors: each thread has its own, for calls one after another.

    Args:
        like: a nest of tensors, or of their specifications.
        one_at_a_time: whether a thread gives up what it has of all other such, where that is large: it goes
            through a hundred programs, and each state of a network that it has seen would stay.
    """

    def __init__(self, like: Nest, *, one_at_a_time: bool = False):
        self.specs = [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in tf.nest.flatten(like)]
        self.pack = packer(like)
        self.given_up = one_at_a_time and sum(map(_bytes, self.specs)) > LARGE

    @property
    def mine(self) -> Shelf:
        """This thread's; what lay on another lives as long as somebody has it."""
        shelves = _HERE.shelves
        if self not in shelves:
            if self.given_up:
                for other in [kept for kept in shelves if kept.given_up]:
                    del shelves[other]
            shelves[self] = Shelf(self)
        return shelves[self]

    # -- while tracing -----------------------------------------------------------------------------

    def read(self, handles: Sequence[tf.Tensor]) -> Nest:
        return self.pack(map(_read_as, handles, self.specs))

    def write(self, handles: Sequence[tf.Tensor], nest: Nest) -> list[Any]:
        """Returns what was done."""
        return [
            nodes.operation("AssignVariableOp", [handle, leaf], dtype=leaf.dtype)
            for handle, leaf in zip(handles, tf.nest.flatten(nest), strict=True)
        ]


class Shelf:
    """A thread's variables for what is kept."""

    def __init__(self, kept: Kept):
        self.specs, self.pack, self.turn = kept.specs, kept.pack, 0
        self.handles = [
            _variable(spec, zeros) for spec, zeros in zip(kept.specs, _apart(kept.specs), strict=True)
        ]

    def put(self, nest: Nest) -> None:
        """Has these tensors there."""
        for handle, leaf in zip(self.handles, tf.nest.flatten(nest), strict=True):
            _write(handle, leaf)

    def changed(self) -> Nest:
        """What lies there after a call; what lay there before it cannot be asked for any more."""
        self.turn += 1
        return self.pack(OnShelf(self, i) for i in range(len(self.handles)))


class OnShelf:
    """One tensor where a call left it: read when it is asked for, until the next call.

    Args:
        shelf: where.
        place: which of its variables.
    """

    __slots__ = ("place", "shelf", "turn")

    def __init__(self, shelf: Shelf, place: int):
        self.shelf, self.place, self.turn = shelf, place, shelf.turn

    @property
    def shape(self) -> tf.TensorShape:
        return self.shelf.specs[self.place].shape

    @property
    def dtype(self) -> tf.DType:
        return self.shelf.specs[self.place].dtype

    def value(self) -> tf.Tensor:
        """The tensor.

        Raises:
            RuntimeError: a later call has changed it.
        """
        if self.turn != self.shelf.turn:
            raise RuntimeError("what a call left was asked for after the next call")
        return _read(self.shelf.handles[self.place], self.dtype)

    def numpy(self) -> np.ndarray:
        return self.value().numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(np.asarray(self.value()), dtype, copy=copy)  # TensorFlow's own `numpy` copies

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        value = self.value()
        return value if dtype in (None, value.dtype) else tf.convert_to_tensor(value, dtype, name=name)


def _variable(spec: tf.TensorSpec, value: tf.Tensor) -> tf.Tensor:
    """A variable's handle; the variable lives as long."""
    raw: Any = tf.raw_ops
    # Not a `tf.Variable`: strategies would make one for each of their replicas.
    handle = raw.VarHandleOp(dtype=spec.dtype, shape=spec.shape, shared_name=context.anonymous_name())
    _write(handle, value)
    return handle


def _bytes(spec: tf.TensorSpec) -> int:
    return spec.dtype.size * (spec.shape.num_elements() or 0)


def _apart(specs: Sequence[tf.TensorSpec]) -> list[tf.Tensor]:
    """Zeros. On a CPU those of one shape lie at places that it does not mistake for each other.

    It compares the last twelve bits of addresses first: what is read a little behind (in these bits) what was
    just written waits for it. Parameters and momentum of 100 coordinates and 256 lanes took 6.5 to 7.6 ms for
    1,000 steps, by where the allocator had put them.
    """
    found: list[tf.Tensor] = []
    turned_down = []  # held meanwhile, or the allocator would offer the same again
    for spec in specs:
        alike = (each for each in found if each.shape == spec.shape and each.dtype == spec.dtype)
        beside = list(alike) if _bytes(spec) <= LARGE else []  # not to hold many of them
        zeros = tf.zeros(spec.shape, spec.dtype)
        for _ in range(TRIES):
            if "CPU" not in zeros.device or all(_told_apart(zeros, each) for each in beside):
                break
            turned_down += [zeros, tf.zeros([NEAR // 2])]
            zeros = tf.zeros(spec.shape, spec.dtype)
        found.append(zeros)
    return found


def _told_apart(a: tf.Tensor, b: tf.Tensor) -> bool:
    gap = (np.asarray(a).ctypes.data - np.asarray(b).ctypes.data) % PAGE
    return gap == 0 or NEAR <= gap <= PAGE - NEAR


def _read_as(handle: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """What a variable holds, for a graph that is being traced: which shape it has only its maker knows."""
    value = nodes.make("ReadVariableOp", [handle], dtype=spec.dtype)[0]
    value.set_shape(spec.shape)
    return value


def _read(handle: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)


def _write(handle: tf.Tensor, value: Any) -> Any:
    return tf.raw_ops.AssignVariableOp(resource=handle, value=value)
