"""Four logical CPU devices, and a study's rows as what must be equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import Study
from harness.results import Results
from harness.strategies import prepare
from harness.types import Layout
from tests.engine.frames import bits

# Must be made before TensorFlow starts, so at import.
prepare(Layout("mirrored", replicas=4))

PLACE = ["strategy", "replicas", "split", "device", "all_reduce_share"]
KEY = ["workload", "optimizer", "learning_rate", "seed"]


def run(out: Path, strategy: Any, fields: dict[str, Any], **options: Any) -> Results:
    return Study(name="spread", strategy=strategy, **fields).run(out, **options)


def exact(results: Results) -> dict[str, list[object]]:
    """Rows and curves to the bit, without where they were computed."""
    cells = bits(results.cells().drop(columns=PLACE))
    curves = bits(results.curves())
    return {cell: [*cells[cell], *curves[cell]] for cell in cells}


def table(results: Results) -> pd.DataFrame:
    """Rows in one order, whatever their ids: a split batch gives cells ids of their own."""
    return results.cells().sort_values(KEY, ignore_index=True)


def assert_close(one: Results, other: Results, rtol: float = 1e-10) -> None:
    """Same outcomes, and every number within `rtol`."""
    mine, theirs = table(one), table(other)
    assert (mine["status"] != "failed").all(), mine["detail"].unique()
    for name in ("status", "steps", "steps_to_target", "steps_to_stay", "best_step"):
        pd.testing.assert_series_equal(mine[name], theirs[name])
    for name in ("initial_loss", "initial_gradient_norm", "best_loss", "final_loss", "path_length",
                 "displacement", "turn_backs", "tail_std"):  # fmt: skip
        np.testing.assert_allclose(
            mine[name].to_numpy(float), theirs[name].to_numpy(float), rtol=rtol, atol=1e-13, err_msg=name
        )
    for a, b in zip(mine["metrics"], theirs["metrics"], strict=True):
        assert [k for k, _ in a] == [k for k, _ in b]
        np.testing.assert_allclose([v for _, v in a], [v for _, v in b], rtol=rtol)
    for a, b in zip(mine["hits"], theirs["hits"], strict=True):
        np.testing.assert_array_equal(a, b)
    ours, others = (r.curves().set_index("cell_id") for r in (one, other))
    for a, b in zip(mine["cell_id"], theirs["cell_id"], strict=True):
        for name in ("step", "loss", "gradient_norm", "update_norm"):
            np.testing.assert_allclose(
                np.asarray(ours.loc[a, name]), np.asarray(others.loc[b, name]), rtol=1e-5, atol=1e-10
            )
