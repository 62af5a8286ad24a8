"""From one run to many: mapping single-run maths over lanes, and how lanes are laid out in memory.

Two layouts. *Trailing*: a parameter of shape [n] is kept as [n, lanes], so that neighbouring lanes are
neighbours in memory and the maths of small functions becomes plain SIMD over lanes (measured 1.7 to 2.0
times faster than [lanes, n] for Adam on Rosenbrock). *Leading*: [lanes, ...], what a library's products of
matrices want. TensorFlow's vectorizer has lanes first whatever the layout; `harness.lanes_last` has not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.ops.parallel_for import pfor

from harness import nodes, runtime
from harness.convolutions import KINDS, teach_vectorizer
from harness.static import FLOW

Nest = Any

TRAILING_LIMIT = 32
# Above this many numbers a run's parameters are those of a network rather than a point in space.
POINT_LIMIT = 256


def trailing_layout(params: Nest) -> bool:
    """Whether a run's parameters are small vectors, which go lanes-last."""
    return _vectors_up_to(params, TRAILING_LIMIT)


def is_network(params: Nest) -> bool:
    """Whether a run's parameters are matrices, or too many for a point in space."""
    return not _vectors_up_to(params, POINT_LIMIT)


def _vectors_up_to(params: Nest, limit: int) -> bool:
    leaves = tf.nest.flatten(params)
    size = sum(leaf.shape.num_elements() for leaf in leaves)
    return size <= limit and all(leaf.shape.rank <= 1 for leaf in leaves)


def _rotate(leaf: tf.Tensor, *, first_to_last: bool) -> tf.Tensor:
    rank = leaf.shape.rank or 0
    if rank < 2:
        return leaf
    axes = [*range(1, rank), 0] if first_to_last else [rank - 1, *range(rank - 1)]
    return tf.transpose(leaf, axes)


def store(nest: Nest, trailing: bool) -> Nest:
    """[lanes, ...] → the memory layout."""
    if not trailing:
        return nest
    return tf.nest.map_structure(lambda leaf: _rotate(leaf, first_to_last=True), nest)


def load(nest: Nest, trailing: bool) -> Nest:
    """The memory layout → [lanes, ...]."""
    if not trailing:
        return nest
    return tf.nest.map_structure(lambda leaf: _rotate(leaf, first_to_last=False), nest)


def unknown_zero(count: tf.Tensor) -> tf.Tensor | None:
    """A zero for `opaque` that no compiler knows for one; None where `opaque` has nothing to gain.

    Args:
        count: an int32 scalar that is never negative, which the program reads from memory.
    """
    return None if runtime.MASKED_STORES else tf.minimum(count, 0)


def opaque(nest: Nest, zero: tf.Tensor | None) -> Nest:
    """The same numbers, to the bit. For the second choice of a selection that is stored where they lie: LLVM
    no longer sees that they do, and stores whole vectors (`harness.runtime.MASKED_STORES`).

    Args:
        zero: of `unknown_zero`. None: they stay as they are.
    """

    def same(x: tf.Tensor) -> tf.Tensor:
        kind = {4: tf.int32, 8: tf.int64}.get(x.dtype.size)  # there are no others
        if zero is None or kind is None or not (x.dtype.is_floating or x.dtype.is_integer):
            return x
        bits = tf.bitwise.bitwise_xor(tf.bitcast(x, kind), tf.cast(zero, kind))
        return tf.bitcast(bits, x.dtype)

    return tf.nest.map_structure(same, nest)


def select(mask: tf.Tensor, new: Nest, old: Nest, trailing: bool) -> Nest:
    """Per lane: `new` where `mask` [lanes] is true, else `old`; leaves in the memory layout."""

    def pick(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        rank = a.shape.rank or 0
        shape = [1] * (rank - 1) + [-1] if trailing else [-1] + [1] * (rank - 1)
        return nodes.where(nodes.reshape(mask, shape) if rank > 1 else mask, a, b)

    return tf.nest.map_structure(pick, new, old)


def choose(mask: tf.Tensor, new: Nest, old: Nest) -> Nest:
    """`new` of a single run where `mask`, a scalar, is true, else `old`; and what the graph has made of `new`
    it makes of the choice.

    For a state that parameters are made of: XLA would make it once more for them, from a copy of the whole
    state before the update. Where `mask` is false, what was made of `new` means nothing.

    Args:
        mask: made in the graph before the update, and after all that the update reads.
        new, old: leaves of one structure.
    """

    def readers(a: tf.Tensor) -> list[tuple[Any, int]]:
        if a.graph is not mask.graph or a.op._id <= mask.op._id:
            return []  # nothing that is made here: what else reads it must have it as it is
        return [(op, i) for op in a.consumers() for i, read in enumerate(op.inputs) if read is a]

    news = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(new)]
    reading = [readers(leaf) for leaf in news]  # before there are choices, which read it too
    choices = [nodes.where(mask, a, b) for a, b in zip(news, tf.nest.flatten(old), strict=True)]
    for places, choice in zip(reading, choices, strict=True):
        for op, i in places:
            op._update_input(i, choice)
    return tf.nest.pack_sequence_as(new, choices)


