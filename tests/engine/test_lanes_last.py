"""Products that are written out, and maths lifted with lanes last: against numpy, and a run at a time."""

import numpy as np
import pytest
import tensorflow as tf

from harness import lanes_last, lift, products
from harness.lanes_last import Lifting, NotLifted

LANES = 16


def numbers(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def compiled(fn, *args):
    out = tf.function(fn, jit_compile=True, autograph=False)(*map(tf.constant, args))
    return tf.nest.map_structure(lambda leaf: leaf.numpy(), out)


# -- products and reductions ---------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [*range(1, 80), 355, 1024])
def test_rounds_cover_every_term_once_and_are_two_or_none(terms):
    first, each, rounds = products.rounds_of(terms)
    assert first + each * rounds == terms and rounds != 1
    assert 1 <= first <= products.TERMS and each <= products.TERMS


SHAPES = [(5, 64, 3), (3, 37, 9), (4, 1, 4), (1, 10, 6), (6, 2, 1), (40, 9, 8), (8, 12, 40), (33, 1, 34)]
SHAPES += [(4, 10, 64), (64, 10, 4), (7, 5, 4), (12, 3, 5)]  # a few short rows at once


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
@pytest.mark.parametrize("inner", [(1, 0), (0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize("shared", ["none", "a", "b"])
def test_product_is_numpys(m, k, n, inner, shared):
    a = numbers(m, k, 1 if shared == "a" else LANES, seed=1, dtype="float64")
    b = numbers(k, n, 1 if shared == "b" else LANES, seed=2, dtype="float64")
    whole = [np.broadcast_to(x, (*x.shape[:2], LANES)) for x in (a, b)]
    expected = np.einsum("mkl,knl->mnl", *whole)
    given = (a if inner[0] == 1 else a.swapaxes(0, 1)), (b if inner[1] == 0 else b.swapaxes(0, 1))
    found = compiled(lambda x, y: products.product(x, y, inner), *given)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("m", "k", "n"), [*SHAPES, (10, 4, 64), (64, 3, 9), (1, 5, 32)])
@pytest.mark.parametrize("shared", ["none", "a", "b"])
def test_product_is_added_to_what_is_given(m, k, n, shared):
    a = numbers(m, k, 1 if shared == "a" else LANES, seed=1, dtype="float64")
    b = numbers(k, n, 1 if shared == "b" else LANES, seed=2, dtype="float64")
    begin = numbers(m, n, LANES, seed=3, dtype="float64")
    found = compiled(lambda x, y, z: products.product(x, y, (1, 0), z), a, b, begin)
    whole = [np.broadcast_to(x, (*x.shape[:2], LANES)) for x in (a, b)]
    np.testing.assert_allclose(found, begin + np.einsum("mkl,knl->mnl", *whole), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 12, 13, 64, 100])
@pytest.mark.parametrize("axis", [0, 1])
def test_fold_is_numpys(size, axis):
    x = numbers(*((size, 3) if axis == 0 else (3, size)), LANES, dtype="float64")
    total = compiled(lambda v: products.fold(v, axis, products.total), x)
    np.testing.assert_allclose(total, x.sum(axis), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("axes", [[0], [1], [0, 1], [1, 2], [0, 2], [0, 1, 2], [0, 1, 2, 3], [1, 3], []])
@pytest.mark.parametrize("shape", [(3, 5, 4, 2), (1, 5, 4, 2), (3, 1, 1, 2)])
def test_folded_is_numpys(shape, axes):
    value = numbers(*shape, LANES, dtype="float64")
    found = compiled(lambda x: products.folded(x, axes, products.total), value)
    np.testing.assert_allclose(np.ravel(found), value.sum(tuple(axes)).ravel(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "within"), [(tf.float32, 2e-6), (tf.bfloat16, 0.02)])
@pytest.mark.parametrize("shape", [(32, 32, 32), (1, 28, 28), (7, 11, 13), (4, 97, 1)])
def test_a_long_sum_is_as_exact_as_one_axis_after_another(shape, dtype, within):
    value = tf.cast(tf.constant(np.abs(numbers(*shape, 2, LANES))), dtype)
    exact = tf.reduce_sum(tf.cast(value, tf.float64), [0, 1, 2]).numpy()
    found = tf.cast(compiled(lambda x: products.folded(x, [0, 1, 2], products.total), value), tf.float64)
    np.testing.assert_allclose(np.reshape(found, exact.shape), exact, rtol=within)


def test_a_sum_keeps_what_is_no_number():
    x = numbers(40, LANES)
    x[17, 3] = np.nan
    total = compiled(lambda v: products.fold(v, 0, products.total), x)
    assert np.isnan(total[3]) and np.isfinite(np.delete(total, 3)).all()


@pytest.mark.parametrize(("rows", "apart"), [(64, True), (8, False)])
def test_a_sum_of_few_terms_is_in_memory_where_rows_are_long(rows, apart):
    """Without a loop XLA computes it wherever it is read; of two terms there are no rounds to make one of."""
    fn = tf.function(lambda x, y: products.product(x, y), jit_compile=True, autograph=False)
    x, y = tf.constant(numbers(rows, 2, 1)), tf.constant(numbers(2, 8, LANES))
    text = fn.experimental_get_compiler_ir(x, y)(stage="optimized_hlo")
    assert products.rows_apart(2, 8, rows) == (" while(" in text) == apart


def test_a_program_calls_no_library_and_sorts_nothing():
    fn = tf.function(lambda x, y: products.product(x, y), jit_compile=True, autograph=False)
    x, y = tf.constant(numbers(64, 64, 1)), tf.constant(numbers(64, 32, LANES))
    text = fn.experimental_get_compiler_ir(x, y)(stage="optimized_hlo")
    assert " dot(" not in text and "custom-call" not in text and " sort(" not in text


# -- maths of one run ----------------------------------------------------------------------------------

CONSTANT = numbers(4, 6, seed=9)


def through(w, x):
    """Two layers and a mean, [6] and [4, 6] to a scalar."""
    hidden = tf.nn.relu(tf.matmul(tf.matmul(CONSTANT, x, transpose_b=True), x) + w)
    return tf.reduce_mean(tf.reduce_logsumexp(hidden, axis=-1))


@tf.function
def inside(w, x):
    return tf.reduce_sum(tf.matmul(x, tf.transpose(x)), axis=1) + tf.reduce_sum(w)


def product_of(x):
    return tf.matmul(x, CONSTANT, transpose_a=True)


def also_read(w, x):
    made = product_of(x)
    return made, tf.exp(made)


def in_two_shapes(w, x):
    made = product_of(x)
    return made, tf.reshape(made, [-1])


# Functions, and the places of what they return that are added to something as they are made.
SUMMED = {
    "a product": (lambda w, x: product_of(x), [0]),
    "in another shape": (lambda w, x: tf.reshape(product_of(x), [4, 9]), [0]),
    "products of one tensor": (lambda w, x: (product_of(x), tf.matmul(x, x, True)), [0, 1]),
    "of which something else is made": (also_read, []),
    "in two shapes": (in_two_shapes, []),
    "twice": (lambda w, x: (product_of(x),) * 2, []),
    "what was given": (lambda w, x: (x, w), []),
    "what lanes share": (lambda w, x: tf.matmul(CONSTANT, CONSTANT, transpose_a=True), [0]),
    "behind a function": (inside, []),
    "gradients": (lambda w, x: (tf.reduce_sum(w), *gradients(w, x)), []),
}


@pytest.mark.parametrize("name", SUMMED)
def test_a_result_is_added_to_what_is_given(name):
    (fn, places), w, x = SUMMED[name], numbers(6, LANES, seed=1), numbers(4, 6, LANES, seed=2)
    plain = compiled(lambda w, x: Lifting(LANES)(fn, [w, x]), w, x)
    begin = [numbers(*leaf.shape, seed=3 + i) for i, leaf in enumerate(tf.nest.flatten(plain))]

    def summed(w, x, *begin):
        lifting = Lifting(LANES)
        traced = lifting.trace(fn, [w, x])
        assert sorted(lanes_last._makers(traced.graph)) == places
        return lifting.run(traced, [w, x], onto=begin)

    found = compiled(summed, w, x, *begin)
    for value, made, before in zip(tf.nest.flatten(found), tf.nest.flatten(plain), begin, strict=True):
        np.testing.assert_allclose(value, made + before, rtol=1e-5, atol=1e-5)


def gradients(w, x):
    with tf.GradientTape() as tape:
        tape.watch((w, x))
        out = through(w, x)
    return tape.gradient(out, (w, x))


def looped(w, x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 0.5 + w), (tf.constant(0), x))[1]


KNOWN = {
    "products, sums and their gradients": gradients,
    "broadcasting with what is shared": lambda w, x: (x + CONSTANT) * w - tf.reduce_sum(CONSTANT) + w[2] * x,
    "reductions": lambda w, x: (
        tf.reduce_sum(x, axis=-2, keepdims=True),
        tf.reduce_max(x, axis=[0, 1]),
        tf.reduce_min(x, axis=-1),
        tf.reduce_prod(x, axis=0),
        tf.reduce_mean(x),
        tf.reduce_any(x > 0, axis=1),
        tf.reduce_sum(tf.cast(x > 0, tf.int32), axis=1),
    ),
    "shapes": lambda w, x: (
        tf.reshape(x, [3, -1]),
        tf.expand_dims(x, -1),
        tf.squeeze(x[:, None]),
        tf.transpose(x),
        tf.transpose(tf.reshape(x, [2, 2, 6]), [2, 0, 1]),
        tf.broadcast_to(w, [3, 6]),
        tf.tile(x, [1, 2]),
        tf.tile(w[None], [4, 1]),
        tf.cast(tf.shape(x), x.dtype) * w[:2],
    ),
    "parts": lambda w, x: (
        x[1:, ::-1],
        x[:, None, 2],
        x[..., 1],
        tf.slice(x, [1, 2], [2, 3]),
        tf.stack([w, CONSTANT[0]], axis=-1),
        tf.unstack(x, axis=1),
        tf.concat([x, CONSTANT], axis=-1),
        tf.pad(x, [[1, 0], [0, 2]]),
        tf.where(x > 0, x, 0.0),
    ),
    "gradients of parts": lambda w, x: tf.gradients(
        tf.reduce_sum(tf.square(x[1:, ::2])) + tf.reduce_sum(w[:3] ** 3) + tf.reduce_sum(x[..., :2] ** 2),
        [w, x],
    ),
    "a bias": lambda w, x: tf.gradients(tf.nn.bias_add(x, w) ** 2, [w, x]),
    "a function inside": lambda w, x: inside(w, x),
    "nothing of the run": lambda w, x: (CONSTANT, w),
    "shares and penalties": lambda w, x: (
        tf.nn.softmax(x),
        tf.nn.log_softmax(x),
        tf.nn.softmax(x, axis=0),
        tf.gradients(tf.nn.l2_loss(tf.nn.softmax(x * w)) + tf.nn.l2_loss(w), [w, x]),
        tf.gradients(tf.nn.log_softmax(x * w)[:, 1], [w, x]),
    ),
    "what is picked, and put into place": lambda w, x: (
        tf.gather(x, [[3, 0], [1, 3]], axis=0),
        tf.gradients(tf.gather(x, [2, 0, 2], axis=1) ** 2, x),
        tf.gradients(tf.gather_nd(x, [[1, 2], [3, 0], [1, 2]]) ** 2, x),
        tf.gradients(tf.reduce_sum(tf.convert_to_tensor(tf.gather(x, [1, 1])) ** 2 * w), w),
        tf.math.unsorted_segment_sum(x, [1, 0, 1, 1], 3),
        tf.scatter_nd([[4], [0]], x[:2] * w, [5, 6]),
        tf.split(x, 3, axis=-1),
    ),
    "one or the other": lambda w, x: (
        tf.raw_ops.Select(condition=x > 0, x=x, y=-x),
        tf.raw_ops.Select(condition=w[0] > 0, x=x, y=-x),
        tf.raw_ops.Select(condition=x[:, 0] > 0, x=x, y=-x),
        tf.gradients(tf.nn.sigmoid_cross_entropy_with_logits(tf.ones_like(x), x * w), [w, x]),
        tf.gradients(tf.clip_by_norm(x * w, 1.0), [w, x]),
    ),
    "the largest, and their gradients": lambda w, x: tf.gradients(tf.math.top_k(x * w, 2)[0] ** 2, [w, x]),
    "an einstein sum": lambda w, x: tf.einsum("ij,j->i", x, w),
    "a product of three axes": lambda w, x: tf.matmul(tf.reshape(x, [2, 2, 6]), tf.reshape(x, [2, 6, 2])),
    "what is left to TensorFlow, without products": lambda w, x: (
        tf.argmax(x, axis=-1),
        tf.gather(x, [3, 0], axis=0),
        tf.cumsum(x, axis=1),
    ),
}
FOREIGN = {
    "an einstein sum over a diagonal": lambda w, x: tf.einsum(
        "ii,ij->j", tf.matmul(x, x, transpose_b=True), x
    ),
    "a decomposition": lambda w, x: tf.linalg.cholesky(
        tf.matmul(x, x, transpose_b=True) + 9 * tf.eye(4, dtype=x.dtype)
    ),
}


def both_ways(fn, lanes=LANES):
    """(lifted, a run at a time), both [..., lanes], and the lifting."""
    w, x = numbers(6, lanes, seed=3), numbers(4, 6, lanes, seed=4)
    lifting = Lifting(lanes)
    found = compiled(lambda *args: lifting(fn, args), w, x)
    one = tf.function(fn, autograph=False)
    runs = [one(tf.constant(w[..., i]), tf.constant(x[..., i])) for i in range(lanes)]
    expected = tf.nest.map_structure(lambda *each: np.stack([e.numpy() for e in each], -1), *runs)
    return found, expected, lifting


@pytest.mark.parametrize("name", [*KNOWN, *FOREIGN])
def test_lifted_maths_is_that_of_each_run(name):
    found, expected, lifting = both_ways({**KNOWN, **FOREIGN}[name])
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), found, expected
    )
    assert lifting.foreign == (name in FOREIGN)


