"""Products of lanes as tiles of registers: what they come to, and what XLA makes of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import lanes, lift, planning
from harness.runtime import tensorflow
from harness.types import Lanes

tf = tensorflow()

from harness import grid, nodes, products, tiles  # noqa: E402
from harness.spec import StudySpec  # noqa: E402

RNG = np.random.default_rng(0)


def drawn(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(size=shape).astype(dtype)


def compiled(fn: Any) -> Any:
    return tf.function(fn, jit_compile=True, autograph=False)


def turned(x: Any, turn: bool) -> Any:
    return np.ascontiguousarray(np.swapaxes(x, 1, 2)) if turn else x


SHAPES = [
    *[(2, 6, 20, 32), (3, 17, 13, 19), (2, 128, 64, 10), (2, 10, 64, 128), (1, 5, 300, 48)],
    *[(2, 12, 12, 40), (2, 9, 1, 7), (3, 1, 40, 33), (3, 33, 40, 1), (1, 1, 50, 1), (2, 8, 20, 600)],
    *[(1, 4, 16, 1024), (1, 2, 14, 513), (2, 2, 14, 2), (1, 31, 37, 29)],
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("inner", [(2, 1), (1, 1), (2, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_any_shape(shape: Any, inner: tuple[int, int], dtype: Any) -> None:
    lanes, rows, terms, columns = shape
    a, b = drawn(lanes, rows, terms, dtype=dtype), drawn(lanes, terms, columns, dtype=dtype)
    given = turned(a, inner[0] == 1), turned(b, inner[1] == 2)
    found = compiled(lambda a, b: tiles.product(a, b, inner))(*given)
    # Of sums in any order: as many roundings as there are terms, of what is added up.
    most = terms * np.finfo(dtype).eps * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    assert found.dtype == dtype and found.shape == (lanes, rows, columns)
    assert (np.abs(found.numpy() - a.astype(np.float64) @ b.astype(np.float64)) <= most).all()


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 64, 48), (1, 7, 33), (2, 1, 9), (3, 9, 1), (1, 2, 2)])
def test_turned_in_memory(shape: tuple[int, ...]) -> None:
    x = drawn(*shape)
    np.testing.assert_array_equal(compiled(tiles.turned)(x), np.swapaxes(x, 1, 2))


@pytest.mark.parametrize("axes", [[1], [2], [3], [1, 2], [2, 3], [1, 3], [1, 2, 3]], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 40, 96), (1, 150, 4, 33), (2, 1, 1, 5)], ids=str)
def test_sums(shape: Any, axes: list[int]) -> None:
    x = drawn(*shape)
    np.testing.assert_allclose(
        compiled(lambda x: products.leading_sum(x, axes))(x),
        x.sum(axis=tuple(axes), dtype=np.float64),
        rtol=1e-4,
        atol=1e-4,
    )


# -- what a network is made of ------------------------------------------------------------------------

LANES = 3
SEEN = drawn(40, 24)


def perceptron(params: Any) -> Any:
    """Products with what all lanes share before and behind, sums over either axis, and a mean."""
    h = tf.nn.relu(tf.matmul(SEEN, params["w"]) + params["b"])
    h = tf.matmul(h, params["v"], transpose_b=True)
    z = tf.matmul(tf.nn.bias_add(h, params["c"]), tf.constant(SEEN[:24, :11]))
    return tf.reduce_mean(tf.nn.softmax(z)[:, 0]) + 1e-3 * tf.reduce_sum(params["w"] ** 2)


def attention(params: Any) -> Any:
    """Products of stacks: of lanes' own, and one with what all share."""
    x = tf.einsum("ij,jk->ik", SEEN, tf.ones([24, 24])) * 0.01 + SEEN  # of no lane: not looked at again
    x = tf.reshape(x, [5, 8, 24])
    q = tf.matmul(x, tf.broadcast_to(params["w"][:, :24], [5, 24, 24]))
    weights = tf.nn.softmax(tf.matmul(q, x, transpose_b=True))
    return tf.reduce_mean(tf.matmul(weights, q) ** 2) + tf.reduce_sum(params["b"]) * 0


def parameters() -> dict[str, Any]:
    return {
        "w": drawn(LANES, 24, 48),
        "b": drawn(LANES, 48),
        "v": drawn(LANES, 24, 48),
        "c": drawn(LANES, 24),
    }


