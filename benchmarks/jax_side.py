"""The same grids in JAX `vmap` + `lax.scan` + Optax, as its best users write them.

Learning rates and seeds are mapped axes, a batch is shared by the rates of its seed, and the whole loop is
one jitted program. Where two ways are both idiomatic (which axis holds the lanes, unrolling, one device of
all cores or a device per core, a convolution or patches and a product), all are compiled and run, and the
fastest is kept. Batches are drawn beforehand and scanned over, which costs JAX less than drawing them.
Buffers are not donated: the loop's state lives inside the program, and donating what it starts from saves a
copy per call, not per step.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from benchmarks.sides import Cold, Prepared, Round
from benchmarks.works import LARGEST, Inputs, Work

FAR = 3.0  # times the fastest: a way that takes longer has lost, and is not run again

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "adam": lambda rate: optax.adam(rate, eps=1e-7),
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
}


def _begin(optimizer: Callable[[Any], Any], params: Any) -> Any:
    return optimizer(1.0).init(params)  # no state depends on the rate


def rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def quadratic(x: jax.Array, condition: float = 100.0) -> jax.Array:
    eigenvalues = np.geomspace(1.0, condition, len(x)).astype(np.float32)
    return 0.5 * jnp.sum(eigenvalues * x**2)


FUNCTIONS = {"rosenbrock": rosenbrock, "quadratic": quadratic}


def function_program(
    loss: Callable[[jax.Array], jax.Array],
    optimizer: Callable[[Any], Any],
    steps: int,
    axis: int,
    unroll: int,
) -> Callable[[jax.Array, jax.Array], Any]:
    """Starts [lanes, n] and rates [lanes] -> final points, best losses and their steps.

    Args:
        axis: of the lanes in memory, 0 or 1.
        unroll: steps in one pass of the loop.
    """

    def one(x: jax.Array, state: Any, rate: jax.Array, best: jax.Array, at: jax.Array, index: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(x)
        better = value < best
        best, at = jnp.where(better, value, best), jnp.where(better, index, at)
        change, state = optimizer(rate).update(gradient, state, x)
        return optax.apply_updates(x, change), state, best, at

    def run(starts: jax.Array, rates: jax.Array) -> Any:
        x = starts if axis == 0 else starts.T
        begin = partial(_begin, optimizer)
        # Of one lane, the state's counters are numbers and its means have the shape of x.
        axes = jax.tree.map(lambda leaf: min(axis, leaf.ndim), jax.eval_shape(begin, starts[0]))
        state = jax.vmap(begin, axis, axes)(x)
        step = jax.vmap(one, (axis, axes, 0, 0, 0, None), (axis, axes, 0, 0))

        def body(carry: Any, index: jax.Array) -> Any:
            x, state, best, at = carry
            return step(x, state, rates, best, at, index), None

        first = (x, state, jnp.full(len(rates), jnp.inf), jnp.zeros(len(rates), jnp.int32))
        (x, _, best, at), _ = jax.lax.scan(body, first, jnp.arange(steps), unroll=unroll)
        last = jax.vmap(loss, axis)(x)
        best, at = jnp.where(last < best, last, best), jnp.where(last < best, steps, at)
        return x if axis == 0 else x.T, best, at

    return run


def perceptron(params: list[jax.Array], images: jax.Array) -> jax.Array:
    """[batch, pixels] -> [batch, classes]; `params` are weight and bias of each layer in turn."""
    h = images
    for i in range(0, len(params), 2):
        h = h @ params[i] + params[i + 1]
        h = jax.nn.relu(h) if i + 2 < len(params) else h
    return h


def _convolved(maps: jax.Array, weight: jax.Array) -> jax.Array:
    """3x3 without padding, [batch, h, w, channels], weight [9 channels, filters], by `lax.conv`."""
    kernel = weight.reshape(3, 3, maps.shape[-1], -1)
    return jax.lax.conv_general_dilated(
        maps, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _patched(maps: jax.Array, weight: jax.Array) -> jax.Array:
    """The same, as nine shifted views and one product."""
    height, width = maps.shape[1] - 2, maps.shape[2] - 2
    views = [maps[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(views, -1) @ weight


def _pool(maps: jax.Array) -> jax.Array:
    """Mean of each 2x2 square."""
    batch, height, width, channels = maps.shape
    return maps.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def convolutional(convolve: Callable[..., jax.Array], params: list[jax.Array], images: jax.Array) -> Any:
    """[batch, pixels] -> [batch, classes]: two convolutions with means of 2x2 between, and a dense layer."""
    first, first_bias, second, second_bias, last, last_bias = params
    side = round(images.shape[-1] ** 0.5)
    maps = images.reshape(-1, side, side, 1)
    maps = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    maps = _pool(jax.nn.relu(convolve(maps, first) + first_bias))
    maps = jax.nn.relu(convolve(maps, second) + second_bias)
    while maps.shape[1] > LARGEST:
        maps = _pool(maps)
    return maps.reshape(len(images), -1) @ last + last_bias


NETWORKS: dict[str, dict[str, Callable[..., jax.Array]]] = {
    "mlp": {"products": perceptron},
    "cnn": {"patches": partial(convolutional, _patched), "conv": partial(convolutional, _convolved)},
}


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(jax.nn.logsumexp(logits, -1) - jnp.sum(logits * labels, -1))


def network_program(
    network: Callable[..., jax.Array], optimizer: Callable[[Any], Any], images: Any, labels: Any, unroll: int
) -> Callable[..., Any]:
    """Starts [seeds, ...], rates [rates] and rows [steps, seeds, batch] -> parameters [seeds, rates, ...]."""
    images, labels = jnp.asarray(images), jnp.asarray(labels)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return cross_entropy(network(params, x), y)

    def one(params: Any, state: Any, rate: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        change, state = optimizer(rate).update(gradient, state, params)
        return optax.apply_updates(params, change), state, value

    # A batch belongs to a seed and is shared by its rates: their first products become one.
    step = jax.vmap(jax.vmap(one, (0, 0, 0, None, None)), (0, 0, None, 0, 0))

    def run(starts: list[jax.Array], rates: jax.Array, rows: jax.Array) -> Any:
        params = [
            jnp.broadcast_to(leaf[:, None], (leaf.shape[0], len(rates), *leaf.shape[1:])) for leaf in starts
        ]
        state = jax.vmap(jax.vmap(partial(_begin, optimizer)))(params)

        def body(carry: Any, at: jax.Array) -> Any:
            params, state, value = step(*carry, rates, images[at], labels[at])
            return (params, state), value

        (params, _), values = jax.lax.scan(body, (params, state), rows, unroll=unroll)
        return params, values[-1]

    return run


def variants(work: Work, inputs: Inputs) -> dict[str, Callable[..., Any]]:
    """The ways to write a work's loop that are tried, by name."""
    optimizer = OPTIMIZERS[work.optimizer]
    if work.family == "function":
        return {
            f"lanes {'first' if axis == 0 else 'last'}, unroll {unroll}": function_program(
                FUNCTIONS[work.workload], optimizer, work.steps, axis, unroll
            )
            for axis in (0, 1)
            for unroll in (1, 8)
        }
    return {
        f"{name}, unroll {unroll}": network_program(network, optimizer, inputs.images, inputs.labels, unroll)
        for name, network in NETWORKS[work.family].items()
        for unroll in (1, 2)
    }


