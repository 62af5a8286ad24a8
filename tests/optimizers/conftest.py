"""Four logical CPU devices for the distribution tests, and one trajectory for ours and for the peers'."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import pytest
import tensorflow as tf

# Must be set before TensorFlow starts, so at import.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)

ROOT = Path(__file__).parents[2] / "optimizers"
CURVATURE = (np.linspace(0.2, 3.0, 6).reshape(3, 2), np.linspace(0.5, 2.0, 4))


@pytest.fixture(autouse=True)
def float64_peers() -> Iterator[None]:
    """Keras and JAX in float64, so that a comparison shows differences of method alone."""
    keras.config.set_floatx("float64")
    with jax.enable_x64(True):
        yield
    keras.config.set_floatx("float32")


@pytest.fixture
def descend() -> Callable[..., list[list[np.ndarray]]]:
    """Runs a stepper down a noisy quadratic; every peer sees the gradient at its own parameters."""

    def run(stepper: Any, steps: int = 60) -> list[list[np.ndarray]]:
        params = [np.linspace(-2.0, 2.5, 6).reshape(3, 2), np.array([1.0, -0.5, 0.25, 3.0])]
        stepper.start(params)
        trajectory = []
        for t in range(steps):
            noise = np.random.default_rng(t)
            grads = [
                c * (p - 0.3) + 0.3 * noise.normal(size=p.shape)
                for c, p in zip(CURVATURE, params, strict=True)
            ]
            params = stepper.step(grads, t)
            trajectory.append(params)
        return trajectory

    return run


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Whether two trajectories agree, in float64 to ten digits at every step."""

    def check(ours: list[list[np.ndarray]], theirs: list[list[np.ndarray]], rtol: float = 1e-10) -> None:
        assert len(ours) == len(theirs) >= 50
        for mine, other in zip(ours, theirs, strict=True):
            for a, b in zip(mine, other, strict=True):
                assert a.dtype == b.dtype == np.float64
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 100)
        # Two runs that stand still agree too.
        assert any(np.abs(last - first).max() > 1e-3 for last, first in zip(ours[-1], ours[0], strict=True))

    return check


class _Ours:
    """One of ours, through a graph function."""

    def __init__(self, optimizer: Any, rate: float):
        self.optimizer, self.rate = optimizer, rate
        self.update = tf.function(optimizer.update, autograph=False)

    def start(self, params: list[np.ndarray]) -> None:
        self.params = [tf.constant(p) for p in params]
        self.state = self.optimizer.init(self.params)

    def step(self, grads: list[np.ndarray], t: int) -> list[np.ndarray]:
        grads = [tf.constant(g) for g in grads]
        rate = tf.constant(self.rate, tf.float64)
        self.params, self.state = self.update(self.params, grads, self.state, rate, tf.constant(t))
        return [p.numpy() for p in self.params]

    def evaluated(self) -> list[np.ndarray]:
        return [p.numpy() for p in self.optimizer.eval_params(self.params, self.state)]


class _Keras:
    """A Keras optimizer."""

    def __init__(self, optimizer: Any):
        self.optimizer = optimizer

    def start(self, params: list[np.ndarray]) -> None:
        self.variables = [keras.Variable(p, dtype="float64") for p in params]
        self.optimizer.build(self.variables)

    def step(self, grads: list[np.ndarray], t: int) -> list[np.ndarray]:
        self.optimizer.apply([tf.constant(g) for g in grads], self.variables)
        return [v.numpy() for v in self.variables]


class _Optax:
    """An Optax gradient transformation."""

    def __init__(self, transformation: Any):
        self.transformation = transformation

    def start(self, params: list[np.ndarray]) -> None:
        self.params = [jax.numpy.asarray(p) for p in params]
        self.state = self.transformation.init(self.params)
        self.update = jax.jit(self._update)

    def _update(self, params, grads, state):
        updates, state = self.transformation.update(grads, state, params)
        return [p + u for p, u in zip(params, updates, strict=True)], state

    def step(self, grads: list[np.ndarray], t: int) -> list[np.ndarray]:
        self.params, self.state = self.update(self.params, grads, self.state)
        return [np.asarray(p) for p in self.params]


@pytest.fixture
def ours() -> type[_Ours]:
    return _Ours


@pytest.fixture
def by_keras() -> type[_Keras]:
    return _Keras


@pytest.fixture
def by_optax() -> type[_Optax]:
    return _Optax


@pytest.fixture(scope="session")
def catalogue_files() -> dict[str, tuple[Path, ast.ClassDef]]:
    """Catalogue name -> file and its class definition, read without importing."""
    found = {}
    for path in sorted([*ROOT.glob("*.py"), *ROOT.glob("transforms/*.py")]):
        if not path.name.startswith("_"):
            classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
            assert len(classes) == 1, path
            found[path.stem] = (path, classes[0])
    return found
