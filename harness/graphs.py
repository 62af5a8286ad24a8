"""Traced functions, kept on disk: a process reads the graph that an earlier one traced.

Tracing takes longer than all else of a small program once XLA's own cache is filled, and Python traces one
program at a time. What is kept is TensorFlow's own protocol buffer: a `GraphDef` whose library holds the
function and those that it calls, and whose nodes are the values that it closed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import ops

from harness import bridge, tracing
from harness.runtime import cache_folder, stable_names, versions
from harness.types import digest

Nest = Any

# What zeros and ones for all lanes are made by.
PURE = {
    *("BroadcastTo", "Cast", "ConcatV2", "Const", "ExpandDims", "Fill"),
    *("Identity", "Pack", "Reshape", "Tile", "Transpose"),
}
PACKAGES = ("harness", "optimizers", "workloads")


@dataclass(frozen=True)
class Place:
    """Where the graphs of a program are kept.

    Args:
        key: hexadecimal, one for each program: TensorFlow's names within its graphs are made of it.
        folder: None: graphs are named by the key and not kept.
    """

    key: str
    folder: Path | None

    @classmethod
    def of(cls, key: str, decides: Sequence[Any]) -> Place:
        """A place in the user's cache.

        Args:
            decides: all that the graphs depend on beside this project's code and its libraries' versions.
        """
        name = digest([_code(), versions(), key, [repr(part) for part in decides]])
        return cls(key, cache_folder() / "graphs" / name)


class Graph:
    """A function over nests of tensors, traced at its first call, or read where that was done before.

    Args:
        fn: what is traced; all its arguments and what it returns are nests of tensors.
        like: a nest in the structure of what it returns.
        jit: compile with XLA.
        name: of the function, among those of its place.
        place: None: it is traced anew in every process, and named by TensorFlow.
    """

    def __init__(
        self, fn: Callable[..., Nest], like: Nest, *, jit: bool, name: str, place: Place | None = None
    ):
        self.fn, self.like, self.jit, self.name, self.place = fn, like, jit, name, place
        self.fixed = False  # whether what it returns is the same whatever it is given; known after a call
        self._call: Callable[[list[tf.Tensor]], Sequence[tf.Tensor]] | None = None
        self._pack = packer(like)

    def __call__(self, *args: Nest) -> Nest:
        if not tf.nest.flatten(self.like):
            return self.like
        return self._pack(iter(self._made(args)(flat_tensors(args))))

    def prepare(self, *args: Nest) -> None:
        """Traces it, or reads it; XLA compiles it at the first call."""
        self._made(args)

    def _made(self, args: Nest) -> Callable[[list[tf.Tensor]], Sequence[tf.Tensor]]:
        if self._call is None:
            self._call = self._read() or self._trace(args, flat_tensors(args))
        return self._call

    def _trace(self, args: Nest, flat: list[tf.Tensor]) -> Callable[[list[tf.Tensor]], Any]:
        # To put side effects in order, in the bodies of loops too, is an eighth of tracing. This project's
        # rules have none; a plug-in's may.
        made = self._traced(args, flat, in_order=not self.jit)
        if self.jit and self._file is None and _has_effects(made.graph, len(flat)):
            made = self._traced(args, flat, in_order=True)
        self.fixed = _is_fixed(made.definition, len(flat))
        functions = [made.definition]  # which TensorFlow has, and what it calls
        if self._file is not None or self.jit:
            functions = _functions(made, jit=self.jit)
        if self._file is not None:
            _write(functions, made.closed_over, self._file)
        # Read back, where it was kept, so that this process calls what the next one will. Else the graph is
        # kept with what it closes over: those of Python's functions that it calls live as long as it does.
        return self._read() or _called(functions, lambda: made.closed_over)

    def _traced(self, args: Nest, flat: list[tf.Tensor], *, in_order: bool) -> Any:
        """The traced function.

        Args:
            in_order: operations with side effects in the bodies of loops are run, and one after another.
        """

        def on_flat(*leaves: tf.Tensor) -> list[tf.Tensor]:
            out = self.fn(*tf.nest.pack_sequence_as(args, leaves))
            tf.nest.assert_same_structure(self.like, out)
            return [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(out)]

        names = contextlib.nullcontext()
        if self.place is not None:
            names = stable_names(digest([self.place.key, self.name, *["in order"] * in_order]))
        with names:
            if not in_order:
                return tracing.function(on_flat, flat)
            made = tf.function(on_flat, jit_compile=self.jit, autograph=False).get_concrete_function(*flat)
            return tracing.Function(made.graph, made.function_def)

    @property
    def _file(self) -> Path | None:
        return self.place.folder / self.name if self.place and self.place.folder else None

    def _read(self) -> Callable[[list[tf.Tensor]], Any] | None:
        """The function from its file; None where there is none that can be read."""
        if self._file is None:
            return None
        try:
            kept = tf.compat.v1.GraphDef.FromString(self._file.read_bytes())
            main = kept.library.function[0]
            closed = [tf.constant(tf.make_ndarray(node.attr["value"].tensor)) for node in kept.node]
            self.fixed = _is_fixed(main, len(main.signature.input_arg) - len(closed))
        except Exception:  # absent, cut short, of another format: it is traced again
            return None
        return _called(kept.library.function, lambda: closed)


class Beside:
    """Something that is compiled once, whoever asks first, in a thread of its own.

    Args:
        work: compiles it.
    """

    def __init__(self, work: Callable[[], Any]):
        self.work = work
        self.future: Future[None] | None = None
        self._lock = threading.Lock()

    def begin(self, run: Callable[[Callable[[], None]], Any]) -> Future[None]:
        """Begins, or has begun.

        Args:
            run: calls a function where the program runs, in any thread.
        """
        with self._lock:
            if self.future is None:
                thread = ThreadPoolExecutor(1)
                self.future = thread.submit(run, self.work)
                thread.shutdown(wait=False)
        return self.future


def _has_effects(graph: Any, given: int) -> bool:
    """Whether operations have side effects other than on variables that are among the first `given`
    arguments."""
    known = {id(tensor) for tensor in graph.inputs[:given] if tensor.dtype == tf.resource}

    def has(op: Any) -> bool:
        return op._is_stateful and not (op.inputs and id(op.inputs[0]) in known)

    return any(has(op) for op in graph.get_operations())


def flat_tensors(nest: Nest) -> list[tf.Tensor]:
    # To ask first takes a fiftieth of converting what is a tensor already, and a fifth of what says how.
    return [leaf if isinstance(leaf, tf.Tensor) else _tensor(leaf) for leaf in tf.nest.flatten(nest)]


def tensor(value: Any) -> tf.Tensor:
    """As `tf.constant` of an array or a number of NumPy's, without its copy and its look at what it is given:
    nobody may change the array after this, whose memory it may be."""
    here: Any = context.context()
    here.ensure_initialized()
    return ops.EagerTensor(np.asarray(value, order="C"), here.device_name, None)


def _tensor(leaf: Any) -> tf.Tensor:
    says_how = getattr(leaf, "__tf_tensor__", None)
    if says_how is not None:
        return says_how()
    make: Any = tensor if _is_numpys(leaf) and tf.executing_eagerly() else tf.convert_to_tensor
    return make(leaf)


def _is_numpys(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | np.generic)


def _functions(made: Any, *, jit: bool) -> list[Any]:
    """A traced function and those that it calls, it first, with names of their own.

    Args:
        jit: whether XLA compiles them.
    """
    functions = [made.definition, *made.graph.as_graph_def().library.function]
    _rename(functions)
    if jit:
        for function in functions:
            bridge.reword(function)
    while any(map(_another, functions)):  # a plug-in's file may have changed since
        _rename(functions)
    return functions


def _another(function: Any) -> bool:
    """Whether there is a function of this name that does something else."""
    here: Any = context.context()
    name = function.signature.name
    return here.has_function(name) and here.get_function_def(name) != function


def _called(
    functions: Sequence[Any], closed: Callable[[], Sequence[tf.Tensor]]
) -> Callable[[list[tf.Tensor]], Any]:
    """Calls the first of these functions, with what it closes over, without TensorFlow's look at every
    argument: half a millisecond less."""
    here: Any = context.context()
    for function in functions:
        if not here.has_function(function.signature.name):
            here.add_function_def(function)
    name, outputs = functions[0].signature.name.encode(), len(functions[0].signature.output_arg)
    return lambda leaves: here.call_function(name, [*leaves, *closed()], outputs)


def _is_fixed(function: Any, given: int) -> bool:
    """Whether a function (a `FunctionDef`) makes all that it returns of constants: of none of its first
    `given` arguments, and by operations that do the same at every call."""
    arguments = {argument.name for argument in function.signature.input_arg[:given]}
    nodes = {node.name: node for node in function.node_def}
    waiting, seen = [_source(output) for output in function.ret.values()], set()
    while waiting:
        name = waiting.pop()
        if name in arguments or (name in nodes and nodes[name].op not in PURE):
            return False
        if name not in seen and name in nodes:
            waiting += [_source(each) for each in nodes[name].input]
        seen.add(name)
    return True


def _source(name: str) -> str:
    """The node, or the argument, that an input of a node of a `FunctionDef` comes from."""
    return name.removeprefix("^").partition(":")[0]


def packer(like: Nest) -> Callable[[Iterator[Any]], Nest]:
    """Makes nests in the structure of `like` from their leaves in order.

    What `tf.nest.pack_sequence_as` does, without looking at the structure again at every call.
    """
    if type(like) is dict:
        parts = {key: packer(like[key]) for key in sorted(like)}

        def pack_dict(leaves: Iterator[Any]) -> Nest:
            made = {key: part(leaves) for key, part in parts.items()}
            return {key: made[key] for key in like}

        return pack_dict
    if type(like) in (tuple, list) or (isinstance(like, tuple) and hasattr(like, "_fields")):
        rows = [packer(each) for each in like]
        make = getattr(like, "_make", type(like))  # a named tuple's
        return lambda leaves: make([row(leaves) for row in rows])
    if tf.nest.is_nested(like):  # some other kind of container
        count = len(tf.nest.flatten(like))
        return lambda leaves: tf.nest.pack_sequence_as(like, list(itertools.islice(leaves, count)))
    return next


def _write(functions: Sequence[Any], closed: Sequence[tf.Tensor], path: Path) -> None:
    """Keeps functions, the first of which closes over tensors; does nothing where these are variables, or the
    disk refuses."""
    if any(value.dtype in (tf.resource, tf.variant) for value in closed):
        return
    out = tf.compat.v1.GraphDef()
    out.library.function.extend(functions)
    for i, value in enumerate(closed):
        node = out.node.add(name=f"closed_over_{i}", op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.numpy()))
    with contextlib.suppress(OSError):  # it costs time in the next process, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(out.SerializeToString())
        Path(name).replace(path)


def _rename(functions: Sequence[Any]) -> None:
    """New names for functions that call each other: TensorFlow forgets the traced ones with their trace."""
    new = {f.signature.name: f"{f.signature.name}_kept" for f in functions}
    for function in functions:
        function.signature.name = new[function.signature.name]
        for node in function.node_def:
            node.op = new.get(node.op, node.op)
            for value in node.attr.values():
                kind = value.WhichOneof("value")
                if kind in ("func", "list"):
                    for called in [value.func] if kind == "func" else value.list.func:
                        called.name = new.get(called.name, called.name)


@cache
def _code() -> str:
    """Hash of this project's own code."""
    found = hashlib.blake2b(digest_size=16)
    root = Path(__file__).resolve().parents[1]
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()
