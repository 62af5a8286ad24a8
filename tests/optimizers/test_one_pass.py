"""An update as one kernel: the same numbers, and one walk over memory."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from optimizers._one_pass import _with_option, separately
from optimizers.adagrad import Adagrad
from optimizers.adam import Adam
from optimizers.adamw import Adamw
from optimizers.gradient_descent import GradientDescent
from optimizers.lion import Lion
from optimizers.momentum import Momentum
from optimizers.nadam import Nadam
from optimizers.rmsprop import Rmsprop
from optimizers.transforms.clip_by_value import ClipByValue
from optimizers.transforms.lookahead import Lookahead

RULES = [
    GradientDescent(),
    Momentum(nesterov=True),
    Adagrad(),
    Rmsprop(),
    Rmsprop(momentum=0.5, centered=True),
    Adam(),
    Adam(amsgrad=True),
    Adamw(),
    Nadam(),
    Lion(),
    ClipByValue(Adam(), max_value=0.1),
    Lookahead(Adam(), sync_period=2),
]


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.bfloat16])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: repr(rule)[:40])
def test_each_output_by_itself_is_the_same_update_to_the_bit(rule, dtype):
    def normal(seed):
        return {
            key: tf.cast(tf.random.stateless_normal([size], [seed, size]), dtype)
            for key, size in (("variable_0", 5), ("variable_1", 3))
        }

    apart = separately(rule.update)
    params = others = normal(0)
    state = rule.init(params)
    other_state = rule.init(others)
    for step in range(4):
        grads, now = normal(step + 1), tf.constant(step)
        params, state = rule.update(params, grads, state, 0.1, now)
        others, other_state = apart(others, grads, other_state, 0.1, now)
    tf.nest.assert_same_structure(state, other_state)
    for one, two in zip(
        tf.nest.flatten((params, state)), tf.nest.flatten((others, other_state)), strict=True
    ):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_an_option_joins_those_that_are_there():
    assert _with_option("") == "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion"
    joined = _with_option("--xla_a=1 --xla_backend_extra_options=other")
    assert joined == "--xla_a=1 --xla_backend_extra_options=xla_cpu_use_multi_output_fusion,other"


def in_a_process(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


# XLA reads its options once in a process: what needs them runs in one of its own.
@pytest.mark.slow
def test_one_kernel_writes_everything_and_agrees_with_the_plain_update():
    done = in_a_process("""
        import importlib, os
        import numpy as np, tensorflow as tf
        from harness.kernels import hlo
        from optimizers import VariableOptimizer, fuse_outputs

        def compiled(optimizer, variable):
            def step(gradient):
                optimizer.apply_gradients([(gradient, variable)])
            return tf.function(step, jit_compile=True)

        before = dict(os.environ)
        assert fuse_outputs() and dict(os.environ) == before
        for name in ("rmsprop", "adam", "nadam", "lion"):
            rule = getattr(importlib.import_module("optimizers." + name), name.capitalize())()
            sides = []
            for one_pass in (False, True):
                variable = tf.Variable(tf.random.stateless_normal([20_000], [1, 1]))
                optimizer = VariableOptimizer(rule, 0.1, one_pass=one_pass)
                optimizer.build([variable])
                step = compiled(optimizer, variable)
                for seed in range(5):
                    gradient = tf.random.stateless_normal([20_000], [2, seed])
                    step(gradient)
                sides.append((variable, *optimizer.slots.values()))
            for plain, other in zip(*sides):
                np.testing.assert_allclose(plain, other, rtol=2e-6, atol=2e-6)
            program = hlo.read(step.experimental_get_compiler_ir(gradient)(stage="optimized_hlo"))
            passes = program.passes(20_000)
            assert abs(passes - 1) < 0.01, (name, passes)
            assert program.temporary_bytes < 1_000, (name, program.temporary_bytes)
        print("all in one pass")
    """)
    assert "all in one pass" in done.stdout, done.stderr


def test_too_late_is_a_sentence():
    done = in_a_process("""
        import tensorflow as tf
        tf.function(lambda x: x + 1, jit_compile=True)(1.0)
        from optimizers import VariableOptimizer
        from optimizers.adam import Adam
        try:
            VariableOptimizer(Adam(), 0.1, one_pass=True)
        except ValueError as error:
            print(error)
    """)
    assert "call optimizers.fuse_outputs() before the first compiled function" in done.stdout, done.stderr
