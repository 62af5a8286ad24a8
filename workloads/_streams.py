"""Separate streams of random numbers, each a pure function f(stream, seed, step).

Starting points, batches and gradient noise come from streams that never meet: the same seed gives the
same starting point whatever the batches are, and step 7 can be drawn without drawing steps 0 to 6.

A draw comes from the Philox 4x32-10 counter generator (Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011), named by two 32-bit words,

    word 0 = seed
    word 1 = stream * 2**28 + step

so different (stream, seed, step) have different words, with no hash between them that could collide.
TensorFlow passes the words through Philox once, a bijection, to get the key and the counter's upper half;
the lower half, 2**64 blocks, counts within the draw. Two draws therefore never share a block.

Within a graph the generator is written out here for more than a few blocks, as a loop over its rounds: XLA
would otherwise compute all rounds anew for each of a block's four words, wherever they are read, which was
two fifths of the code of a small network's step. Of a few blocks, as noise is, straight code runs 1.3 times
as fast as a loop.

Only the generator's integers are used. TensorFlow 2.21's own `stateless_uniform` and `stateless_normal`
give *other numbers* when XLA compiles them than when it does not, and its algorithm depends on the
device unless it is named; the integers are the same bits everywhere.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

INIT, BATCH, NOISE = 1, 2, 3

FEW = 8  # blocks
PHILOX = 1  # TensorFlow's number of the generator
STEP_BITS = 28
MAX_STREAM = 7
MAX_STEP = 2**STEP_BITS - 1
MAX_SEED = 2**31 - 1


def key(stream: int, seed, step) -> tf.Tensor:
    """The two words that name a draw, [seed, stream * 2**28 + step].

    Args:
        stream: Python int, 0 to 7.
        seed: Python int or integer scalar tensor, 0 to 2**31 - 1.
        step: Python int or integer scalar tensor, 0 to 2**28 - 1.

    Returns:
        [2] int32.

    Raises:
        ValueError: a Python int is out of its range. (A tensor's value is not known while tracing.)
    """
    for name, number, highest in (
        ("stream", stream, MAX_STREAM),
        ("seed", seed, MAX_SEED),
        ("step", step, MAX_STEP),
    ):
        if isinstance(number, int) and not 0 <= number <= highest:
            raise ValueError(f"{name} = {number}: a random stream takes a {name} from 0 to {highest}.")
    return tf.stack([tf.cast(seed, tf.int32), tf.cast(step, tf.int32) + stream * 2**STEP_BITS])


def _philox(named: tf.Tensor, blocks: int) -> tf.Tensor:
    """The first blocks of draws in Philox 4x32-10 (section 4.3 of the paper), in a graph.

    Ten rounds make a draw's key, and half of its counter, of the words that name it; ten more make the
    blocks. All blocks go through both, which is one loop to trace and to compile.

    Args:
        named: what `key` returns, of each draw: [draws, 2].

    Returns:
        [draws, blocks, 4] uint32.
    """
    draws = int(named.shape[0])  # pyright: ignore[reportArgumentType]  # known while tracing
    factors = tf.constant([[0xD2511F53], [0xCD9E8D57]], tf.uint64)
    growth = tf.constant([[0x9E3779B9], [0xBB67AE85]], tf.uint32)
    numbers = tf.constant(np.tile(np.arange(blocks), draws), tf.uint32)
    none = tf.zeros([2, draws * blocks], tf.uint32)

    def body(i, even, odd, words):
        """One round: words 0 and 2 of each counter, words 1 and 3, and the key's two."""
        both = tf.cast(even, tf.uint64) * factors
        high = tf.cast(tf.bitwise.right_shift(both, tf.constant(32, tf.uint64)), tf.uint32)
        even = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(tf.reverse(high, [0]), odd), words)
        odd = tf.reverse(tf.cast(both, tf.uint32), [0])
        (first, third), (second, fourth) = tf.unstack(even), tf.unstack(odd)
        keyed = tf.equal(i, 9)
        words = tf.where(keyed, tf.stack([first, second]), words + growth)
        even = tf.where(keyed, tf.stack([numbers, third]), even)
        return i + 1, even, tf.where(keyed, tf.stack([none[0], fourth]), odd), words

    fixed = tf.constant([[0x3EC8F720], [0x02461E29]], tf.uint32)  # TensorFlow's, for all draws
    even = tf.repeat(tf.transpose(tf.cast(named, tf.uint32)), blocks, 1)
    _, even, odd, _ = tf.while_loop(lambda i, *_: i < 20, body, (tf.constant(0), even, none, none + fixed))
    return tf.reshape(tf.transpose(tf.stack([even, odd]), [2, 1, 0]), [draws, blocks, 4])


