"""Other people's ways to run the same rule: Keras, TensorFlow's fused operations, Optax."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable
from typing import Any

from .cases import LEARNING_RATE, Case, Prepared
from .device import tensorflow

# Catalogue name -> the name there and what it is made with, where the two differ.
KERAS: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient_descent": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
}
OPTAX: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient_descent": ("sgd", {}),
    "momentum": ("sgd", {"momentum": 0.9}),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}),
}
# Catalogue name -> operation, slots, scalars in order; `None` stands for the variable's handle or a slot.
FUSED: dict[str, tuple[str, tuple[str, ...], dict[str, float], str]] = {
    "gradient_descent": ("ResourceApplyGradientDescent", (), {"alpha": LEARNING_RATE}, "delta"),
    "momentum": ("ResourceApplyMomentum", ("accum",), {"lr": LEARNING_RATE, "momentum": 0.9}, "grad"),
    "adagrad": ("ResourceApplyAdagradV2", ("accum",), {"lr": LEARNING_RATE, "epsilon": 1e-7}, "grad"),
    "adadelta": (
        "ResourceApplyAdadelta",
        ("accum", "accum_update"),
        {"lr": LEARNING_RATE, "rho": 0.95, "epsilon": 1e-7},
        "grad",
    ),
    "adam": (
        "ResourceApplyAdam",
        ("m", "v"),
        {
            "beta1_power": 0.9,
            "beta2_power": 0.999,
            "lr": LEARNING_RATE,
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-7,
        },
        "grad",
    ),
    "adamax": (
        "ResourceApplyAdaMax",
        ("m", "v"),
        {"beta1_power": 0.9, "lr": LEARNING_RATE, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7},
        "grad",
    ),
    "rmsprop": (
        "ResourceApplyRMSProp",
        ("ms", "mom"),
        {"lr": LEARNING_RATE, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7},
        "grad",
    ),
}


def available(case: Case) -> dict[str, Callable[[Case], Prepared]]:
    """Peers of the case's rule, by implementation; none for transforms and for other than default switches.

    Float hyperparameters change no kernel, so their values need not agree.
    """
    from .. import catalog

    component = case.component
    entry = catalog.entry_of("optimizer", component)
    switched = [
        name
        for name, value in component.params.items()
        if name not in component.tuned and (f := entry.field(name)) is not None and f.default != value
    ]
    if component.inner or switched or not entry.builtin:
        return {}
    found: dict[str, Callable[[Case], Prepared]] = {}
    if _keras_class(component.name) is not None:
        found |= {"keras": keras_plain, "keras_jit": keras_jit}
    if component.name in FUSED:
        found["fused_op"] = fused_op
    if importlib.util.find_spec("optax") and importlib.util.find_spec("jax") and _optax(component.name):
        found["optax"] = optax_donated
    return found


def _keras_class(name: str) -> tuple[Any, dict[str, Any]] | None:
    import keras

    wanted, arguments = KERAS.get(name, (name.replace("_", ""), {}))
    for each in dir(keras.optimizers):
        made = getattr(keras.optimizers, each)
        if each.lower() == wanted.lower() and inspect.isclass(made):
            return made, arguments
    return None


def keras_plain(case: Case) -> Prepared:
    """Keras' optimizer of that name in a `tf.function`, as `fit` runs it without XLA."""
    return _keras(case, compiled=False)


def keras_jit(case: Case) -> Prepared:
    """Keras' optimizer of that name in a `tf.function(jit_compile=True)`."""
    return _keras(case, compiled=True)


def _keras(case: Case, compiled: bool) -> Prepared:
    import keras

    tf = tensorflow()
    found = _keras_class(case.component.name)
    assert found is not None
    variables = [keras.Variable(p, dtype=case.dtype, trainable=True) for p in case.parameters()]
    optimizer = found[0](learning_rate=LEARNING_RATE, **found[1])
    optimizer.build(variables)
    grads = case.gradients()
    program = tf.function(
        lambda gradients: optimizer.apply(gradients, variables), autograph=False, jit_compile=compiled
    )

    def hlo() -> str:
        return program.experimental_get_compiler_ir(grads)(stage="optimized_hlo")

    text = hlo if compiled else None
    # Its step counter and learning rate are scalars; what is shaped like a parameter is a slot.
    slots = [v for v in optimizer.variables if len(v.shape)]
    own = sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in slots)
    return Prepared(lambda: program(grads), case.device.wait, text, params=lambda: variables, state_bytes=own)


def fused_op(case: Case) -> Prepared:
    """TensorFlow's own kernel for the rule, one operation per tensor, in a `tf.function`."""
    tf = tensorflow()
    name, slots, scalars, gradient = FUSED[case.component.name]
    operation = getattr(tf.raw_ops, name)
    variables = [tf.Variable(p) for p in case.parameters()]
    held = [{slot: tf.Variable(tf.zeros_like(v)) for slot in slots} for v in variables]
    grads = case.gradients()

    def update(gradients: list[Any]) -> None:
        for variable, own, value in zip(variables, held, gradients, strict=True):
            numbers = {key: tf.constant(number, variable.dtype) for key, number in scalars.items()}
            handles = {key: slot.handle for key, slot in own.items()}
            operation(var=variable.handle, **handles, **numbers, **{gradient: value})

    program = tf.function(update, autograph=False)
    own = len(slots) * case.layout.parameters * tf.as_dtype(case.dtype).size
    return Prepared(lambda: program(grads), case.device.wait, params=lambda: variables, state_bytes=own)


def _optax(name: str) -> Callable[..., Any] | None:
    import optax

    return getattr(optax, OPTAX.get(name, (name, {}))[0], None)


def optax_donated(case: Case) -> Prepared:
    """Optax in `jax.jit`, parameters and state donated: JAX's way to update in place."""
    import jax
    import jax.numpy as jnp

    kind = "cpu" if case.device.is_cpu else "gpu"
    place = jax.devices(kind)[int(case.device.name.rpartition(":")[2])]
    make = _optax(case.component.name)
    assert make is not None
    _, arguments = OPTAX.get(case.component.name, ("", {}))
    import optax

    method = make(learning_rate=LEARNING_RATE, **arguments)
    if case.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    dtype = jnp.dtype(case.dtype)

    def moved(tensors: list[Any]) -> list[Any]:
        wide = "float32" if case.dtype == "bfloat16" else case.dtype
        return [
            jax.device_put(jnp.asarray(tensorflow().cast(t, wide).numpy(), dtype), place) for t in tensors
        ]

    params, grads = moved(case.parameters()), moved(case.gradients())
    state = method.init(params)

    def update(params: Any, state: Any, grads: Any) -> Any:
        changes, state = method.update(grads, state, params)
        return optax.apply_updates(params, changes), state

    program = jax.jit(update, donate_argnums=(0, 1))
    held: list[Any] = [params, state]
    del params, state
    texts: list[str] = []

    def call() -> None:
        held[0], held[1] = program(held[0], held[1], grads)
        if case.device.is_cpu:
            # TensorFlow's calls on a CPU return when they are done; JAX would queue one behind the other.
            jax.block_until_ready(held)

    def hlo() -> str:
        if not texts:
            texts.append(str(program.lower(held[0], held[1], grads).compile().as_text()))
        return texts[0]

    own = sum(leaf.nbytes for leaf in jax.tree.leaves(held[1]) if leaf.ndim)
    return Prepared(call, lambda: jax.block_until_ready(held), hlo, params=lambda: held[0], state_bytes=own)