def test_what_all_lanes_share_is_given_once():
    w, shared = numbers(6, LANES), numbers(5, 6)
    lifting = Lifting(LANES)
    found = compiled(lambda a, b: lifting(lambda w, s: tf.linalg.matvec(s, w), [a], [b]), w, shared)
    np.testing.assert_allclose(found, shared @ w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "fn",
    [looped, lambda w, x: tf.cond(w[0] > 0, lambda: x, lambda: -x), lambda w, x: x * tf.random.uniform([])],
    ids=["a loop", "a condition", "not the same at every call"],
)
def test_what_cannot_be_lifted_says_so(fn):
    with pytest.raises(NotLifted, match="cannot be vectorized with lanes last"):
        both_ways(fn)


def test_what_a_user_raises_is_passed_on():
    def fn(w, x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Lifting(LANES)(fn, [tf.zeros([6, LANES]), tf.zeros([4, 6, LANES])])


def test_a_leaf_is_changed_for_all_that_is_made_of_it():
    """A state is chosen by lane, and parameters are made of what was chosen; a leaf that is passed on as it
    was given, and one that two places hold, are each chosen from their own."""

    def update(p, a, b):
        new = a + 1.0
        return p - new, (tf.identity(new), a, new)

    def fn(p, a, b):
        lifting = Lifting(LANES)
        traced = lifting.trace(update, [p, a, b])
        going = tf.range(LANES) < 4
        change = {i: (lambda new, i=i: tf.where(going, new, -float(i))) for i in (1, 2, 3)}
        return lifting.run(traced, [p, a, b], (), change)

    p, a, b = (np.full([2, LANES], value, np.float32) for value in (10.0, 1.0, 5.0))
    params, state = compiled(fn, p, a, b)
    assert (params[:, :4] == 8.0).all() and (params[:, 4:] == 11.0).all()
    assert [leaf[0, 0] for leaf in state] == [2.0, 1.0, 2.0]
    assert [leaf[0, 9] for leaf in state] == [-1.0, -2.0, -3.0]


def test_lifting_agrees_with_tensorflows_vectorizer():
    w, x = numbers(6, LANES, seed=5), numbers(4, 6, LANES, seed=6)
    ours = compiled(lambda *args: Lifting(LANES)(gradients, args), w, x)
    first = [np.moveaxis(leaf, -1, 0) for leaf in (w, x)]
    theirs = compiled(lambda *args: lift.map_lanes(gradients, args), *first)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, np.moveaxis(b, 0, -1), rtol=1e-5, atol=1e-6)


def test_what_raises_in_a_map_leaves_strategies_their_variables():
    def raises(_):
        raise RuntimeError("not here")

    mapped = tf.function(lambda: lift.map_in_turn(raises, tf.range(3), tf.TensorSpec([])), autograph=False)
    with pytest.raises(RuntimeError, match="not here"):
        mapped()
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        tf.Variable(1.0)
    assert tf.compat.v1.get_variable_scope().caching_device is None
