"""Which loops XLA makes one function of: those of a point, and of a network whose products are written out or
made in tiles, and none that may hold a library's products, which would become plain loops there."""

from __future__ import annotations

import subprocess
import sys

# XLA reads its flags once in a process, and another test may have come first.
SCRIPT = """
import re
from harness import Study
from harness.runtime import tensorflow

tf = tensorflow()
from harness.strategies import Placement
from harness.worker import Programs, idle_inputs

def entry(graph, *args):
    # The entry computation of what XLA compiles for a graph.
    flat = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(args)]
    def on_flat(*leaves):
        return tf.nest.flatten(graph.fn(*tf.nest.pack_sequence_as(args, leaves)))
    made = tf.function(on_flat, jit_compile=True, autograph=False)
    text = made.experimental_get_compiler_ir(*flat)(stage="optimized_hlo")
    return text[text.index("ENTRY "):]

def loops(graph, *args):
    # How many loops its entry computation has, and how many functions that were loops.
    text = entry(graph, *args)
    return len(re.findall(r" while\\(", text)), text.count('xla_cpu_small_call="true"')

programs = Programs(Placement("one_device", ["CPU:0"]))
for workload, rates in {
    "rosenbrock": 2, "quadratic(dimension=40, rotated=true)": 2,
    "digits_logistic": 2, "digits_mlp(hidden=[16])": 16, "digits_cnn(filters=[2, 2])": 2,
}.items():
    rates = [1e-4 * (1 + k) for k in range(rates)]
    fields = {"optimizers": ["adam"], "learning_rates": rates, "seeds": 4, "steps": 60}
    (program,) = Study(name="loops", workloads=[workload], **fields).plan().programs.values()
    warm, _ = programs.get(program)
    lanes = warm.compiled
    carry, inputs = lanes.empty(), idle_inputs(lanes)
    asked = lanes._asks(carry, inputs, 1, 1, 0)
    print(lanes.workload.__class__.__name__, "advance", *loops(lanes._advance, *asked))
    if warm.evaluator is not None:
        for name in ("monitor", "evaluate"):
            print(name, *loops(warm.evaluator.graphs[name], carry.params, 1))
"""


def test_only_loops_without_a_librarys_products_become_functions() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Rosenbrock advance 0 1",
        "Quadratic advance 0 1",
        "DigitsLogistic advance 0 1",
        "monitor 0 1",
        "evaluate 0 1",
        "DigitsMlp advance 0 1",
        "monitor 0 1",
        "evaluate 0 1",
        "DigitsCnn advance 1 0",
        "monitor 1 0",
        "evaluate 1 0",
    ]
