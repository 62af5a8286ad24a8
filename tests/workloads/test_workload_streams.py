"""The random streams: no two draws alike, the generator's published numbers, the same bits compiled."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workloads import _streams

MASK = 0xFFFFFFFF


def philox(counter, key):
    """Philox 4x32-10 in plain Python, from the paper's section 4.3."""
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(right >> 32) ^ c[1] ^ k[0], right & MASK, (left >> 32) ^ c[3] ^ k[1], left & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def reference_bits(stream, seed, step, count):
    """What TensorFlow documents for stateless seeds: the words scrambled by Philox, then its blocks."""
    words = (seed, 0, stream * 2**28 + step, 0)
    mixed = philox(words, (0x3EC8F720, 0x02461E29))
    blocks = (philox((block, 0, *mixed[2:]), mixed[:2]) for block in itertools.count())
    return list(itertools.islice(itertools.chain.from_iterable(blocks), count))


def test_the_reference_generator_gives_the_published_known_answers():
    # Random123's kat_vectors, philox4x32 10.
    assert philox((0,) * 4, (0,) * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox((MASK,) * 4, (MASK,) * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi_digits = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert philox(pi_digits, (0xA4093822, 0x299F31D0)) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize(
    ("stream", "seed", "step"),
    [
        (_streams.INIT, 0, 0),
        (_streams.BATCH, 3, 5),
        (_streams.NOISE, _streams.MAX_SEED, _streams.MAX_STEP),
        (_streams.MAX_STREAM, 1, _streams.MAX_STEP),
    ],
)
def test_uniform_numbers_are_the_reference_bits(stream, seed, step):
    bits = np.array(reference_bits(stream, seed, step, 7))
    np.testing.assert_array_equal(_streams.uniform(stream, seed, step, [7]), (bits + 0.5) / 2**32)
    np.testing.assert_array_equal(_streams.indices(stream, seed, step, 7, 1085), bits % 1085)


def test_the_generator_as_it_is_written_out_gives_the_reference_bits():
    places = [(_streams.BATCH, 3, 5), (_streams.MAX_STREAM, _streams.MAX_SEED, _streams.MAX_STEP)]
    for place in places:
        draw = tf.function(lambda place=place: _streams.indices(*place, 4 * _streams.FEW + 3, 2**31 - 1))
        assert "While" in " ".join(op.type for op in draw.get_concrete_function().graph.get_operations())
        bits = np.array(reference_bits(*place, 4 * _streams.FEW + 3))
        np.testing.assert_array_equal(draw(), bits % (2**31 - 1))


@given(
    st.integers(0, _streams.MAX_STREAM),
    st.integers(0, _streams.MAX_SEED),
    st.integers(0, _streams.MAX_STEP),
)
def test_a_key_tells_stream_seed_and_step(stream, seed, step):
    first, second = (int(word) for word in _streams.key(stream, seed, step).numpy())
    assert (second >> 28, first, second & (2**28 - 1)) == (stream, seed, step)


def test_draws_that_share_two_of_stream_seed_and_step_share_no_number():
    places = list(itertools.product((_streams.INIT, _streams.BATCH, _streams.NOISE), range(6), range(6)))
    draws = np.concatenate([_streams.uniform(*place, [8]).numpy() for place in places])
    assert len(np.unique(draws)) == len(places) * 8


@pytest.mark.parametrize("count", [5, 4 * _streams.FEW + 1, 64], ids=lambda count: f"{count} numbers")
@pytest.mark.parametrize("seed_dtype", [tf.int32, tf.int64])
def test_compiled_draws_in_a_loop_are_those_of_python_numbers(seed_dtype, count):
    seeds, steps = tf.constant([0, 7, 7, _streams.MAX_SEED], seed_dtype), tf.constant([0, 0, 9, 1])

    @tf.function(jit_compile=True)
    def compiled(seeds, steps):
        def draw(place):
            seed, step = place
            return (
                _streams.uniform(_streams.INIT, seed, step, [count]),
                _streams.normal(_streams.NOISE, seed, step, [count]),
                _streams.indices(_streams.BATCH, seed, step, count, 1085),
            )

        signature = (
            tf.TensorSpec([count], tf.float64),
            tf.TensorSpec([count], tf.float64),
            tf.TensorSpec([count], tf.int32),
        )
        return tf.map_fn(draw, (seeds, steps), fn_output_signature=signature)

    uniform, normal, indices = compiled(seeds, steps)
    for place, (seed, step) in enumerate(zip(seeds.numpy().tolist(), steps.numpy().tolist(), strict=True)):
        np.testing.assert_array_equal(uniform[place], _streams.uniform(_streams.INIT, seed, step, [count]))
        np.testing.assert_array_equal(
            indices[place], _streams.indices(_streams.BATCH, seed, step, count, 1085)
        )
        eager = _streams.normal(_streams.NOISE, seed, step, [count])
        np.testing.assert_allclose(normal[place], eager, rtol=1e-13)


@pytest.mark.parametrize("eager", [True, False], ids=["eagerly", "compiled"])
def test_draws_of_several_steps_are_those_of_each(eager):
    seed, steps = 7, [0, 3, _streams.MAX_STEP, 3]

    def draws(steps):
        return (
            _streams.indices_of_steps(_streams.BATCH, seed, steps, 5, 1085),
            _streams.indices_of_steps(_streams.BATCH, seed, steps, 4 * _streams.FEW + 3, 1085),
            _streams.normal_of_steps(_streams.NOISE, seed, steps, [2, 3]),
        )

    few, many, normal = (draws if eager else tf.function(draws, jit_compile=True))(tf.constant(steps))
    for i, step in enumerate(steps):
        np.testing.assert_array_equal(few[i], _streams.indices(_streams.BATCH, seed, step, 5, 1085))
        one = _streams.indices(_streams.BATCH, seed, step, 4 * _streams.FEW + 3, 1085)
        np.testing.assert_array_equal(many[i], one)
        each = _streams.normal(_streams.NOISE, seed, step, [2, 3])
        np.testing.assert_allclose(normal[i], each, rtol=1e-13)


def test_normal_numbers_are_the_inverse_distribution_function_of_the_uniform_ones():
    uniform = _streams.uniform(_streams.NOISE, 4, 2, [1000]).numpy()
    normal = _streams.normal(_streams.NOISE, 4, 2, [1000]).numpy()
    np.testing.assert_allclose(normal, stats.norm.ppf(uniform), rtol=1e-11, atol=1e-13)


def test_draws_follow_their_distributions():
    uniform = _streams.uniform(_streams.INIT, 1, 0, [20_000]).numpy()
    normal = _streams.normal(_streams.NOISE, 1, 0, [20_000]).numpy()
    indices = _streams.indices(_streams.BATCH, 1, 0, 20_000, 50).numpy()
    assert uniform.min() > 0
    assert uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    assert stats.kstest(normal, "norm").pvalue > 0.01
    assert stats.chisquare(np.bincount(indices, minlength=50)).pvalue > 0.01


def test_neighbouring_draws_are_uncorrelated():
    @tf.function(jit_compile=True)
    def draws(stream, seeds, steps):
        def first(place):
            return _streams.uniform(stream, *place, [1])[0]

        return tf.map_fn(first, (seeds, steps), fn_output_signature=tf.float64)

    def many(stream, offset):
        seeds, steps = np.divmod(np.arange(400, dtype=np.int32), 20)
        return draws(stream, tf.constant(seeds), tf.constant(steps + offset)).numpy()

    here = many(_streams.BATCH, 0)
    for other in (many(_streams.BATCH, 1), many(_streams.NOISE, 0), many(_streams.INIT, 0)):
        assert abs(stats.spearmanr(here, other).statistic) < 4 / np.sqrt(len(here))


@pytest.mark.parametrize(
    ("place", "named"),
    [((8, 0, 0), "stream = 8"), ((1, -1, 0), "seed = -1"), ((1, 2**31, 0), "seed"), ((1, 0, 2**28), "step")],
)
def test_numbers_out_of_range_are_refused(place, named):
    with pytest.raises(ValueError, match=named):
        _streams.key(*place)
