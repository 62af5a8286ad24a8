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

Within a graph the generator is written out here, as a loop over its ten rounds: XLA would otherwise compute
all rounds anew for each of a block's four words, wherever they are read, which was a fifth of what there was to
compile of a network's step. Only the generator's integers are used. TensorFlow 2.21's own `stateless_uniform` and `stateless_normal`
give *other numbers* when XLA compiles them than when it does not, and its algorithm depends on the
device unless it is named; the integers are the same bits everywhere.
"""

from __future__ import annotations

import math

import tensorflow as tf

INIT, BATCH, NOISE = 1, 2, 3

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


def _rounds(even: tf.Tensor, odd: tf.Tensor, words: tf.Tensor) -> list[tf.Tensor]:
    """Philox 4x32-10 (section 4.3 of the paper) of n blocks.

    Args:
        even: words 0 and 2 of each block's counter, [2, n] uint32.
        odd: words 1 and 3.
        words: of the key, [2, 1] uint32.

    Returns:
        The four words that it makes of each block, in order, [n] uint32.
    """
    factors = tf.constant([[0xD2511F53], [0xCD9E8D57]], tf.uint64)
    growth = tf.constant([[0x9E3779B9], [0xBB67AE85]], tf.uint32)

    def body(i, even, odd, words):
        both = tf.cast(even, tf.uint64) * factors
        high = tf.cast(tf.bitwise.right_shift(both, tf.constant(32, tf.uint64)), tf.uint32)
        mixed = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(tf.reverse(high, [0]), odd), words)
        return i + 1, mixed, tf.reverse(tf.cast(both, tf.uint32), [0]), words + growth

    begin = (tf.constant(0), even, odd, words)
    _, even, odd, _ = tf.while_loop(lambda i, *_: i < 10, body, begin)
    return [even[0], odd[0], even[1], odd[1]]


def _bits(stream: int, seed, step, count: int) -> tf.Tensor:
    """The first `count` words of a draw, [count] uint32."""
    named = key(stream, seed, step)
    if tf.executing_eagerly():  # operations of its own would take a hundred calls
        return tf.random.stateless_uniform(
            [count],
            named,
            minval=None,  # pyright: ignore[reportArgumentType]  # the stubs lack None, "all integers"
            maxval=None,
            dtype=tf.uint32,
            alg="philox",
        )
    zero = tf.zeros([2, 1], tf.uint32)
    fixed = tf.constant([[0x3EC8F720], [0x02461E29]], tf.uint32)  # TensorFlow's, for all seeds
    *words, third, fourth = _rounds(tf.cast(named, tf.uint32)[:, None], zero, fixed)
    blocks = -(-count // 4)
    numbers = tf.cast(tf.range(blocks), tf.uint32)
    even = tf.stack([numbers, tf.broadcast_to(third, [blocks])])
    odd = tf.stack([tf.zeros([blocks], tf.uint32), tf.broadcast_to(fourth, [blocks])])
    return tf.reshape(tf.stack(_rounds(even, odd, tf.stack(words)), 1), [-1])[:count]


def uniform(stream: int, seed, step, shape) -> tf.Tensor:
    """Uniform numbers inside (0, 1), the ends excluded: (bits + 1/2) / 2**32.

    Args:
        stream, seed, step: as for `key`.
        shape: sequence of Python ints.

    Returns:
        `shape` float64. Callers cast last, so that every dtype sees the same numbers, rounded.
    """
    bits = tf.reshape(_bits(stream, seed, step, math.prod(shape)), shape)
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
    return tf.cast(_bits(stream, seed, step, count) % tf.constant(size, tf.uint32), tf.int32)