def subtract(a: Nest, b: Nest) -> Nest:
    return tf.nest.map_structure(lambda x, y: x - y, a, b)


def materialize(nest: Nest) -> Nest:
    """Keeps XLA from computing these values again in every fusion that reads them.

    XLA's CPU backend fuses producers into each consumer, so that a loss read by seven masks is computed
    seven times. Only inside `jit_compile=True`.
    """
    leaves = tf.nest.flatten(nest)
    return tf.nest.pack_sequence_as(nest, nodes.barrier(leaves))


def in_kernels(i: tf.Tensor) -> tf.Tensor:
    """The index of a loop's round, 0 or more, through an operation that keeps XLA from making one function of
    the loop: it would compile matrix products as plain loops there, 12 to 30 times slower.

    XLA's CPU backend can do that to every loop that it takes for small and in which nothing is sorted (its
    `SmallWhileLoopHoistingPass`).
    """
    return tf.sort(tf.stack([i, -1]))[1]


class Lane:
    """A function of one lane, traced, whose operations TensorFlow's vectorizer makes for all lanes.

    Args:
        fn: of `args` and `shared`.
        args: leaves as of all lanes, [lanes, ...]; their specifications will do.
        shared: what all lanes see.
        tiles: see `map_lanes`.

    Attributes:
        graph: of one lane.
        own: its inputs that each lane has of its own.
    """

    def __init__(self, fn: Callable[..., Nest], args: Nest, shared: Nest = (), tiles: Any = None):
        _teach()
        leaves = tf.nest.flatten(args)
        self.tiles, self.count = tiles, leaves[0].shape[0]
        like: list[Nest] = []

        def flat(*leaves: tf.Tensor) -> list[tf.Tensor]:
            like.append(fn(*tf.nest.pack_sequence_as((*args, *shared), leaves)))
            return [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(like[0])]

        ones = [tf.TensorSpec(leaf.shape[1:], leaf.dtype) for leaf in leaves]
        self.graph: Any = nodes.inner_graph("lane", flat, [*ones, *tf.nest.flatten(shared)])
        self.own, self.like = self.graph.inputs[: len(leaves)], like[0]
        self.operations: Sequence[Any] = self.graph.get_operations()
        self.stateful = any(op._is_stateful for op in self.operations)
        if tiles is not None:
            tiles.look(self.operations, self.own)
        with self.graph.as_default():
            self._index = tf.compat.v1.placeholder_with_default(0, [])  # which lane: nobody asks

    def of_all(
        self,
        wanted: Sequence[tf.Tensor],
        args: Nest,
        shared: Nest = (),
        known: Iterable[tuple[tf.Tensor, tf.Tensor]] = (),
    ) -> list[tf.Tensor]:
        """Tensors of the lane's graph, for all lanes, [lanes, ...].

        Args:
            args, shared: as they were said to be.
            known: of further tensors of that graph, what they are for all lanes.
        """
        graph, seen = self.graph, tf.nest.flatten(shared)
        converter: Any = pfor.PFor(self._index, self.count, self.operations, fallback_to_while_loop=False)
        converter.tiles = self.tiles
        for inner, outer in [*zip(self.own, tf.nest.flatten(args), strict=True), *known]:
            converter._add_conversion(inner, pfor.wrap(outer, True))
        inside = [*graph.inputs[len(self.own) :][: len(seen)], *graph.internal_captures]
        for inner, outer in zip(inside, [*seen, *graph.external_captures], strict=True):
            converter._add_conversion(inner, pfor.wrap(outer, False))
        return [converter.convert(tensor) for tensor in wanted]


def map_lanes(fn: Callable[..., Nest], args: Sequence[Nest], tiles: Any = None) -> Nest:
    """`fn` for every lane at once; every leaf of `args` and of the result is [lanes, ...].

    Args:
        tiles: makes the products (`harness.tiles.Tiles`); None: they are left to XLA.

    Raises:
        ValueError: an operation in `fn` cannot be vectorised (no sequential fallback here).
    """
    _teach()
    if tf.executing_eagerly() or not tf.nest.flatten(tuple(args)):
        if tiles is not None:
            tiles.foreign = True
        return _map_lanes(fn, args)
    lane = Lane(fn, tuple(args), tiles=tiles)
    if lane.stateful:
        return _map_lanes(fn, args)  # which keeps side effects
    return tf.nest.pack_sequence_as(lane.like, lane.of_all(lane.graph.outputs, args))


