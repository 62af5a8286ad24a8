"""Rows as the aggregates see them: failures as `inf`, metrics as columns, one order, one row per cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

KEYS = ["workload", "optimizer", "learning_rate", "seed"]
TEXT = ["cell_id", "workload", "optimizer", "status", "workload_params"]
NUMBERS = ["learning_rate", "seed", "budget", "steps", "steps_to_target", "steps_to_stay", "initial_loss"]
NUMBERS += ["best_loss", "final_loss", "path_length", "displacement", "turn_backs", "tail_std"]
NUMBERS += ["train_seconds", "optimum"]
LOWEST = 1e-12  # a smaller loss, or gap, is zero for any practical purpose
METRIC = "metric:"  # prefix of the columns made from the `metrics` map


def with_optimum(cells: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """`cells` with a column `optimum`: the workload's lowest value, from `study.json`; NaN where unknown.

    Without it, gaps are measured from 0, or from the lowest loss seen where losses are negative.

    Raises:
        ValueError: the frame is prepared already, and its gaps are measured.
    """
    if "gap" in cells:
        raise ValueError("with_optimum: these cells are prepared already; call it before prepare()")
    known = {label: w.get("optimum") for label, w in study.get("workloads", {}).items()}
    codes, labels = pd.factorize(cells["workload"]) if "workload" in cells else (np.full(len(cells), -1), [])
    values = np.array([*(known.get(label) for label in labels), None], float)  # the last: of no workload
    return cells.assign(optimum=values[codes])


def prepare(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells frame, sorted by its keys, with what all aggregates need.

    Every aggregate prepares what it is given; a frame that is prepared already passes through, so prepare
    once where many are called. A (workload, optimizer, learning rate, seed) that is there twice counts once.

    Args:
        cells: rows as DESIGN's public columns; any may be missing, and there may be none.

    Returns:
        The rows with these columns added: `reached` (steps to the first hit of the target, `inf` where
        missed; a run that diverges later has reached it still), `lost` (diverged or failed), `diverged`,
        `failed`, `loss` (the final validation loss where the workload has one, else the final loss; `inf`
        where lost), `loss_metric` (which), `gap` (loss above the optimum), `level` (the loss to the digits
        that two losses are compared by), and `metric:NAME` for every evaluation metric, where a lost run
        has the worst there is: `inf` for a loss, else `-inf`.
    """
    if "reached" in cells.columns:
        return cells
    frame = cells.reset_index(drop=True)
    missing = {c: np.nan for c in NUMBERS if c not in frame} | {c: "" for c in TEXT if c not in frame}
    frame = frame.assign(**missing)
    for column in NUMBERS:
        frame[column] = frame[column].to_numpy(float, na_value=np.nan)
    frame = _ordered(frame)
    steps = frame["steps_to_target"].to_numpy()
    for status in ("diverged", "failed"):
        frame[status] = (frame["status"] == status).to_numpy(bool)
    frame["lost"] = frame["diverged"] | frame["failed"]
    frame["reached"] = np.where(np.isnan(steps), np.inf, steps)
    workload, lost = pd.factorize(frame["workload"])[0], frame["lost"].to_numpy()
    metrics = _metric_columns(frame["metrics"].to_numpy() if "metrics" in frame else ())
    for name, values in metrics.items():
        has = np.isin(workload, np.unique(workload[~np.isnan(values)]))
        worst = np.inf if name.endswith("loss") else -np.inf
        frame[METRIC + name] = np.where(lost & has, worst, values)
    learned = frame["workload"].isin(_learned(frame)).to_numpy()
    loss = frame["final_loss"].to_numpy()
    if learned.any():
        loss = np.where(learned, frame[METRIC + "validation_loss"], loss)
    frame["loss"] = np.where(frame["lost"], np.inf, loss)
    frame["loss_metric"] = np.where(learned, "validation_loss", "final_loss")
    frame["level"] = _level(frame["loss"].to_numpy())
    frame["gap"] = np.maximum(frame["loss"] - _floor(frame), 0.0)
    return frame


def _level(loss: np.ndarray) -> np.ndarray:
    """Losses to six significant digits, and to 1e-12: what is closer is one result, rounded differently."""
    size = np.abs(np.where(np.isfinite(loss) & (np.abs(loss) > LOWEST), loss, 1.0))
    unit = 10.0 ** (np.floor(np.log10(size)) - 5)
    return np.where(np.abs(loss) <= LOWEST, 0.0, np.round(loss / unit) * unit)


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Sorted by the keys, then by id; of equal keys the first."""
    codes = np.stack([pd.factorize(frame[c], sort=True)[0] for c in reversed(KEYS)])
    order = np.lexsort(codes)
    again = (np.diff(codes[:, order], axis=1) == 0).all(0)
    if again.any():  # only then do ids decide; there may be a million of them
        order = np.lexsort([pd.factorize(frame["cell_id"], sort=True)[0], *codes])
        order = order[np.append(True, ~again)]
    return frame.take(order).reset_index(drop=True)


def _pairs(entry: Any) -> Iterable[tuple[str, float]]:
    """A map's items: pandas has them as (key, value) tuples, a dict, or null."""
    if isinstance(entry, list):  # the usual case, before the check of an abstract class
        return entry
    if isinstance(entry, Mapping):
        return entry.items()
    return () if entry is None or isinstance(entry, float) else entry


def _metric_columns(metrics: Sequence[Any] | np.ndarray) -> dict[str, np.ndarray]:
    """The `metrics` map as one float column per key, NaN where a row has no such key."""
    out: dict[str, np.ndarray] = {}
    count = len(metrics)
    for i, entry in enumerate(metrics):
        for key, value in _pairs(entry):
            if key not in out:
                out[key] = np.full(count, np.nan)
            out[key][i] = np.nan if value is None else value
    return {key: out[key] for key in sorted(out)}


def _learned(frame: pd.DataFrame) -> list[str]:
    """Workloads that report a validation loss."""
    column = METRIC + "validation_loss"
    return sorted(frame.loc[frame[column].notna(), "workload"].unique()) if column in frame else []


def _floor(frame: pd.DataFrame) -> np.ndarray:
    """Per row, what its workload's gap is measured from: the known optimum, else 0 or the lowest loss."""
    seen = pd.Series(np.fmin(frame["best_loss"].to_numpy(), frame["loss"].to_numpy()))
    low = np.fmin(seen.groupby(frame["workload"]).transform("min").to_numpy(), 0.0)
    own = (frame["loss_metric"] == "final_loss") & np.isfinite(frame["optimum"])
    return np.where(own, frame["optimum"], low)