def _bits(stream: int, seed, step, count: int) -> tf.Tensor:
    """The first `count` words of a draw, [count] uint32."""
    named = key(stream, seed, step)
    blocks = -(-count // 4)
    if tf.executing_eagerly():
        # Operation by operation `_philox` would be hundreds of calls, and TensorFlow's own function makes the
        # key and the counter by dozens. Kernels make the generator's words from them everywhere.
        words, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=named)
        return tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[count], key=words, counter=counter, alg=PHILOX, dtype=tf.uint32
        )
    if blocks <= FEW:
        return tf.random.stateless_uniform(
            [count],
            named,
            minval=None,  # pyright: ignore[reportArgumentType]  # the stubs lack None, "all integers"
            maxval=None,
            dtype=tf.uint32,
            alg="philox",
        )
    return tf.reshape(_philox(named[None], blocks), [-1])[:count]


def _bits_of_steps(stream: int, seed, steps, count: int) -> tf.Tensor:
    """`_bits` of several steps, [steps, count]."""
    if tf.executing_eagerly():
        return tf.stack([_bits(stream, seed, step, count) for step in tf.unstack(steps)])
    steps = tf.convert_to_tensor(steps)
    named = tf.transpose(key(stream, tf.fill(tf.shape(steps), seed), steps))
    words = tf.reshape(_philox(named, -(-count // 4)), [steps.shape[0], -1])
    return words[:, :count]


def uniform(stream: int, seed, step, shape) -> tf.Tensor:
    """Uniform numbers inside (0, 1), the ends excluded: (bits + 1/2) / 2**32.

    Args:
        stream, seed, step: as for `key`.
        shape: sequence of Python ints.

    Returns:
        `shape` float64. Callers cast last, so that every dtype sees the same numbers, rounded.
    """
    return _inside(tf.reshape(_bits(stream, seed, step, math.prod(shape)), shape))


def _inside(bits: tf.Tensor) -> tf.Tensor:
    return (tf.cast(bits, tf.float64) + 0.5) * 2.0**-32


def normal(stream: int, seed, step, shape) -> tf.Tensor:
    """Standard normal numbers, by inversion of the normal distribution function: Φ⁻¹(u), so |z| < 6.4.

    Args:
        stream, seed, step: as for `key`.
        shape: sequence of Python ints.

    Returns:
        `shape` float64.
    """
    return tf.math.ndtri(uniform(stream, seed, step, shape))


def normal_of_steps(stream: int, seed, steps, shape) -> tf.Tensor:
    """`normal` of several steps, drawn at once: [steps, *shape] float64.

    Args:
        stream, seed, shape: as for `normal`.
        steps: [steps] int32; how many is known while tracing.
    """
    bits = _bits_of_steps(stream, seed, steps, math.prod(shape))
    return tf.math.ndtri(_inside(tf.reshape(bits, [-1, *shape])))


def indices(stream: int, seed, step, count: int, size: int) -> tf.Tensor:
    """`count` indices from 0 to size - 1, each drawn uniformly and independently (with replacement).

    The bias of the generator's remainder is below size / 2**32.

    Args:
        stream, seed, step: as for `key`.
        count: Python int, how many.
        size: Python int, how many there are to choose from.

    Returns:
        [count] int32.
    """
    return _remainders(_bits(stream, seed, step, count), size)


def indices_of_steps(stream: int, seed, steps, count: int, size: int) -> tf.Tensor:
    """`indices` of several steps, drawn at once: [steps, count] int32.

    Args:
        stream, seed, count, size: as for `indices`.
        steps: [steps] int32; how many is known while tracing.
    """
    return _remainders(_bits_of_steps(stream, seed, steps, count), size)


def _remainders(bits: tf.Tensor, size: int) -> tf.Tensor:
    return tf.cast(tf.math.floormod(bits, tf.constant(size, tf.uint32)), tf.int32)
