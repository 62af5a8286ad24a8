"""Leaf-by-leaf helpers: one rule, written for one tensor, applied over a `tf.nest` structure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from ._types import Structure

# Written for one dtype: what it returns is called leaf by leaf with the parameter, its gradient and its
# slots by name, and returns the new parameter and the new slots by name.
RuleForDtype = Callable[[tf.DType], Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]]


def compute_dtype(dtype: tf.DType) -> tf.DType:
    """Precision of the arithmetic on a leaf: its own, and float32 for the 16-bit types.

    In bfloat16 beta_2 = 0.999 is 1: a rule computed there would be another rule. Parameters and state
    stay in their own dtype; only what lies between reading and writing them is wider.
    """
    return tf.float32 if dtype in (tf.bfloat16, tf.float16) else dtype


def scalar_dtype(params: Structure) -> tf.DType:
    """Precision for scalars that serve all parameters: float64 if any parameter is, else float32."""
    wide = any(leaf.dtype == tf.float64 for leaf in tf.nest.flatten(params))
    return tf.float64 if wide else tf.float32


def zeros_like(params: Structure) -> Structure:
    """A slot of zeros in the shapes and dtypes of the parameters."""
    return tf.nest.map_structure(tf.zeros_like, params)


def select(condition: tf.Tensor, new: Structure, old: Structure) -> Structure:
    """`new` where the scalar condition holds, else `old`.

    Not `tf.cond`: the condition may differ from lane to lane.
    """
    return tf.nest.map_structure(lambda a, b: tf.where(condition, a, b), new, old)


def map_leaves(function: Callable[..., tf.Tensor], params: Structure, *others: Structure) -> Structure:
    """Maps a function over leaves in their compute dtype; the results get the dtype of `params`."""

    def leaf(p: tf.Tensor, *rest: tf.Tensor) -> tf.Tensor:
        wide = compute_dtype(p.dtype)
        return tf.cast(function(*(tf.cast(x, wide) for x in (p, *rest))), p.dtype)

    return tf.nest.map_structure(leaf, params, *others)


def update_leaves(
    rule_for_dtype: RuleForDtype, params: Structure, grads: Structure, slots: dict[str, Structure]
) -> tuple[Structure, dict[str, Structure]]:
    """Applies an update rule to every parameter.

    Args:
        rule_for_dtype: makes the rule for one compute dtype, so that the scalars of a step (corrected
            learning rates and the like) are made once for all the leaves that share it.
        params: parameters; sets the structure.
        grads: gradients, in the structure of `params`.
        slots: slot name -> tensors, in the structure of `params`.

    Returns:
        New parameters and new slots, in the structure and the dtypes of `params`.
    """
    for tree in (grads, *slots.values()):
        tf.nest.assert_same_structure(params, tree, check_types=False)
    columns = {name: tf.nest.flatten(slot) for name, slot in slots.items()}
    rules: dict[tf.DType, Any] = {}
    new_params: list[tf.Tensor] = []
    new_slots: dict[str, list[tf.Tensor]] = {name: [] for name in slots}
    for i, (p, g) in enumerate(zip(tf.nest.flatten(params), tf.nest.flatten(grads), strict=True)):
        dtype = compute_dtype(p.dtype)
        if dtype not in rules:
            rules[dtype] = rule_for_dtype(dtype)
        slot = {name: tf.cast(column[i], dtype) for name, column in columns.items()}
        new_p, new_slot = rules[dtype](tf.cast(p, dtype), tf.cast(g, dtype), **slot)
        new_params.append(tf.cast(new_p, p.dtype))
        for name, value in new_slot.items():
            new_slots[name].append(tf.cast(value, p.dtype))
    return tf.nest.pack_sequence_as(params, new_params), {
        name: tf.nest.pack_sequence_as(params, leaves) for name, leaves in new_slots.items()
    }


def leaves_by_path(structure: Structure) -> list[tuple[str, tf.Tensor]]:
    """Leaves of a state with their paths, as ("m/variable_0", tensor), in tf.nest's order.

    Raises:
        TypeError: for a state of other containers than dicts, tuples, named tuples and lists.
    """

    def walk(node: Structure, path: tuple[str, ...]) -> Iterator[tuple[str, tf.Tensor]]:
        if isinstance(node, Mapping):
            children = [(str(key), node[key]) for key in sorted(node)]
        elif isinstance(node, (tuple, list)):
            names = getattr(node, "_fields", range(len(node)))
            children = [(str(name), child) for name, child in zip(names, node, strict=True)]
        else:
            yield "/".join(path), node
            return
        for name, child in children:
            yield from walk(child, (*path, name))

    found = list(walk(structure, ()))
    flat = tf.nest.flatten(structure)
    if len(found) != len(flat) or any(
        leaf is not other for (_, leaf), other in zip(found, flat, strict=True)
    ):
        raise TypeError("A state must be made of dicts, tuples, named tuples and lists of tensors.")
    return found
