"""Matrix products of many lanes with lanes first, as tiles of registers that XLA compiles in place.

A library's product copies its factors side by side before it multiplies them, and is a kernel of its own, so
that all of a step is kernels. XLA's CPU backend has products of its own: a few rows by a few vectors of
columns are summed in registers, right from where the factors lie, in the function that a loop becomes. It
makes them of `a @ b` as it stands, [rows, terms] @ [terms, columns]; of what is turned it makes plain loops,
thirty times slower. So factors are turned before that, where they are, and no product is left as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice
from tensorflow.python.ops.parallel_for import pfor

from harness import nodes, products, static
from harness.contractions import BATCHED
from harness.kinds import ELEMENTWISE, IN_ONE_SHAPE, NO_PRODUCTS, OF_SHAPES, PLAIN, REDUCTIONS
from harness.runtime import tiles_compile

# Columns are rounded up to a vector, or the last few are scalars. Of those that lie side by side: rows a
# power of two apart share places in the first-level cache, and a product with 1,024 columns is half as fast
# as four with 256.
PANEL = 512
# Nanoseconds, for choosing which factor is turned: of a multiply-add, of a number turned.
PER_TERM, PER_TURN = 1 / 70, 0.4


def product(a: tf.Tensor, b: tf.Tensor, inner: tuple[int, int] = (2, 1)) -> tf.Tensor:
    """a[i] @ b[i]: [lanes, m, k], [lanes, k, n] → [lanes, m, n].

    Args:
        inner: the axis k of each, 1 or 2.
    """
    rows, columns, terms = (
        nodes.sizes(a)[3 - inner[0]],
        nodes.sizes(b)[3 - inner[1]],
        nodes.sizes(a)[inner[0]],
    )
    if terms > products.TERMS and 1 in (rows, columns):
        x = turned(a) if inner[0] == 2 else a  # [lanes, terms, rows]
        y = turned(b) if inner[1] == 2 else b
        return nodes.reshape(
            products.leading_sum(nodes.multiply(x, y), [1]), [nodes.sizes(x)[0], rows, columns]
        )
    straight = _cost(rows, columns, terms, a.dtype, [rows * (inner[0] == 1), columns * (inner[1] == 2)])
    across = _cost(columns, rows, terms, a.dtype, [rows * (inner[0] == 2), columns * (inner[1] == 1)])
    if straight <= across + PER_TURN * rows * columns:
        return _times(turned(a) if inner[0] == 1 else a, turned(b) if inner[1] == 2 else b)
    return turned(_times(b if inner[1] == 2 else turned(b), a if inner[0] == 1 else turned(a)))


def _cost(rows: int, columns: int, terms: int, dtype: tf.DType, turns: Sequence[int]) -> float:
    """Nanoseconds of a product, about.

    Args:
        turns: numbers that are turned, by term.
    """
    whole = columns if terms <= products.TERMS else _up(columns, products.VECTOR_BYTES // dtype.size)
    return terms * (PER_TERM * rows * whole + PER_TURN * sum(turns))


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def _times(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """As `product` of factors as they stand."""
    lanes, terms, columns = nodes.sizes(b)
    if terms <= products.TERMS:
        parts = zip(nodes.split(a, terms, 2), nodes.split(b, terms, 1), strict=True)
        return products.total([nodes.multiply(x, y) for x, y in parts])
    whole = _up(columns, products.VECTOR_BYTES // b.dtype.size if columns <= PANEL else PANEL // 2)
    if whole > columns:
        b = tf.pad(b, [[0, 0], [0, 0], [0, whole - columns]])
    if whole <= PANEL:
        out = tf.raw_ops.BatchMatMulV2(x=a, y=b)
    else:
        rows, panel = nodes.sizes(a)[1], PANEL // 2

        def some(k: tf.Tensor, out: tf.Tensor) -> tf.Tensor:
            begin = [0, 0, nodes.multiply(k, panel)]
            made = tf.raw_ops.BatchMatMulV2(x=a, y=nodes.cut(b, begin, [lanes, terms, panel]))
            return dynamic_update_slice(out, made, nodes.stack_of(begin))

        out = nodes.written(some, [lanes, rows, whole], b.dtype, whole // panel)
    return out if whole == columns else out[:, :, :columns]


def turned(x: tf.Tensor) -> tf.Tensor:
    """[lanes, rows, columns] → [lanes, columns, rows], in memory, a vector of rows after another.

    In a loop, or XLA would read a product's factor across its rows, or take it for one as it stands.
    """
    lanes, rows, columns = nodes.sizes(x)
    if rows == 1 or columns == 1:
        return nodes.reshape(x, [lanes, columns, rows])
    # In two rounds or more: XLA takes a loop of one apart.
    most = min(products.VECTOR_BYTES // x.dtype.size, rows // 2)
    each = next(size for size in range(most, 0, -1) if rows % size == 0)

    def some(k: tf.Tensor, out: tf.Tensor) -> tf.Tensor:
        row = nodes.multiply(k, each)
        part = nodes.cut(x, [0, row, 0], [lanes, each, columns])
        return dynamic_update_slice(out, tf.transpose(part, [0, 2, 1]), nodes.stack_of([0, 0, row]))

    return nodes.written(some, [lanes, columns, rows], x.dtype, rows // each)


def here() -> bool:
    """Whether XLA makes products of this process in tiles."""
    return tiles_compile() and not tf.config.list_physical_devices("GPU")


class Tiles:
    """Has `lift.map_lanes` make products in tiles.

    Attributes:
        foreign: whether something that may be a product was left as it was written: the loops around it must
            not become functions (`lift.in_kernels`).
    """

    def __init__(self) -> None:
        self.foreign = False
        for kind in CONVERTERS:
            _teach(kind)

    @classmethod
    def where_compiled(cls, xla: bool) -> Tiles | None:
        """None where nothing makes tiles.

        Args:
            xla: whether it compiles what is lifted.
        """
        return cls() if xla and here() else None

    def look(self, operations: Sequence[Any], own: Sequence[tf.Tensor]) -> bool:
        """Notes what is foreign of the operations of one run. Whether there are products to be made.

        Args:
            operations: in the order in which they were made.
            own: what each lane has of its own. Products of nothing that is made of it are left as written.
        """
        whole = _all_known(operations) and {*products_of(operations)} <= made_of(own, operations)
        self.foreign = self.foreign or not whole
        return whole and bool(products_of(operations))


def products_of(operations: Sequence[Any]) -> list[Any]:
    return [op for op in operations if op.type in PRODUCTS]


def _all_known(operations: Sequence[Any]) -> bool:
    """Whether nothing of this is a product that cannot be made here."""
    return all(op.type in KNOWN for op in operations) and all(map(_can, products_of(operations)))


def made_of(tensors: Sequence[tf.Tensor], operations: Sequence[Any]) -> set[Any]:
    """Those operations that read some of these tensors, or what is made of them."""
    makers, found = {tensor.op for tensor in tensors}, set()
    for op in operations:
        if any(read.op in makers for read in op.inputs):
            makers.add(op)
            found.add(op)
    return found


def suit(operations: Sequence[Any]) -> bool:
    """Whether tiles suit a loss, of one run: nothing of it is foreign, and its multiplications are in
    products of many terms with columns enough for two vectors, but for a fifth of them."""
    if not _all_known(operations):
        return False
    wide = others = 0
    for op in products_of(operations):
        *stack, rows, columns = op.outputs[0].shape.as_list()
        terms = op.inputs[0].shape[-2 if op.get_attr(TURNS[op.type]) else -1]
        count = math.prod(stack) * rows * columns * terms
        fits = columns * op.outputs[0].dtype.size >= 2 * products.VECTOR_BYTES and terms > products.TERMS
        wide, others = (wide + count, others) if fits else (wide, others + count)
    return wide > 4 * others


def _can(op: Any) -> bool:
    """Whether all runs' products of one run's can be made here."""
    if not products.exact(op) or any(not x.shape.is_fully_defined() for x in op.inputs):
        return False
    (*of_a, _, _), (*of_b, _, _) = (x.shape.as_list() for x in op.inputs)
    return of_a == of_b


def _matmul(lanes: Any, op: Any) -> tf.Tensor:
    turned_a, turned_b = op.get_attr("transpose_a"), op.get_attr("transpose_b")
    return _product_of_lanes(lanes, op, 1 if turned_a else 2, 2 if turned_b else 1)


def _batch_matmul(lanes: Any, op: Any) -> tf.Tensor:
    return _product_of_lanes(lanes, op, 1 if op.get_attr("adj_x") else 2, 2 if op.get_attr("adj_y") else 1)


def _product_of_lanes(lanes: Any, op: Any, of_a: int, of_b: int) -> tf.Tensor:
    """[lanes, ...]; what the lanes share is turned once, and one product of all their rows where that is the
    second factor.

    Args:
        lanes: the vectorizer's view of the operation.
        of_a, of_b: the axis of the terms in each.
    """
    pairs = [lanes.input(i)[:2] for i in range(2)]
    count = next(x.shape[0] for x, own in pairs if own)
    a, b = (nodes.reshape(x, [-1, *nodes.sizes(x)[-2:]]) for x, _ in pairs)
    (_, own_a), (_, own_b) = pairs
    shape = [count, *op.outputs[0].shape]
    if not own_b and b.shape[0] == 1:
        a = turned(a) if of_a == 1 else a
        flat = nodes.reshape(a, [1, -1, nodes.sizes(a)[2]])
        return nodes.reshape(product(flat, b, (2, of_b)), shape)
    if not own_a:
        a, of_a = _for_all(turned(a) if of_a == 1 else a, count), 2
    if not own_b:
        b, of_b = _for_all(turned(b) if of_b == 2 else b, count), 1
    return nodes.reshape(product(a, b, (of_a, of_b)), shape)


def _for_all(x: tf.Tensor, count: int) -> tf.Tensor:
    """[stack, ., .] → [count × stack, ., .], the whole stack again and again."""
    stack, *rest = nodes.sizes(x)
    return nodes.reshape(tf.broadcast_to(x, [count, stack, *rest]), [count * stack, *rest])


def _bias_gradient(lanes: Any, op: Any) -> tf.Tensor | None:
    if op.get_attr("data_format") not in (b"NHWC", "NHWC"):
        return None
    x = lanes.stacked_input(0)
    return products.leading_sum(x, [*range(1, x.shape.rank - 1)])


def _sum(lanes: Any, op: Any) -> tf.Tensor | None:
    """A sum or a mean; None where no axis is long."""
    axes, shape = static.value(op.inputs[1]), op.inputs[0].shape
    if axes is None or not shape.rank or not op.inputs[0].dtype.is_floating:
        return None
    axes = sorted({int(axis) % shape.rank + 1 for axis in axes.reshape(-1)})
    x = lanes.stacked_input(0)
    sizes = nodes.sizes(x)
    if not any(sizes[axis] > products.WINDOW for axis in axes):
        return None
    out = products.leading_sum(x, axes)
    if op.type == "Mean":
        out = out / tf.constant(float(shape.num_elements() // op.outputs[0].shape.num_elements()), out.dtype)
    return nodes.reshape(out, [sizes[0], *op.outputs[0].shape])


PRODUCTS: Mapping[str, Callable[[Any, Any], tf.Tensor]] = {
    "MatMul": _matmul,
    **dict.fromkeys(BATCHED, _batch_matmul),
}
TURNS = {"MatMul": "transpose_a", **dict.fromkeys(BATCHED, "adj_x")}
CONVERTERS: Mapping[str, Callable[[Any, Any], tf.Tensor | None]] = {
    **PRODUCTS,
    "BiasAddGrad": _bias_gradient,
    "Mean": _sum,
    "Sum": _sum,
}
KNOWN = frozenset({*ELEMENTWISE, *IN_ONE_SHAPE, *NO_PRODUCTS, *OF_SHAPES, *PLAIN, *REDUCTIONS, *CONVERTERS})


def _teach(kind: str) -> None:
    """Has TensorFlow's vectorizer ask here first, where it works for `Tiles`."""
    known = pfor._pfor_converter_registry
    before = known.get(kind)
    if before is None or before.__module__ == __name__:  # what it does not know, it must go on to refuse
        return

    def convert(lanes: Any) -> Any:
        op = lanes.op
        for_tiles = getattr(lanes.pfor, "tiles", None) is not None
        can = for_tiles and products.exact(op) and (op.type not in PRODUCTS or _can(op))
        made = CONVERTERS[kind](lanes, op) if can else None
        return before(lanes) if made is None else [pfor.wrap(made, True)]

    known[kind] = convert
