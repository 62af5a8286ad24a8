"""What the machine can do at best: matrix products for networks, copies for functions, on all cores."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np

SIZE = 2048  # of the square matrices; larger ones gain nothing
WINDOW = 0.4  # seconds that one figure is measured for


def _best(call: Callable[[], object], window: float = WINDOW) -> float:
    """Seconds of the fastest call within the window, after a first one that warms up."""
    call()
    best, end = np.inf, time.perf_counter() + window
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return float(best)


def sgemm_flops_per_second(size: int = SIZE) -> dict[str, float]:
    """float32 products of square matrices by NumPy's BLAS, XLA as JAX calls it, and TensorFlow."""
    import jax
    import jax.numpy as jnp
    import tensorflow as tf

    a, b = np.random.default_rng(0).standard_normal((2, size, size)).astype(np.float32)
    x, y, s, t = jnp.asarray(a), jnp.asarray(b), tf.constant(a), tf.constant(b)
    product = jax.jit(jnp.matmul)
    ways: dict[str, Callable[[], object]] = {
        "numpy": lambda: a @ b,
        "xla": lambda: jax.block_until_ready(product(x, y)),
        "tensorflow": lambda: tf.matmul(s, t).numpy(),
    }
    return {name: 2 * size**3 / _best(call) for name, call in ways.items()}


def copy_bytes_per_second(size: int, window: float = WINDOW) -> float:
    """Bytes read and written per second by a copy on every core at once, of `size` bytes in all."""
    cores = len(os.sched_getaffinity(0))
    count = max(1, size // (8 * cores))  # half is read, half is written; float32
    repeats = max(1, 2**22 // (8 * count))  # long enough that calling it does not count
    best = [np.inf] * cores

    def copy(core: int) -> None:
        source, target = np.ones(count, np.float32), np.empty(count, np.float32)

        def many() -> None:
            for _ in range(repeats):
                np.copyto(target, source)

        best[core] = _best(many, window)

    threads = [threading.Thread(target=copy, args=(core,)) for core in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(8 * count * repeats / seconds for seconds in best)


class Bounds:
    """Measured in a process of its own, as a side."""

    def sgemm(self) -> dict[str, float]:
        return sgemm_flops_per_second()

    def copy(self, size: int) -> float:
        return copy_bytes_per_second(size)
