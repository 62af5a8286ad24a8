"""An update as one kernel: parameters and slots are written by the one walk over memory that reads them."""

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import tensorflow as tf

from ._tree import leaves_by_path
from ._types import Scalar, Structure

Update = Callable[[Structure, Structure, Structure, Scalar, tf.Tensor], tuple[Structure, Structure]]

_OPTION = "xla_cpu_use_multi_output_fusion"
_FLAG = "--xla_backend_extra_options="


@cache
def fuse_outputs() -> bool:
    """Let XLA's CPU backend write several arrays from one kernel; whether it does.

    XLA does so on a GPU by itself. On a CPU it is an option of the process, read when XLA compiles for the
    first time: call this before. The environment is as it was when this returns. Programs that are compiled
    later in the process may differ by a rounding from what they would have been.
    """
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = _with_option(before or "")
    try:
        with tf.init_scope(), tf.device("/device:CPU:0"):
            two = tf.function(lambda a, b: (a * b, a + b), autograph=False, jit_compile=True)
            text = str(two.experimental_get_compiler_ir(tf.ones([8]), tf.ones([8]))(stage="optimized_hlo"))
        return "(f32[8]{0}, f32[8]{0}) fusion(" in text
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before


def _with_option(flags: str) -> str:
    if _FLAG in flags:  # a later flag of the same name would replace it
        return flags.replace(_FLAG, f"{_FLAG}{_OPTION},", 1)
    return f"{flags} {_FLAG}{_OPTION}".strip()


def separately(update: Update) -> Update:
    """The same update, with every output computed from the inputs alone.

    Where m' is an output and θ' is made from it, XLA writes m' in one kernel and reads it again in the next.
    Computed for itself from θ, m, v and g, each output reads the same arrays as its neighbours, and XLA fuses
    them into one kernel. To keep the compiler from finding the shared terms, each output has its inputs
    multiplied by a 1 of its own that only the step counter tells: exact, and a few operations per element
    where memory is what counts.

    For element-wise rules. A rule that sums over all parameters would do so once per output.
    """

    def apart(
        params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        originals = (params, grads, state)

        def evaluate(index: int) -> tuple[Structure, Structure]:
            known_at_run_time = step > -1 - index  # true: steps count from 0

            def times_one(tensor: Any) -> Any:
                tensor = tf.convert_to_tensor(tensor)
                if not tensor.dtype.is_floating:
                    return tensor
                return tensor * tf.cast(known_at_run_time, tensor.dtype)

            scaled = tuple(tf.nest.map_structure(times_one, each) for each in originals)
            new_params, new_state = update(scaled[0], scaled[1], scaled[2], lr, step)
            given = {
                id(a): b for a, b in zip(tf.nest.flatten(scaled), tf.nest.flatten(originals), strict=True)
            }
            # What the rule hands on as it is needs no product, and moves no memory.
            return tf.nest.map_structure(lambda leaf: given.get(id(leaf), leaf), (new_params, new_state))

        slots = [_slot(path, params) for path, _ in leaves_by_path(state)]
        order = {slot: i for i, slot in enumerate(dict.fromkeys(s for s in slots if s), 1)}
        results = [evaluate(index) for index in range(1 + len(order))]
        leaves = [tf.nest.flatten(new_state) for _, new_state in results]
        chosen = [leaves[order.get(slot, 0)][i] for i, slot in enumerate(slots)]
        return results[0][0], tf.nest.pack_sequence_as(state, chosen)

    return apart


def _slot(path: str, params: dict[str, tf.Tensor]) -> str:
    """The slot that a leaf of the state is part of: its path without the parameter; empty if it has none."""
    parts = path.split("/")
    if not any(part in params for part in parts):
        return ""
    return "/".join("*" if part in params else part for part in parts)
