"""Matrix products and reductions of many lanes with lanes last, written out as sums of whole vectors.

A vector register holds one number of sixteen runs, and a product is a loop over its inner dimension in which
whole vectors are multiplied and added. XLA makes plain loops of that, as of all else in a step: no library is
called, nothing is spread over threads, and a thread keeps its tile to itself. Most of what a product of small
matrices costs as a call of a library is the call.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice

from harness import nodes

Nest = Any
Join = Callable[[list[tf.Tensor]], tf.Tensor]

TERMS = 12  # of a round, at most: sums are read and written once a round
FEWEST = 8  # of many: each term is code of its own
LONG = 32  # numbers of a product that are made by themselves, in a round of a loop
SHORT = 4  # of a row, where they are sums of more than two terms: of several rows then
WINDOW = 32  # XLA sums more numbers than that in windows, an order of magnitude slower
VECTOR_BYTES = 64  # of the widest registers
APART = 512  # numbers that lie side by side in a sum over all of them
FEW = 4096  # numbers, of which a sum is quick however XLA makes it
CHAINS = 2  # sums of a round that do not wait for each other: more would have to be put together, too


def exact(op: Any) -> bool:
    """Whether an operation's sums may be written out: its numbers are real, of single or double precision, in
    which they would be summed, and there are any."""
    numbers = [*op.outputs, *(x for x in op.inputs if x.dtype.is_floating or x.dtype.is_complex)]
    precise = all(x.dtype in (tf.float32, tf.float64) for x in numbers)
    return precise and all(x.shape.num_elements() for x in numbers)


def product(
    a: tf.Tensor, b: tf.Tensor, inner: tuple[int, int] = (1, 0), onto: tf.Tensor | None = None
) -> tf.Tensor:
    """a @ b of every lane: [m, k, lanes or 1] and [k, n, lanes or 1] → [m, n, lanes].

    Args:
        a, b: at least one of the two has lanes.
        inner: the axis k of each, 0 or 1.
        onto: what it is added to, [m, n, lanes].
    """
    # One factor's vectors stay in registers while the other's pass by: what all lanes share, or the shorter
    # one, which fits the first-level cache.
    rows, columns = _size(a, 1 - inner[0]), _size(b, 1 - inner[1])
    passes_a = a.shape[2] == 1 or (b.shape[2] != 1 and rows < columns)
    stay, passing = (b, a) if passes_a else (a, b)
    axes = (inner[1], inner[0]) if passes_a else inner
    if rows_apart(_size(stay, axes[0]), _size(stay, 1 - axes[0]), _size(passing, 1 - axes[1])):
        return _row_by_row(stay, passing, axes, onto, turned=passes_a)
    out = _in_rounds(stay, passing, axes)
    out = tf.transpose(out, [1, 0, 2]) if passes_a else out
    return out if onto is None else nodes.add(out, onto)


def _in_rounds(stay: tf.Tensor, passing: tf.Tensor, axes: tuple[int, int]) -> tf.Tensor:
    """[rows of `stay`, rows of `passing`, lanes]: all of it is read and written once a round.

    Args:
        axes: of the terms, in each.
    """

    def some(begin: Any, count: int, *before: tf.Tensor) -> tf.Tensor:
        # Brought into shape one by one: all at once takes less tracing, and 1.1 times as long to run.
        x = _factors(stay, axes[0], 1, begin, count)
        y = _factors(passing, axes[1], 0, begin, count)
        return total([*before, *multiplied(x, y)])

    return _summed(some, *rounds_of(_size(stay, axes[0])))


def _summed(some: Callable[..., tf.Tensor], first: int, each: int, rounds: int) -> tf.Tensor:
    """A sum in rounds; see `rounds_of`.

    Args:
        some: the first term, how many, and what comes before them, if anything does → their sum.
    """
    out = some(0, first)
    if rounds:
        last = first + rounds * each
        (out,) = nodes.repeat(lambda k, out: [some(k, each, out)], [out], last, first, each)
    return out


def _row_by_row(
    stay: tf.Tensor, passing: tf.Tensor, axes: tuple[int, int], onto: tf.Tensor | None, *, turned: bool
) -> tf.Tensor:
    """As `_in_rounds`, of a few terms: a row of `stay` after another, or a few where they are short, each
    written once.

    In a loop, so that it is in memory: XLA would compute a sum of a few terms wherever it is read.

    Args:
        onto: see `product`.
        turned: whether what is made is [rows of `passing`, rows of `stay`, lanes].
    """
    rows, columns, terms = _size(stay, 1 - axes[0]), _size(passing, 1 - axes[1]), _size(stay, axes[0])
    lanes = max(_size(stay, 2), _size(passing, 2))
    each = _rows_at_once(rows, columns)
    shape, some = [[r, columns, lanes] for r in (rows, each)]
    if turned:
        shape, some = ([c, r, n] for r, c, n in (shape, some))
    across = turned and each > 1  # a single row is made as [row, columns] and turned: its factors stay

    def body(k: tf.Tensor, out: tf.Tensor) -> tf.Tensor:
        first = nodes.multiply(k, each) if each > 1 else k
        own = _factors(_cut(stay, 1 - axes[0], first, each), axes[0], 0 if across else 1, 0, terms)
        # From 0 on, which XLA must not know: it would take the factors apart before the loop.
        others = _factors(passing, axes[1], 1 if across else 0, nodes.minimum(k, 0), terms)
        made, place = (
            total(multiplied(own, others)),
            nodes.stack_of([0, first, 0] if turned else [first, 0, 0]),
        )
        made = nodes.reshape(made, some) if turned and not across else made
        if onto is not None:
            made = nodes.add(nodes.cut(out, place, some), made)
        return dynamic_update_slice(out, made, place)

    return nodes.written(body, shape, stay.dtype, rows // each, onto)


def _rows_at_once(rows: int, columns: int) -> int:
    """How many rows of a product are made in a round, of which there are two or more."""
    cuts = [n for n in range(1, rows) if rows % n == 0]
    return next((n for n in cuts if n * columns >= LONG), cuts[-1])


def stack_of_products(a: tf.Tensor, b: tf.Tensor, inner: tuple[int, int] = (2, 1)) -> tf.Tensor:
    """a[i] @ b[i] of every lane: [stack, m, k, lanes or 1], [stack, k, n, lanes or 1] → [stack, m, n, lanes].

    Args:
        a, b: at least one of the two has lanes, and one of them may have a stack of one.
        inner: the axis k of each, 1 or 2.
    """
    terms, stack = _size(a, inner[0]), max(_size(a, 0), _size(b, 0))
    rows, columns = _size(a, 3 - inner[0]), _size(b, 3 - inner[1])

    def some(x: tf.Tensor, y: tf.Tensor, begin: Any, count: int, *before: tf.Tensor) -> tf.Tensor:
        own, others = _factors(x, inner[0], 2, begin, count), _factors(y, inner[1], 1, begin, count)
        return total([*before, *multiplied(own, others)])

    if terms > TERMS:
        return _summed(functools.partial(some, a, b), *rounds_of(terms))
    if stack == 1 or rows * columns < LONG:
        return some(a, b, 0, terms)
    shape = [stack, rows, columns, max(_size(a, 3), _size(b, 3))]

    def one(k: tf.Tensor, out: tf.Tensor) -> tf.Tensor:  # in a loop, as in `_row_by_row`
        x, y = (_cut(each, 0, k, 1) if _size(each, 0) > 1 else each for each in (a, b))
        return dynamic_update_slice(out, some(x, y, 0, terms), nodes.stack_of([k, 0, 0, 0]))

    return nodes.written(one, shape, a.dtype, stack)


def _size(value: tf.Tensor, axis: int) -> int:
    size = value.shape[axis]
    assert size is not None, "shapes are known while tracing"
    return size


def _parts(value: tf.Tensor, axis: int, begin: Any, count: int) -> list[tf.Tensor]:
    """`count` slices of a tensor along an axis, from `begin` on."""
    return nodes.unstack(_cut(value, axis, begin, count), axis)


def _cut(value: tf.Tensor, axis: int, begin: Any, count: int) -> tf.Tensor:
    starts = [0] * axis + [begin] + [0] * (value.shape.rank - axis - 1)
    return nodes.cut(value, starts, [*value.shape[:axis], count, *value.shape[axis + 1 :]])


def _factors(value: tf.Tensor, axis: int, place: int, begin: Any, count: int) -> list[tf.Tensor]:
    """As `_parts` of [..., a, b, lanes] along one of these two axes, with an axis of one at `place`."""
    parts = nodes.split(_cut(value, axis, begin, count), count, axis)
    if axis == place:
        return parts
    shape: Any = value.shape.as_list()
    del shape[axis]
    shape.insert(place, 1)
    return [nodes.reshape(part, shape) for part in parts]


def fold(value: tf.Tensor, axis: int, join: Join) -> tf.Tensor:
    """Reduces an axis of [..., lanes] to nothing, whole vectors of lanes at a time.

    XLA's own reductions are vectorised along the axis that is reduced, and those over more than 32 numbers in
    windows, an order of magnitude slower.
    """
    size = _size(value, axis)
    if size <= TERMS:
        return join(nodes.unstack(value, axis))
    first, each, _ = rounds_of(size)

    def body(k: tf.Tensor, out: tf.Tensor) -> list[tf.Tensor]:
        return [join([out, *_parts(value, axis, k, each)])]

    return nodes.repeat(body, [join(_parts(value, axis, 0, first))], size, first, each)[0]


def folded(value: tf.Tensor, axes: Sequence[int], join: Join) -> tf.Tensor:
    """Reduces axes of [..., lanes] to nothing, those that lie side by side as one: a sum over all places of
    maps reads each once, whereas axis by axis XLA would compute them again wherever they are read.

    Args:
        axes: ascending, none negative.

    Returns:
        What is left, without axes of size one that lie beside those.
    """
    left = [*axes]
    while left:
        first = last = left.pop()
        sizes: Any = value.shape.as_list()
        while first and (sizes[first - 1] == 1 or left[-1:] == [first - 1]):
            first -= 1
            if left[-1:] == [first]:
                left.pop()
        if first < last:
            many = math.prod(sizes[first : last + 1])
            value = nodes.reshape(value, [*sizes[:first], many, *sizes[last + 1 :]])
        long = _size(value, first) > TERMS**2
        value = (_fold_in_steps if long else fold)(value, first, join)
    return value


def _fold_in_steps(value: tf.Tensor, axis: int, join: Join) -> tf.Tensor:
    """As `fold`, of many numbers in steps of a few: a long sum in one chain is less exact."""
    size = _size(value, axis)
    few = next(d for d in range(min(size, TERMS), size + 1) if size % d == 0)
    if few == size:
        return fold(value, axis, join)
    apart = size // few
    first, each, _ = rounds_of(few)  # more than one: few is TERMS or more

    def some(k: Any, count: int) -> list[tf.Tensor]:
        return nodes.split(_cut(value, axis, nodes.multiply(k, apart), count * apart), count, axis)

    def body(k: Any, out: tf.Tensor) -> list[tf.Tensor]:
        return [join([out, join(some(k, each))])]

    (out,) = nodes.repeat(body, [join(some(0, first))], few, first, each)
    return _fold_in_steps(out, axis, join)


def rounds_of(terms: int) -> tuple[int, int, int]:
    """How a sum is made: of how many terms at first, and then of how many in each of how many rounds.

    The first is code of its own, and all that a round adds is code: as few of both as can be, but for the
    fewest of a round, since each reads and writes the sum. Two rounds, or none: XLA takes a loop of one
    apart, and computes its terms wherever they are read.
    """
    if terms < 3:
        return terms, 0, 0
    if terms <= 2 * TERMS + 1:
        each = (terms - 1) // 2
        return terms - 2 * each, each, 2
    ways = [(terms - each * n, each, n) for each in range(FEWEST, TERMS + 1) for n in [(terms - 1) // each]]
    return min(ways, key=lambda way: (way[0] + way[1], way[2]))


def rows_apart(terms: int, rows: int, columns: int) -> bool:
    """Whether a product is made a row after another, or a few: of few terms, in rounds that are long enough
    for a loop of their own, and more than one, for XLA takes a loop of one round apart."""
    if terms > TERMS or rows < 2 or columns < (SHORT if terms > 2 else LONG):
        return False
    return _rows_at_once(rows, columns) * columns >= 2 * SHORT


def multiplied(x: Sequence[tf.Tensor], y: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Each of some factors with its own."""
    return [nodes.multiply(p, q) for p, q in zip(x, y, strict=True)]


