"""Convolutions of many lanes with lanes last, written out as sums of whole vectors, like `harness.products`.

Maps are read as they lie: no patch is ever made. What passes by in the innermost loop are filters, or the
channels of a row of maps, while the vectors of a place stay in registers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice

from harness import nodes, products
from harness.convolutions import OF_FILTERS, OF_MAPS, Geometry

Round = Callable[[Any], list[tf.Tensor]]

FILTERS = 16  # at most, of a round
PLACES = 15  # at most, of a round: XLA first makes a copy of what more terms than that read
FEW = 3  # channels: with fewer, patches are small beside what is made of them


def convolution(
    op: Any, given: Sequence[tf.Tensor], geometry: Geometry, onto: tf.Tensor | None = None
) -> tf.Tensor | None:
    """What one of `convolutions.KINDS` computes for all lanes, [..., lanes].

    Args:
        given: its inputs, each [..., lanes] or, where lanes share it, [..., 1]; sizes are not looked at.
        onto: what a gradient by filters is added to.

    Returns:
        None where places or filters leave something out, and where there are too few channels, or too few
        terms, to make rounds of.
    """
    if not geometry.plain:
        return None
    if op.type == OF_MAPS:
        return _of_maps(given[2], given[1], geometry, nodes.sizes(op.outputs[0]))
    maps = given[0]
    if op.type == OF_FILTERS:
        return _of_filters(_padded(maps, geometry), given[2], geometry, onto)
    return _forward(maps, given[1], geometry)


def of_shared_maps(
    op: Any,
    maps: tf.Tensor,
    other: tf.Tensor,
    geometry: Geometry,
    made: dict[Any, tf.Tensor],
    onto: tf.Tensor | None = None,
) -> tf.Tensor | None:
    """`convolution` of maps that all lanes share, [examples, h, w, channels], by patches of them, which are
    made once for all lanes and small beside what is made of them.

    Args:
        other: filters or slopes, [..., lanes].
        made: patches by what they are made of; takes those that it does not have.
        onto: what a gradient by filters is added to.

    Returns:
        None where places or filters leave something out, and of `convolutions.OF_MAPS`.
    """
    if op.type == OF_MAPS or not geometry.plain:
        return None
    key = maps.ref(), geometry
    if key not in made:
        made[key] = _patches(maps, geometry)
    shape = [*op.outputs[0].shape, nodes.sizes(other)[-1]]
    patches, terms = made[key], 1 if op.type == OF_FILTERS else 0
    factor = nodes.reshape(other, [nodes.sizes(patches)[terms], *shape[-2:]])
    onto = None if onto is None else nodes.reshape(onto, [-1, *shape[-2:]])
    out = products.product(patches, factor, (terms, 0), onto)
    return nodes.reshape(out, shape)


def _patches(maps: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """[kernel h × kernel w × channels, places, 1]: an offset after another, its rows as they lie in maps."""
    if any(itertools.chain(*geometry.pads)):
        maps = tf.pad(maps, [[0, 0], *geometry.pads, [0, 0]])
    examples, *_, channels = nodes.sizes(maps)
    size = [examples, *geometry.places]

    def body(v: Any, out: tf.Tensor) -> tf.Tensor:
        i, j = nodes.quotient(v, geometry.kernel[1]), nodes.remainder(v, geometry.kernel[1])
        one = nodes.cut(maps, [0, i, j, 0], [*size, channels])
        one = tf.transpose(one, [3, 0, 1, 2]) if channels > 1 else one
        one = nodes.reshape(one, [1, channels, *size])  # examples, rows and columns apart: else XLA divides
        return dynamic_update_slice(out, one, nodes.stack_of([v, 0, 0, 0, 0]))

    count = len(geometry.offsets)
    out = nodes.written(body, [count, channels, *size], maps.dtype, count)
    return nodes.reshape(out, [count * channels, math.prod(size), 1])


def _padded(maps: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Maps with their zeros around. Row by row, so that they are in memory: XLA would ask at every read
    of `tf.pad`'s whether it is inside."""
    (above, below), (left, right) = geometry.pads
    if not any((above, below, left, right)):
        return maps
    examples, height, width, channels, lanes = nodes.sizes(maps)
    shape = [examples, height + above + below, width + left + right, channels, lanes]

    def row(y: Any, out: tf.Tensor) -> tf.Tensor:
        one = nodes.cut(maps, [0, y, 0, 0, 0], [examples, 1, width, channels, lanes])
        return dynamic_update_slice(out, one, nodes.stack_of([0, nodes.add(y, above), left, 0, 0]))

    return nodes.written(row, shape, maps.dtype, height)


def _rounds(count: int, some: Round) -> tf.Tensor:
    """The sum of all terms of some(0) to some(count - 1)."""
    if count <= 2:  # at once, for XLA would take a loop of one round apart
        return products.total([term for k in range(count) for term in some(k)])
    return _added(1, count, some, products.total(some(0)))


def _added(first: int, count: int, some: Round, begin: tf.Tensor) -> tf.Tensor:
    def body(k: tf.Tensor, sums: tf.Tensor) -> list[tf.Tensor]:
        return [products.total([sums, *some(k)])]

    return nodes.repeat(body, [begin], count, first)[0]


