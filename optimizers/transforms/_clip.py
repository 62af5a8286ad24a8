"""What the clipping transforms share."""

import tensorflow as tf

from .._scalars import cast
from .._types import Scalar


def shrink(max_norm: Scalar, norm: tf.Tensor) -> tf.Tensor:
    """min(1, max_norm / norm): 1 at norm 0, NaN where the norm is NaN."""
    return tf.minimum(cast(max_norm, norm.dtype) / norm, 1)