def with_slopes(loss: Any) -> Any:
    def fn(params: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(params)
            found = loss(params)
        return found, tape.gradient(found, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return fn


@pytest.mark.parametrize("loss", [perceptron, attention])
def test_losses_and_gradients_as_one_by_one(loss: Any) -> None:
    params, fn = parameters(), with_slopes(loss)
    found = compiled(lambda p: lift.map_lanes(fn, [p], tiles.Tiles()))(params)
    for lane in range(LANES):
        mine = fn({k: tf.constant(leaf[lane]) for k, leaf in params.items()})
        for ours, theirs in zip(tf.nest.flatten(found), tf.nest.flatten(mine), strict=True):
            np.testing.assert_allclose(ours[lane], theirs, rtol=2e-4, atol=2e-5)


def test_a_lane_is_the_same_to_the_bit_among_others() -> None:
    params, fn = parameters(), with_slopes(perceptron)
    many, one = (
        compiled(lambda p: lift.map_lanes(fn, [p], tiles.Tiles()))(
            {k: leaf[:count] for k, leaf in params.items()}
        )
        for count in (LANES, 1)
    )
    for ours, theirs in zip(tf.nest.flatten(many), tf.nest.flatten(one), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])


def dots(fn: Any, *args: Any) -> list[tuple[str, str]]:
    """The axes that are summed over in each of XLA's products, as it compiles them."""
    text = compiled(fn).experimental_get_compiler_ir(*args)(stage="optimized_hlo")
    assert "convolution(" not in text
    return re.findall(r" dot\(.*lhs_contracting_dims=\{(\d)\}.*rhs_contracting_dims=\{(\d)\}", text)


def test_all_products_are_as_xla_makes_tiles_of() -> None:
    params = {k: tf.constant(v) for k, v in parameters().items()}
    fn = with_slopes(perceptron)
    found = dots(lambda p: lift.map_lanes(fn, [p], tiles.Tiles()), params)
    as_they_stand = {("2", "1"), ("1", "0")}  # of a stack, and without one
    assert len(found) >= 5 and {*found} <= as_they_stand
    left = dots(lambda p: lift.map_lanes(fn, [p]), params)
    assert {*left} - as_they_stand, "turned products are what is avoided: nothing is tested otherwise"


@pytest.mark.parametrize("columns", [7, 33, 40, 72, 100, 130, 160, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_others_are_right_too(columns: int, dtype: Any) -> None:
    """XLA is wrong where columns are left over by tiles of more than two vectors, in whoever's program."""
    for rows, terms in ((1, 9), (6, 64), (13, 5), (64, 33)):
        a, b = drawn(rows, terms, dtype=dtype), drawn(terms, columns, dtype=dtype)
        for found in (compiled(tf.matmul)(a, b), compiled(repeated)(a, b)):
            np.testing.assert_allclose(found, a @ b, rtol=1e-4, atol=1e-4)


def repeated(a: Any, b: Any) -> Any:
    """The product from a loop that becomes a function, where XLA takes another vector for the widest."""
    begin = tf.zeros([a.shape[0], b.shape[1]], a.dtype)
    return nodes.repeat(lambda k, _: [tf.matmul(a, b) + tf.cast(k, a.dtype) * 0], [begin], 3)[0]


def test_xla_compiles_tiles(tmp_path: Path) -> None:
    """In a process of its own: XLA reads its flags once."""
    script = (
        "from harness.runtime import tensorflow, tiles_compile; tf = tensorflow(); print(tiles_compile());"
        "f = tf.function(tf.matmul, jit_compile=True); f(tf.ones([64, 96]), tf.ones([96, 160]))"
    )
    for given, made in (("", True), ("--xla_cpu_multi_thread_eigen=true", False)):
        folder = tmp_path / str(made)
        env = {"XLA_FLAGS": f"--xla_dump_to={folder} {given}", "OPTGRID_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | env, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [str(made)]
        code = "".join(file.read_text() for file in folder.glob("*ir-no-opt.ll"))
        assert ("gemm_F32_64x96x160" in code) == made


# -- what is left to others ---------------------------------------------------------------------------


SQUARE = drawn(16, 16)


def foreign(fn: Any, *args: Any) -> bool:
    made = tiles.Tiles()

    @tf.function(autograph=False)
    def look(*given: Any) -> Any:
        return lift.map_lanes(fn, given, made)

    look.get_concrete_function(*args)
    return made.foreign


def test_what_may_be_a_product_and_is_not_made_here_is_foreign() -> None:
    square, image = tf.ones([2, 16, 16]), tf.ones([2, 1, 8, 8, 1])
    assert not foreign(lambda x: tf.nn.softmax(tf.matmul(x, x)), square)
    assert foreign(lambda x: tf.einsum("ij,jk->ik", x, x), square)
    assert foreign(lambda x: tf.linalg.inv(x), square)
    assert foreign(lambda x: tf.nn.conv2d(x, tf.ones([3, 3, 1, 1]), 1, "SAME"), image)
    assert foreign(lambda x: tf.matmul(tf.cast(x, tf.bfloat16), tf.cast(x, tf.bfloat16)), square)
    assert foreign(lambda x: tf.matmul(x, tf.ones([4, 16, 16])), square)  # one for all of a stack
    assert foreign(lambda x: x + tf.random.normal([16, 16]), square)  # not the same at every call
    assert foreign(lambda x: x + tf.matmul(SQUARE, SQUARE, transpose_a=True), square)  # of no lane: left
    assert not foreign(lambda x: tf.matmul(x, SQUARE, transpose_b=True), square)


def test_what_is_foreign_is_as_one_by_one() -> None:
    x = drawn(2, 16, 16)

    def both(x: Any) -> Any:
        return tf.matmul(tf.matmul(x, tf.ones([4, 16, 16])), tf.einsum("ij,jk->ik", x, x))

    found = compiled(lambda x: lift.map_lanes(both, [x], tiles.Tiles()))(x)
    for lane in range(2):
        np.testing.assert_allclose(found[lane], both(tf.constant(x[lane])), rtol=1e-4, atol=1e-3)


def test_without_tiles_nothing_changes() -> None:
    x = tf.ones([2, 16, 16])
    tiles.Tiles()  # which teaches the vectorizer

    def kinds(made: Any) -> set[str]:
        fn = tf.function(lambda x: lift.map_lanes(lambda x: tf.matmul(x, x, transpose_b=True), [x], made))
        return {op.type for op in fn.get_concrete_function(x).graph.get_operations()}

    assert "StatelessWhile" in kinds(tiles.Tiles()) and "StatelessWhile" not in kinds(None)


def test_one_lane_has_tiles_too_where_all_can_be_made() -> None:
    made, x = tiles.Tiles(), drawn(1, 16, 16)

    def one(x: Any) -> Any:
        return tf.matmul(x, x, transpose_b=True)

    found = compiled(lambda x: lift.map_one(one, [x], xla=True, tiles=made))(x)
    np.testing.assert_allclose(found[0], one(x[0]), rtol=1e-5)
    assert not made.foreign
    made = tiles.Tiles()
    compiled(lambda x: lift.map_one(tf.linalg.inv, [x], xla=True, tiles=made))(x)
    assert made.foreign


# -- which networks -----------------------------------------------------------------------------------


def shape_of(workload: str, **fields: Any) -> tuple[Any, Any]:
    spec = StudySpec(
        name="tiles", workloads=[workload], optimizers=["adam"], learning_rates=[0.1, 0.2], seeds=2, **fields
    )
    cell = grid.cells(spec)[0]
    return cell, planning.measure(cell, False)


@pytest.mark.parametrize(
    ("workload", "fields", "suited"),
    [
        ("digits_mlp(hidden=[64, 64], steps=9)", {}, True),
        ("digits_mlp(hidden=[64, 64], steps=9)", {"dtype": "float64"}, True),
        ("digits_mlp(hidden=[8], steps=9)", {}, False),  # columns for half a vector
        ("digits_logistic(steps=9)", {}, False),
        ("digits_cnn(steps=9)", {}, False),
        ("quadratic(dimension=100, steps=9)", {}, False),
    ],
)
def test_networks_of_wide_layers_suit_tiles(workload: str, fields: Any, suited: bool) -> None:
    _, shape = shape_of(workload, **fields)
    assert shape.tiled == suited


def test_tiles_where_no_vector_of_lanes_is_near_the_core() -> None:
    cell, small = shape_of("digits_mlp(hidden=[32], steps=9)")
    _, large = shape_of("digits_mlp(hidden=[128, 128], batch_size=256, steps=9)")
    assert large.parts == 1, "parts are for what is written out"
    assert planning._writes_out(cell, small, Lanes(1, 16))
    assert not planning._writes_out(cell, large, Lanes(1, 16))


@pytest.mark.parametrize(
    ("per_seed", "seeds", "lane_bytes", "expected"),
    [
        (16, 8, 100_000, Lanes(1, 16)),  # a whole vector: written out
        (13, 8, 100_000, Lanes(1, 16)),
        (12, 8, 100_000, Lanes(2, 12)),  # a quarter of the vector would idle; an even number of tiles
        (4, 16, 100_000, Lanes(8, 4)),
        (4, 24, 100_000, Lanes(6, 4)),  # four of six seeds, not three of eight
        (16, 8, 364_544, Lanes(1, 16)),  # all rates of a seed
        (16, 8, 943_104, Lanes(1, 4)),
        (16, 8, 3_200_000, Lanes(1, 2)),
        (16, 8, 6_000_000, Lanes(1, 1)),
        (1, 32, 100_000, Lanes(32, 1)),
    ],
)
def test_lanes_in_tiles(per_seed: int, seeds: int, lane_bytes: int, expected: Lanes) -> None:
    chosen = lanes.choose(
        cells=per_seed * seeds,
        per_seed=per_seed,
        seeds=seeds,
        lane_bytes=lane_bytes,
        shared_batch=True,
        network=True,
        stop_at_target=False,
        memory_bytes=2**34,
        part_bytes=lane_bytes,
        tiled=True,
    )
    assert chosen == expected


def test_short_sums_of_products_stay_fusions() -> None:
    """So that a gradient of ten classes is made where it is read, without a product's own pass."""
    a, b = tf.ones([2, 40, products.TERMS]), tf.ones([2, products.TERMS, 64])
    assert not dots(lambda a, b: nodes.add(tiles.product(a, b), tf.ones([2, 40, 64])), a, b)
