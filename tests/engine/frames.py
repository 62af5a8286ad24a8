"""What of a row must be equal to the bit, whoever ran it."""

from __future__ import annotations

import numpy as np
import pandas as pd

PROVENANCE = [
    "tile_id",
    "compile_seconds",
    "train_seconds",
    "evaluate_seconds",
    "worker",
    "finished_at",
    "study",
]


def bits(frame: pd.DataFrame) -> dict[str, list[object]]:
    """cell_id → the row's values, floats as their bytes, without where and how long it ran."""
    kept = frame.drop(columns=[c for c in PROVENANCE if c in frame])
    return {row[0]: [_bits(v) for v in row] for row in kept.itertuples(index=False)}


def _bits(value: object) -> object:
    if isinstance(value, float | np.floating):
        return np.asarray(value).tobytes()
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return tuple(_bits(v) for v in value)
        return value.tobytes()
    if isinstance(value, list | tuple):
        return tuple(_bits(v) for v in value)
    if value is pd.NaT or value is pd.NA:
        return None
    return value