def total(terms: list[tf.Tensor]) -> tf.Tensor:
    """Their sum, in a few chains."""
    chains = [terms[i::CHAINS] for i in range(min(CHAINS, len(terms)))]
    return nodes.add_n([nodes.add_n(chain) for chain in chains])


def leading_sum(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """The sum over some axes of [lanes, ...], as `tf.reduce_sum`; long ones in vectors of what lies behind.

    Args:
        axes: ascending, none of them the first.
    """
    lanes, *shape = nodes.sizes(x)
    left = [lanes, *(size for axis, size in enumerate(shape, 1) if axis not in axes)]
    count, last = math.prod(shape), len(shape)
    if count >= FEW and [*axes] == [*range(1, len(axes) + 1)]:
        rest = math.prod(left[1:])
        columns = next(n for n in range(min(count, APART), 0, -1) if count % n == 0) if rest == 1 else rest
        x = _column_sums(nodes.reshape(x, [lanes, count // columns, columns]))
        x = tf.reduce_sum(x, -1) if rest == 1 else x
    elif axes == [last] and shape[-1] > WINDOW and shape[-1] * x.dtype.size % VECTOR_BYTES == 0:
        vector = VECTOR_BYTES // x.dtype.size
        x = nodes.reshape(x, [-1, shape[-1] // vector, vector])
        x = tf.reduce_sum(_added(x) if last == 1 else folded(x, [1], total), -1)
    else:
        x = tf.reduce_sum(x, axes)
    return nodes.reshape(x, left)


def _added(x: tf.Tensor) -> tf.Tensor:
    """[lanes, rows, columns] → [lanes, columns], a row after another: in one sum all that a row is made of,
    logarithms for example, would be compiled for each of them."""
    lanes, rows, columns = nodes.sizes(x)

    def body(k: tf.Tensor, out: tf.Tensor) -> list[tf.Tensor]:
        return [nodes.add(out, nodes.reshape(nodes.cut(x, [0, k, 0], [lanes, 1, columns]), [lanes, columns]))]

    return nodes.repeat(body, [tf.zeros([lanes, columns], x.dtype)], rows)[0]


def _column_sums(x: tf.Tensor) -> tf.Tensor:
    """[lanes, rows, columns] → [lanes, columns], by a product with ones that is not looked at as a sum: of a
    single row XLA would make one."""
    lanes, rows, columns = nodes.sizes(x)
    if columns * x.dtype.size % VECTOR_BYTES or rows == 1:
        return tf.reduce_sum(x, 1)
    ones = nodes.constant(np.ones([lanes, 2, rows]), x.dtype)
    return tf.raw_ops.BatchMatMulV2(x=ones, y=x)[:, 0]


def dot(a: Nest, b: Nest, trailing: bool, dtype: tf.DType, *, vectors: bool = False) -> tf.Tensor:
    """Per lane inner product over all leaves, in the memory layout, accumulated in `dtype`: [lanes].

    Args:
        vectors: whether sums are written out with lanes first, too.
    """
    pairs = list(zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True))
    if not pairs:
        raise ValueError("A run without parameters has nothing to optimize.")
    if vectors and not trailing:
        return _leading_dot([(tf.cast(x, dtype), tf.cast(y, dtype)) for x, y in pairs])
    dots = [_dot_of_leaf(tf.cast(x, dtype), tf.cast(y, dtype), trailing) for x, y in pairs]
    if trailing:  # of all leaves by one loop, which takes a tenth of a second to compile
        return fold(tf.concat(dots, 0) if len(dots) > 1 else dots[0], 0, total)
    return functools.reduce(tf.add, dots)


def _leading_dot(pairs: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """`dot` of [lanes, ...] each: a sum for every large leaf, and one for all others."""
    flat = [tf.reshape(x * y, [x.shape[0], -1]) for x, y in pairs]
    large = [leading_sum(each, [1]) for each in flat if nodes.sizes(each)[1] >= FEW]
    small = [each for each in flat if nodes.sizes(each)[1] < FEW]
    rest = [tf.reduce_sum(tf.concat(small, 1) if len(small) > 1 else small[0], 1)] if small else []
    return functools.reduce(tf.add, [*large, *rest])


def _dot_of_leaf(x: tf.Tensor, y: tf.Tensor, trailing: bool) -> tf.Tensor:
    """[lanes]; with lanes last all products, [numbers, lanes]."""
    if trailing:
        return tf.reshape(x * y, [-1, x.shape[-1]])
    rank, lanes = len(x.shape), x.shape[0]
    if rank == 1:
        return x * y
    # As a product of matrices: a long reduction becomes a tree of windows in XLA's CPU backend, an order
    # of magnitude slower.
    size = math.prod(_size(x, axis) for axis in range(1, rank))
    return tf.matmul(tf.reshape(x, [lanes, 1, size]), tf.reshape(y, [lanes, size, 1]))[:, 0, 0]