def _arguments(work: Work, inputs: Inputs) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What a work's program is called with, and how each is split over devices."""
    rates = work.rates.astype(np.float32)
    if work.family == "function":
        starts = np.tile(inputs.starts[0], (work.points, 1))  # [rates x seeds, n]
        return (starts, np.repeat(rates, work.seeds)), (PartitionSpec("core"), PartitionSpec("core"))
    split = PartitionSpec("core"), PartitionSpec(), PartitionSpec(None, "core")
    return (inputs.starts, rates, inputs.rows), split


class Jax:
    """One warm program on all cores."""

    def __init__(self) -> None:
        with contextlib.suppress(RuntimeError):  # JAX runs already, as in a test: its devices hold
            jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))

    def prepare(self, work: Work, inputs: Inputs) -> Prepared:
        self.work, self.inputs = work, inputs
        arguments, split = _arguments(work, inputs)
        tried: dict[str, tuple[float, float, Any, Any]] = {}
        fastest, lost = float("inf"), set[str]()
        for name, fn in variants(work, inputs).items():
            way = name.partition(",")[0]
            if way in lost:
                continue
            for devices in sorted({1, len(jax.devices())}):
                label = f"{name}, {devices} device{'s' if devices > 1 else ''}"
                tried[label] = self._try(fn, devices, arguments, split, fastest)
                fastest = min(fastest, tried[label][1])
            if min(each[1] for label, each in tried.items() if label.startswith(name)) > FAR * fastest:
                lost.add(way)  # unrolling will not win it back
        best = min(tried, key=lambda label: tried[label][1])
        seconds, _, self.program, self.arguments = tried[best]
        return Prepared(seconds, best, {label: each[1] for label, each in tried.items()})

    def _try(
        self, fn: Callable[..., Any], devices: int, arguments: Any, split: Any, fastest: float
    ) -> tuple[float, float, Any, Any]:
        """Compiles one way; (compile seconds, seconds of a run, program, its arguments)."""
        seconds, program, arguments = self._compiled(fn, devices, arguments, split)
        took = []
        for _ in range(3):  # the first run also makes buffers
            begin = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            took.append(time.perf_counter() - begin)
            if took[-1] > FAR * fastest:
                break
        return seconds, min(took), program, arguments

    def _compiled(
        self, fn: Callable[..., Any], devices: int, arguments: Any, split: Any
    ) -> tuple[float, Any, Any]:
        """(compile seconds, program, its arguments on the devices)."""
        if devices > 1:
            mesh = Mesh(np.array(jax.devices()[:devices]), ("core",))
            fn = jax.shard_map(
                fn, mesh=mesh, in_specs=split, out_specs=PartitionSpec("core"), check_vma=False
            )
            place = [jax.sharding.NamedSharding(mesh, spec) for spec in split]
            arguments = [jax.device_put(a, where) for a, where in zip(arguments, place, strict=True)]
        arguments = jax.tree.map(jnp.asarray, tuple(arguments))
        begin = time.perf_counter()
        program = jax.jit(fn).lower(*arguments).compile()
        return time.perf_counter() - begin, program, arguments

    def start(self) -> None:
        """Compiles something small: what a process does once is not a program's."""
        jax.block_until_ready(jax.jit(jnp.sin)(jnp.ones(3)))

    def cold(self, work: Work, inputs: Inputs, variant: str) -> Cold:
        """A work's program compiled and run, written in the way that `prepare` names so."""
        self.work = work
        name, _, devices = variant.rpartition(", ")
        seconds, self.program, self.arguments = self._compiled(
            variants(work, inputs)[name], int(devices.split()[0]), *_arguments(work, inputs)
        )
        return Cold(seconds, self.run().seconds)

    def run(self) -> Round:
        begin = time.perf_counter()
        self.result = jax.block_until_ready(self.program(*self.arguments))
        return Round(time.perf_counter() - begin, self.work.cell_steps)

    def losses(self) -> np.ndarray:
        if self.work.family == "function":
            last = jax.vmap(FUNCTIONS[self.work.workload])(jnp.asarray(np.asarray(self.result[0])))
            return np.asarray(last).reshape(self.work.points, self.work.seeds)
        params, _ = self.result
        network = next(iter(NETWORKS[self.work.family].values()))
        images, labels = jnp.asarray(self.inputs.images), jnp.asarray(self.inputs.labels)
        evaluate = jax.jit(lambda one: cross_entropy(network(one, images), labels))
        losses = [
            [float(evaluate([leaf[s, r] for leaf in params])) for s in range(self.work.seeds)]
            for r in range(self.work.points)
        ]
        return np.array(losses)
