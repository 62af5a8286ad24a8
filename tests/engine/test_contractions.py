"""Stacks of products and Einstein sums of many lanes: against TensorFlow's, a run at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from harness.lanes_last import Lifting, NotLifted

LANES = 16
STACKS = [
    ((6, 5, 3), (6, 3, 4)),
    ((6, 5, 17), (6, 17, 9)),  # more terms than a round has
    ((2, 3, 8, 4), (2, 3, 4, 7)),
    ((6, 5, 3), (3, 4)),  # one matrix for all of a stack
    ((5, 3), (6, 3, 8)),
    ((6, 8, 3), (1, 3, 8)),
    ((1, 5, 13), (1, 13, 4)),
]
EQUATIONS = [
    ("ij,jk->ik", (5, 3), (3, 4)),
    ("ji,kj->ki", (3, 5), (4, 3)),
    ("ij,j->i", (5, 3), (3,)),
    ("ij,ij->ij", (5, 3), (5, 3)),
    ("ij,ij->", (5, 3), (5, 3)),
    ("i,j->ji", (5,), (3,)),
    ("bti,id->btd", (6, 4, 5), (5, 3)),
    ("bid,bjd->bij", (6, 4, 5), (6, 7, 5)),
    ("bqhd,bkhd->bhqk", (2, 4, 3, 5), (2, 6, 3, 5)),
    ("bhqk,bkhd->bqhd", (2, 3, 4, 16), (2, 16, 3, 5)),
    ("...i,ij->...j", (2, 4, 5), (5, 3)),
    ("b...,...->b...", (3, 2, 4), (2, 4)),
]


def numbers(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def and_gradients(fn: Any, *args: Any) -> list[Any]:
    with tf.GradientTape() as tape:
        tape.watch(args)
        out = fn(*args)
        loss = tf.reduce_sum(tf.sin(out))
    return [out, *tape.gradient(loss, args)]


def check(fn: Any, a: np.ndarray, b: np.ndarray, shared: str) -> None:
    """Both inputs of all lanes, and one of the two the same for all."""
    lifting = Lifting(LANES)
    own = [x for x, name in ((a, "a"), (b, "b")) if name != shared]

    def last(*given: Any) -> Any:
        if shared == "a":
            return lifting(lambda y, x: and_gradients(fn, x, y), given, [tf.constant(a[0])])
        if shared == "b":
            return lifting(lambda x, y: and_gradients(fn, x, y), given, [tf.constant(b[0])])
        return lifting(lambda x, y: and_gradients(fn, x, y), given)

    found = tf.function(last, jit_compile=True, autograph=False)(*(np.moveaxis(x, 0, -1) for x in own))
    assert not lifting.foreign
    for lane in range(LANES):
        x, y = (v[0 if name == shared else lane] for v, name in ((a, "a"), (b, "b")))
        for value, right in zip(found, and_gradients(fn, tf.constant(x), tf.constant(y)), strict=True):
            np.testing.assert_allclose(value[..., lane], right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shared", ["none", "a", "b"])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("a", "b"), STACKS)
def test_stacks_of_products(a: Any, b: Any, turned: tuple[bool, bool], shared: str) -> None:
    shapes = [(*x[:-2], x[-1], x[-2]) if t else x for x, t in zip((a, b), turned, strict=True)]
    one, other = (numbers(LANES, *x, seed=i) for i, x in enumerate(shapes))
    check(lambda x, y: tf.matmul(x, y, transpose_a=turned[0], transpose_b=turned[1]), one, other, shared)


@pytest.mark.parametrize("shared", ["none", "a", "b"])
@pytest.mark.parametrize(("equation", "a", "b"), EQUATIONS)
def test_einstein_sums(equation: str, a: Any, b: Any, shared: str) -> None:
    one, other = (numbers(LANES, *x, seed=i) for i, x in enumerate((a, b)))
    check(lambda x, y: tf.einsum(equation, x, y), one, other, shared)


@pytest.mark.parametrize("equation", ["ijk->kij", "ijk->k", "ijk->ji", "ijk->", "i...->...i"])
def test_sums_of_one_input(equation: str) -> None:
    x, lifting = numbers(LANES, 3, 4, 5, seed=1), Lifting(LANES)

    def last(given: Any) -> Any:
        return lifting(lambda x: tf.raw_ops.Einsum(inputs=[x], equation=equation), [given])

    found = tf.function(last, jit_compile=True, autograph=False)(np.moveaxis(x, 0, -1))
    expected = np.stack([np.einsum(equation, each) for each in x], -1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert not lifting.foreign


@pytest.mark.parametrize("equation", ["ii->i", "ii->", "iij,jk->ik"])
def test_gradients_of_diagonals_are_not_lifted(equation: str) -> None:
    """TensorFlow makes of them sums whose result has an index twice, which its vectorizer refuses as well."""
    x = numbers(*((3, 3, 4) if "," in equation else (3, 3)), LANES, seed=1)
    others = [numbers(4, 5, seed=2)] if "," in equation else []

    def last(given: Any) -> Any:
        return Lifting(LANES)(lambda x: and_gradients(lambda x: tf.einsum(equation, x, *others), x), [given])

    with pytest.raises(NotLifted, match="more than once"):
        tf.function(last, autograph=False)(x)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.complex64, tf.int32])
def test_only_real_sums_in_their_own_precision_are_written_out(dtype: Any) -> None:
    x, lifting = tf.cast(numbers(3, 40, 5, LANES, seed=1) * 9, dtype), Lifting(LANES)

    def one(x: Any) -> Any:
        return tf.matmul(x, x, transpose_a=True), tf.einsum("bij,bik->bjk", x, x)

    found = tf.function(lambda x: lifting(one, [x]), jit_compile=True, autograph=False)(x)
    assert lifting.foreign
    within = 0.05 if dtype == tf.bfloat16 else 1e-5
    for lane in range(LANES):
        for value, right in zip(found, one(x[..., lane]), strict=True):
            got, want = (np.asarray(tf.cast(v, tf.complex128)) for v in (value[..., lane], right))
            np.testing.assert_allclose(got, want, rtol=within, atol=within * np.abs(want).max())


def test_numbers_that_lanes_share() -> None:
    x = numbers(LANES, 3, 4, seed=1)
    last = tf.function(
        lambda x: Lifting(LANES)(lambda x: tf.einsum(",ij->ji", tf.constant(2.0, x.dtype), x), [x]),
        jit_compile=True,
        autograph=False,
    )
    np.testing.assert_allclose(last(np.moveaxis(x, 0, -1)), 2 * np.transpose(x, [2, 1, 0]), rtol=1e-12)


@pytest.mark.parametrize("equation", ["ii,ij->ij", "ij,kl->kl"])
def test_what_is_no_product_is_left_to_tensorflow(equation: str) -> None:
    x, y, lifting = numbers(LANES, 3, 3, seed=1), numbers(LANES, 3, 3, seed=2), Lifting(LANES)

    def last(*given: Any) -> Any:
        return lifting(lambda *both: tf.raw_ops.Einsum(inputs=both, equation=equation), given)

    found = tf.function(last, jit_compile=True, autograph=False)(*(np.moveaxis(v, 0, -1) for v in (x, y)))
    for lane in range(LANES):
        np.testing.assert_allclose(found[..., lane], np.einsum(equation, x[lane], y[lane]), rtol=1e-11)
    assert lifting.foreign