def _half_square(pfor_input: Any) -> list[Any]:
    """A penalty on weights: half of each lane's sum of squares."""
    value = pfor_input.stacked_input(0)
    return [pfor.wrap(tf.reduce_sum(value * value, range(1, value.shape.rank)) / 2, True)]


def _scatter(pfor_input: Any) -> list[Any]:
    """The gradient of what was picked: places begin with a lane's number."""
    pfor_input.stack_inputs()
    places, rows, shape = (pfor_input.stacked_input(i) for i in range(3))
    lanes = tf.range(tf.shape(places)[0], dtype=places.dtype)
    lane = tf.reshape(lanes, [-1] + [1] * (places.shape.rank - 1))
    at = tf.concat([tf.broadcast_to(lane, [*tf.unstack(tf.shape(places)[:-1]), 1]), places], -1)
    whole = tf.concat([tf.shape(places, places.dtype)[:1], shape[0]], 0)
    return [pfor.wrap(tf.scatter_nd(at, rows, whole), True)]


# What TensorFlow's vectorizer does not know.
UNKNOWN: Mapping[str, Callable[[Any], list[Any]]] = {"L2Loss": _half_square, "ScatterNd": _scatter}


def _teach() -> None:
    """Has TensorFlow's vectorizer know what it does not."""
    teach_vectorizer()
    for kind, converter in UNKNOWN.items():
        pfor._pfor_converter_registry.setdefault(kind, converter)


def map_one(fn: Callable[..., Nest], args: Sequence[Nest], *, xla: bool, tiles: Any = None) -> Nest:
    """`map_lanes` of one lane: there is nothing to lift, and nothing has to have a vectorised form.

    Convolutions are lifted all the same where XLA compiles them for a CPU: it makes plain loops of their
    gradients, 4 to 22 times slower than patches and products of matrices. So are products for `tiles`.
    """
    graph: Any = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    known = len(graph.get_operations()) if graph else 0
    one = [tf.nest.map_structure(lambda leaf: leaf[0], nest) for nest in args]
    made = tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf)[None], fn(*one))
    if not (graph and xla) or tf.config.list_physical_devices("GPU"):
        return made
    operations = graph.get_operations()[known:]
    kinds = {op.type for op in operations}
    has_products = tiles is not None and tiles.look(operations, tf.nest.flatten(one))
    if not (has_products or kinds & {*KINDS}) or kinds & FLOW:  # what becomes of a loop, XLA may not compile
        return made
    try:
        return map_lanes(fn, args, tiles)
    except Exception:  # of TensorFlow's, for something else that has no vectorised form
        if tiles is not None:
            tiles.foreign = True
        return made


def _map_lanes(fn: Callable[..., Nest], args: Sequence[Nest]) -> Nest:
    """`map_lanes` by TensorFlow's own function, which traces as much again for its own sake."""
    # Traced as it is written: AutoGraph would parse and rewrite the source of every rule first.
    plain = tf.autograph.experimental.do_not_convert(lambda packed: fn(*packed))
    return tf.vectorized_map(plain, tuple(args), fallback_to_while_loop=False)


def map_in_turn(fn: Callable[..., Nest], elements: Nest, signature: Nest) -> Nest:
    """`tf.map_fn`, which leaves a mark on TensorFlow's variable scope where `fn` raises: no strategy of the
    process could make variables after that."""
    scope: Any = tf.compat.v1.get_variable_scope()
    device = scope.caching_device
    try:
        return tf.map_fn(fn, elements, fn_output_signature=signature)
    finally:
        if not tf.executing_eagerly():  # where it makes none, and takes none
            scope.set_caching_device(device)


def map_groups(
    fn: Callable[..., Nest], args: Sequence[Nest], shared: Nest, groups: int, width: int, tiles: Any = None
) -> Nest:
    """`fn(*lane_args, group_arg)` for `groups` × `width` lanes; leaves of `shared` are [groups, ...].

    With one group all lanes see one tensor, so that a product with it is one large product. With more,
    each lane gets its group's copy: a map inside a map would share it too, and ran no faster for twice the
    tracing and compiling (measured on a perceptron, 8 groups of 16 lanes).
    """
    if groups == 1:
        one = tf.nest.map_structure(lambda leaf: leaf[0], shared)
        return map_lanes(lambda *lane: fn(*lane, one), args, tiles)
    copies = tf.nest.map_structure(lambda leaf: tf.repeat(leaf, width, axis=0), shared)
    return map_lanes(fn, [*args, copies], tiles)
