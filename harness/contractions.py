"""Products of stacks of matrices, and Einstein sums, of many lanes with lanes last (`harness.products`)."""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from harness import nodes, products

BATCHED = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")


def batch_matmul(op: Any, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor | None:
    """What one of `BATCHED` computes for all lanes.

    Args:
        a, b: its inputs, each [..., lanes] or, where lanes share it, [..., 1].

    Returns:
        None where one of the two is broadcast along some of the axes of the stack, and not along all; and
        where `products.exact` says no.
    """
    if not products.exact(op):
        return None
    turned = op.get_attr("adj_x"), op.get_attr("adj_y")
    (*of_a, _, _), (*of_b, _, _) = (x.shape.as_list() for x in op.inputs)
    shape = op.outputs[0].shape.as_list()
    sizes = [math.prod(of_a), math.prod(of_b)]
    if any(s not in (1, math.prod(shape[:-2])) for s in sizes):
        return None
    a, b = (nodes.reshape(x, [s, *nodes.sizes(x)[-3:]]) for x, s in zip((a, b), sizes, strict=True))
    out = _stacked(a, b, (1 if turned[0] else 2, 2 if turned[1] else 1))
    return nodes.reshape(out, [*shape, nodes.sizes(out)[-1]])


def einsum(op: Any, given: Sequence[tf.Tensor]) -> tf.Tensor | None:
    """What `Einsum` computes for all lanes.

    Args:
        given: its inputs, each [..., lanes] or, where lanes share it, [..., 1].

    Returns:
        None where an index is twice in one input or in the result, where axes of one number are broadcast,
        where an index is of one of two inputs only and not of the result; where `products.exact` says no.
    """
    if not products.exact(op):
        return None
    shapes = [x.shape.as_list() for x in op.inputs]
    *names, out = _named(op.get_attr("equation").decode(), [len(shape) for shape in shapes])
    ends = [end for pair in zip(names, shapes, strict=True) for end in zip(*pair, strict=True)]
    size = dict(ends)
    if any(len({*each}) < len(each) for each in [*names, out]) or any(size[k] != s for k, s in ends):
        return None
    if len(names) == 1:
        left = [k for k in names[0] if k in out]
        lost = [i for i, k in enumerate(names[0]) if k not in out]
        return _ordered(products.folded(given[0], lost, products.total), left, out, size)
    one, other = names
    if not {*one} ^ {*other} <= {*out}:
        return None
    stack = [k for k in one if k in other and k in out]
    terms = [k for k in one if k in other and k not in out]
    rows, columns = [k for k in one if k not in other], [k for k in other if k not in one]
    # An input's axes stay in their order where they can: nothing is turned then.
    turned = [k for k in one if k not in stack] == [*terms, *rows]
    across = [k for k in other if k not in stack] == [*columns, *terms]
    a = _brought(given[0], one, [stack, terms, rows] if turned else [stack, rows, terms], size)
    b = _brought(given[1], other, [stack, columns, terms] if across else [stack, terms, columns], size)
    made = _stacked(a, b, (1 if turned else 2, 2 if across else 1))
    return _ordered(made, [*stack, *rows, *columns], out, size)


def _named(equation: str, ranks: Sequence[int]) -> list[str]:
    """The indices of each input and of the result. What an ellipsis stands for are capitals, the last of
    which are the same in all."""
    left, _, out = equation.replace(" ", "").partition("->")
    names = left.split(",")
    spare = [k for k in string.ascii_uppercase if k not in equation]
    counts = [rank - len(each.replace("...", "")) for each, rank in zip(names, ranks, strict=True)]
    most = max(counts)
    stand = [*("".join(spare[most - count : most]) for count in counts), "".join(spare[:most])]
    return [each.replace("...", more) for each, more in zip([*names, out], stand, strict=True)]


def _brought(x: tf.Tensor, have: str, want: Sequence[Sequence[str]], size: Mapping[str, int]) -> tf.Tensor:
    """[..., lanes] with the axes of each of `want` as one axis."""
    order = [have.index(k) for k in itertools.chain(*want)]
    turned = tf.transpose(x, [*order, len(order)]) if order != sorted(order) else x
    return nodes.reshape(turned, [*(math.prod(size[k] for k in each) for each in want), nodes.sizes(x)[-1]])


def _ordered(x: tf.Tensor, have: Sequence[str], want: str, size: Mapping[str, int]) -> tf.Tensor:
    """The axes of a result, apart and in order."""
    apart = nodes.reshape(x, [*(size[k] for k in have), nodes.sizes(x)[-1]])
    order = [have.index(k) for k in want]
    return tf.transpose(apart, [*order, len(order)]) if order != sorted(order) else apart


def _stacked(a: tf.Tensor, b: tf.Tensor, inner: tuple[int, int]) -> tf.Tensor:
    """[stack, rows, columns, lanes] of [stack or 1, ., ., lanes or 1] each.

    Args:
        inner: the axis of the terms in each, 1 or 2.
    """
    (of_a, *_, lanes_a), (of_b, *_, lanes_b) = nodes.sizes(a), nodes.sizes(b)
    rows, columns, lanes = nodes.sizes(a)[3 - inner[0]], nodes.sizes(b)[3 - inner[1]], max(lanes_a, lanes_b)
    if of_b == 1 and (of_a == 1 or inner[0] == 2):  # one product, of all rows
        flat = nodes.reshape(a, [of_a * nodes.sizes(a)[1], *nodes.sizes(a)[2:]])
        out = products.product(flat, nodes.reshape(b, nodes.sizes(b)[1:]), (inner[0] - 1, inner[1] - 1))
        return nodes.reshape(out, [of_a, rows, columns, lanes])
    return products.stack_of_products(a, b, inner)
