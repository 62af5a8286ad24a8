"""Arrays packed on the device come apart on the host as they were."""

from __future__ import annotations

import numpy as np
import pytest

from harness.runtime import tensorflow

tf = tensorflow()

from harness.packing import Packing  # noqa: E402


def test_there_and_back() -> None:
    nest = {
        "x": tf.reshape(tf.range(6.0), [2, 3]),
        "counts": (tf.constant([4, 5, 6]), tf.constant([True, False, True])),
        "none": tf.zeros([0, 2, 3]),
        "y": tf.constant([7.0, 8.0, np.nan]),
    }
    packing = Packing(nest, 3)
    packed = packing.pack(nest, packing.empty())
    assert [each.shape for each in packed] == [each.shape for each in packing.empty()]
    assert {each.dtype for each in packed} == {tf.float32, tf.int32, tf.bool}  # one for each
    again = packing.unpack([each.numpy() for each in packed])
    for one, other in zip(tf.nest.flatten(nest), tf.nest.flatten(again), strict=True):
        np.testing.assert_array_equal(one.numpy(), other)
        assert one.dtype == other.dtype


def test_another_structure_is_refused() -> None:
    with pytest.raises(ValueError, match="structure"):
        Packing({"x": tf.zeros([3])}, 3).pack({"y": tf.zeros([3])}, [])
