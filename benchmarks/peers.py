"""The same grids in JAX `vmap` + `lax.scan` + Optax, as its best users write them.

Learning rates and seeds are mapped axes; batches are drawn once per seed and shared by its rates; the whole
loop is one jitted program, warm when it is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def rosenbrock(x: jax.Array) -> jax.Array:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def functions(
    loss: Callable[[jax.Array], jax.Array], optimizer: Callable[[Any], Any], steps: int
) -> Callable[[jax.Array, jax.Array], Any]:
    """Program for [lanes, n] starts and [lanes] rates: best loss, its step, and the final point."""

    def run(start: jax.Array, rate: jax.Array) -> Any:
        rule = optimizer(rate)

        def step(carry: Any, index: jax.Array) -> Any:
            x, state, best, at = carry
            value, gradient = jax.value_and_grad(loss)(x)
            better = value < best
            best, at = jnp.where(better, value, best), jnp.where(better, index, at)
            change, state = rule.update(gradient, state, x)
            return (optax.apply_updates(x, change), state, best, at), None

        begin = (start, rule.init(start), jnp.inf, 0)
        (x, _, best, at), _ = jax.lax.scan(step, begin, jnp.arange(steps))
        return x, best, at

    return jax.jit(jax.vmap(run))


def perceptron(
    images: np.ndarray, labels: np.ndarray, hidden: tuple[int, ...], batch: int, steps: int
) -> tuple[Callable[..., Any], Callable[[int, int], Any]]:
    """Program for networks on digits with Adam, [seeds, ...] parameters and [rates] rates, and its starts."""
    x, y = jnp.asarray(images), jnp.asarray(np.eye(10, dtype=np.float32)[labels])
    sizes = [images.shape[1], *hidden, 10]

    def loss(params: Any, rows: jax.Array) -> jax.Array:
        h = x[rows]
        for i, (w, b) in enumerate(params):
            h = h @ w + b
            if i + 1 < len(params):
                h = jax.nn.relu(h)
        return jnp.mean(jax.nn.logsumexp(h, -1) - jnp.sum(h * y[rows], -1))

    def step(params: Any, state: Any, rate: jax.Array, rows: jax.Array) -> Any:
        rule = optax.adam(rate)
        value, gradient = jax.value_and_grad(loss)(params, rows)
        change, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, change), state, value

    rates_axis = jax.vmap(step, in_axes=(0, 0, 0, None))  # a batch is shared by the rates of its seed
    both = jax.vmap(rates_axis, in_axes=(0, 0, None, 0))

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (batch,), 0, len(x))

    def run(params: Any, rates: jax.Array, key: jax.Array) -> Any:
        keys = jax.random.split(key, jax.tree.leaves(params)[0].shape[0])
        state = jax.vmap(jax.vmap(lambda p: optax.adam(1.0).init(p)))(params)

        def body(carry: Any, index: jax.Array) -> Any:
            params, state = carry
            rows = jax.vmap(lambda k: jax.random.randint(jax.random.fold_in(k, index), (batch,), 0, len(x)))(
                keys
            )
            params, state, value = both(params, state, rates, rows)
            return (params, state), value

        (params, _), values = jax.lax.scan(body, (params, state), jnp.arange(steps))
        return params, values[-1]

    def starts(seeds: int, rates: int) -> Any:
        generator = np.random.default_rng(0)
        layers = []
        for a, b in pairwise(sizes):
            w = generator.normal(size=(seeds, 1, a, b)).astype(np.float32) / np.sqrt(a)
            shape = (seeds, rates, a, b)
            layers.append((jnp.broadcast_to(w, shape), jnp.zeros((seeds, rates, b), jnp.float32)))
        return layers

    return jax.jit(run), starts