def _forward(maps: tf.Tensor, filters: tf.Tensor, geometry: Geometry) -> tf.Tensor | None:
    """A round for a row of offsets and some channels: vectors of maps stay in registers, filters pass by.

    For all offsets only where channels have no such divisor: filters of a channel lie so far apart that they
    take each other's places in the first-level cache.
    """
    rows, columns = geometry.places
    examples, *_, channels, of_maps = nodes.sizes(maps)
    high, wide, _, count, of_filters = nodes.sizes(filters)
    each = _divisor(channels, max(1, products.TERMS // wide))
    tall = high if each * wide * high <= products.TERMS else 1
    groups = channels // each
    rounds = groups * (high // tall)
    if channels < FEW or rounds == 1:  # a loop of one XLA takes apart, and computes wherever it is read
        return None
    maps = _padded(maps, geometry)

    def some(k: Any) -> list[tf.Tensor]:
        i = nodes.quotient(k, groups) if tall == 1 else 0
        first, terms = nodes.multiply(nodes.remainder(k, groups), each), []
        near = [examples, rows + tall - 1, columns + wide - 1, each, of_maps]
        x = nodes.cut(maps, [0, i, 0, first, 0], near)
        y = nodes.cut(filters, [i, 0, first, 0, 0], [tall, wide, each, count, of_filters])
        for p, q in itertools.product(range(tall), range(wide)):
            views = nodes.cut(x, [0, p, q, 0, 0], [examples, rows, columns, each, of_maps])
            own = nodes.cut(y, [p, q, 0, 0, 0], [1, 1, each, count, of_filters])
            terms += products.multiplied(nodes.split(views, each, 3), nodes.split(own, each, 2))
        return terms

    # From zeros: XLA would compute all that maps are made of once more for a first round outside of the loop.
    zeros = tf.zeros([examples, rows, columns, count, max(of_maps, of_filters)], maps.dtype)
    return _added(0, rounds, some, zeros)


def _of_filters(maps: tf.Tensor, slopes: tf.Tensor, geometry: Geometry, onto: tf.Tensor | None) -> tf.Tensor:
    """An offset after another, each a sum over all places: a round takes some rows of some examples."""
    channels, of_maps = nodes.sizes(maps)[3:]
    examples, rows, columns, count, lanes = nodes.sizes(slopes)
    across = _divisor(columns, PLACES)
    down = _divisor(rows, PLACES // across) if across == columns else 1
    deep = _divisor(examples, PLACES // (across * down)) if down == rows else 1
    size = [deep, down, across]
    grid = [rows // down, columns // across]

    def at(v: Any) -> tf.Tensor:
        i, j = nodes.quotient(v, geometry.kernel[1]), nodes.remainder(v, geometry.kernel[1])

        def some(k: Any) -> list[tf.Tensor]:
            row = nodes.quotient(k, grid[1])
            steps = nodes.quotient(row, grid[0]), nodes.remainder(row, grid[0]), nodes.remainder(k, grid[1])
            place = [nodes.multiply(step, by) for step, by in zip(steps, size, strict=True)]
            corner = place[0], nodes.add(place[1], i), nodes.add(place[2], j)
            x = nodes.cut(maps, [*corner, 0, 0], [*size, channels, of_maps])
            y = nodes.cut(slopes, [*place, 0, 0], [*size, count, lanes])
            terms = deep * down * across
            x = nodes.unstack(nodes.reshape(x, [terms, channels, 1, of_maps]), 0)
            y = nodes.unstack(nodes.reshape(y, [terms, 1, count, lanes]), 0)
            return products.multiplied(x, y)

        return _rounds(examples // deep * grid[0] * grid[1], some)

    shape = [channels, count, max(of_maps, lanes)]
    offsets = len(geometry.offsets)

    def body(v: tf.Tensor, out: tf.Tensor) -> tf.Tensor:
        made, place = nodes.reshape(at(v), [1, *shape]), nodes.stack_of([v, 0, 0, 0])
        if onto is not None:
            made = nodes.add(nodes.cut(out, place, [1, *shape]), made)
        return dynamic_update_slice(out, made, place)

    begin = None if onto is None else nodes.reshape(onto, [offsets, *shape])
    out = nodes.written(body, [offsets, *shape], maps.dtype, offsets, begin)
    return nodes.reshape(out, [*geometry.kernel, *shape])


def _of_maps(slopes: tf.Tensor, filters: tf.Tensor, geometry: Geometry, shape: Sequence[Any]) -> tf.Tensor:
    """An offset after another, and some filters of each, added where they lie on the maps."""
    (above, below), (left, right) = geometry.pads
    height, width, channels = shape[1] + above + below, shape[2] + left + right, shape[3]
    examples, rows, columns, count, of_slopes = nodes.sizes(slopes)
    of_filters = nodes.sizes(filters)[4]
    lanes = max(of_slopes, of_filters)
    each = _divisor(count, FILTERS)
    groups, across = count // each, geometry.kernel[1]
    window = [examples, rows, columns, channels, lanes]

    def body(k: Any, out: tf.Tensor) -> list[tf.Tensor]:
        v, first = nodes.quotient(k, groups), nodes.multiply(nodes.remainder(k, groups), each)
        i, j = nodes.quotient(v, across), nodes.remainder(v, across)
        x = nodes.cut(slopes, [0, 0, 0, first, 0], [examples, rows, columns, each, of_slopes])
        y = nodes.cut(filters, [i, j, 0, first, 0], [1, 1, channels, each, of_filters])
        x = nodes.unstack(nodes.reshape(x, [examples, rows, columns, 1, each, of_slopes]), 4)
        at = nodes.stack_of([0, i, j, 0, 0])
        more = products.total([nodes.cut(out, at, window), *products.multiplied(x, nodes.unstack(y, 3))])
        return [dynamic_update_slice(out, more, at)]

    zeros = tf.zeros([examples, height, width, channels, lanes], slopes.dtype)
    (out,) = nodes.repeat(body, [zeros], groups * len(geometry.offsets))
    return out[:, above : height - below, left : width - right]


def _divisor(size: int, most: int) -> int:
    """The largest divisor of `size` that is at most `most`."""
    return next(d for d in range(max(1, min(size, most)), 0, -1) if size % d == 0)
