"""Many parameters in one buffer per dtype, so that an update is a few kernels and not a few per tensor."""

import math
from typing import Any

import tensorflow as tf

from ._types import Structure


class FlatVariables(tf.Module):
    """Parameters that live in one `tf.Variable` per dtype; calling it gives them in their own shapes.

    ```python
    parameters = FlatVariables({"w": tf.zeros([784, 32]), "b": tf.zeros([32])})
    optimizer = VariableOptimizer(Adam(), learning_rate=1e-3)
    with tf.GradientTape() as tape:
        loss = loss_of(parameters())
    buffers = parameters.buffers
    optimizer.apply_gradients(zip(tape.gradient(loss, buffers), buffers))
    ```

    An optimizer sees one vector per dtype, its state is one vector per slot, and XLA makes one kernel for
    what would be one per tensor: launching a thousand small kernels costs more than their work. Gradients
    come as one vector as well, put together in the backward pass. For element-wise rules, and for rules that
    look at all parameters together, the result is the same; not for those that look at each tensor by
    itself or at its shape (`clip_by_norm`, matrix methods): to them it is another rule.
    """

    def __init__(self, values: Structure, name: str | None = None):
        """Copies the initial values into the buffers.

        Args:
            values: any `tf.nest` structure of floating tensors.
            name: name of the module.

        Raises:
            ValueError: for a value of no floating dtype, or where there is none.
        """
        super().__init__(name=name)
        leaves = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(values)]
        if not leaves:
            raise ValueError("There are no parameters to put into a buffer.")
        for leaf in leaves:
            if not leaf.dtype.is_floating:
                raise ValueError(f"A parameter is {leaf.dtype.name}: only floats are optimized.")
        # Plain objects in a tuple: a checkpoint holds the buffers alone.
        self._structure = (tf.nest.map_structure(lambda _: None, values),)
        self._shapes: tuple[tuple[int, ...], ...] = tuple(
            tuple(int(size or 0) for size in leaf.shape) for leaf in leaves
        )
        self._dtypes = tuple(leaf.dtype for leaf in leaves)
        self._buffers = {}
        for dtype in dict.fromkeys(self._dtypes):
            parts = [tf.reshape(leaf, [-1]) for leaf in leaves if leaf.dtype == dtype]
            self._buffers[dtype.name] = tf.Variable(tf.concat(parts, axis=0), name=f"flat_{dtype.name}")

    @property
    def buffers(self) -> list[tf.Variable]:
        """The variables to differentiate by and to update, one per dtype, in the order of first use."""
        return [self._buffers[dtype.name] for dtype in dict.fromkeys(self._dtypes)]

    def __call__(self) -> Structure:
        """The parameters in their own shapes and structure; gradients flow to the buffers."""
        pieces: dict[tf.DType, Any] = {}
        for dtype in dict.fromkeys(self._dtypes):
            sizes = [math.prod(s) for s, d in zip(self._shapes, self._dtypes, strict=True) if d == dtype]
            # One split: its gradient is one concatenation. Slices would each be padded to the whole.
            pieces[dtype] = iter(tf.split(self._buffers[dtype.name], sizes))
        leaves = [
            tf.reshape(next(pieces[dtype]), shape)
            for shape, dtype in zip(self._shapes, self._dtypes, strict=True)
        ]
        return tf.nest.pack_sequence_as(self._structure[0], leaves)
