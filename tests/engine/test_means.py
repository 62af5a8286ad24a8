"""Metrics that are means over examples, some after others: against the whole set at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from harness import lanes, lift
from harness.evaluation import Evaluator
from harness.lanes_last import Lifting
from harness.means import Means
from workloads._digits import DigitsClassifier
from workloads.digits_cnn import DigitsCnn
from workloads.digits_mlp import DigitsMlp

LANES = 16


def points(workload: Any, count: int = LANES) -> Any:
    """Parameters of runs, [lanes, ...]."""
    return tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *(workload.init(i) for i in range(count)))


def means(workload: Any, which: str, params: Any) -> dict[str, np.ndarray]:
    start = workload.init(0)
    own = Means.of(workload, which, start, getattr(workload, which)(start))
    assert own is not None

    def of_lanes(params: Any, rounds: Any) -> dict[str, tf.Tensor]:
        return own.of_lanes(Lifting(LANES), lift.store(params, True), rounds)

    found = tf.function(of_lanes, jit_compile=True, autograph=False)(params, tf.constant(1))
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("bytes_at_once", [1, 200_000, 2**20, 2**40])  # an example at a time, to all at once
@pytest.mark.parametrize("which", ["monitor", "evaluate"])
def test_means_are_those_of_the_whole_sets(
    which: str, bytes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PART_BYTES", bytes_at_once)
    workload = DigitsMlp(hidden=(5,), dtype="float64")
    params = points(workload)
    found = means(workload, which, params)
    for i in range(LANES):
        alone = getattr(workload, which)(tf.nest.map_structure(lambda leaf, i=i: leaf[i], params))
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            assert found[name][i] == pytest.approx(float(value), rel=1e-12), name


def test_what_is_no_number_stays_in_its_lane_and_set() -> None:
    @dataclass(frozen=True)
    class Broken(DigitsMlp):
        """One test example has no loss."""

        def measured(self, name: str) -> Any:
            sets = super().measured(name)
            sets["test"].images[0] = np.inf
            return sets

    workload = Broken(hidden=(5,))
    params = points(workload)
    params[0]["weight"] = tf.tensor_scatter_nd_update(params[0]["weight"], [[3, 0, 0]], [np.nan])
    found = means(workload, "evaluate", params)
    assert np.isnan(found["test_loss"]).all()
    for name in ("train_loss", "validation_loss"):
        assert np.isnan(found[name][3]) and np.isfinite(np.delete(found[name], 3)).all()
    assert found["train_accuracy"][3] == 0 and (np.delete(found["train_accuracy"], 3) > 0).all()


def test_a_workload_that_tells_of_other_metrics_is_evaluated_whole() -> None:
    @dataclass(frozen=True)
    class More(DigitsMlp):
        def evaluate(self, params: Any) -> dict[str, tf.Tensor]:
            return super().evaluate(params) | {"size": tf.reduce_sum(params[0]["weight"] ** 2)}

    workload = More(hidden=(5,))
    params = points(workload)
    start = workload.init(0)
    assert Means.of(workload, "evaluate", start, workload.evaluate(start)) is None
    assert Means.of(workload, "monitor", start, workload.monitor(start)) is not None
    other = {name: 1.01 * value for name, value in workload.monitor(start).items()}
    assert Means.of(workload, "monitor", start, other) is None
    found = Evaluator(workload, workload.init(0), LANES, last=True).evaluate(lift.store(params, True))
    np.testing.assert_allclose(found["size"], tf.reduce_sum(params[0]["weight"] ** 2, [1, 2]), rtol=1e-5)


@pytest.mark.parametrize("workload", [DigitsMlp(hidden=(5,)), DigitsCnn(filters=(3, 4))], ids=repr)
def test_an_evaluator_gives_the_same_wherever_lanes_are(workload: DigitsClassifier) -> None:
    params, start = points(workload), workload.init(0)
    first = Evaluator(workload, start, LANES).evaluate(params)
    last = Evaluator(workload, start, LANES, last=True).evaluate(lift.store(params, True))
    for name, value in first.items():
        np.testing.assert_allclose(last[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
