"""From a tile's ledger to Arrow tables, column by column."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from harness import records
from harness.tiling import Curves, Ledger
from harness.types import Cell, Tile, canonical_json


def _real(values: np.ndarray) -> pa.Array:
    """float64; NaN, which means unknown here, becomes null."""
    values = np.asarray(values, np.float64)
    return pa.array(values, mask=np.isnan(values))


def _whole(values: np.ndarray) -> pa.Array:
    values = np.asarray(values, np.int64)
    return pa.array(values, mask=values < 0)


def _lists(values: pa.Array, width: int, count: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(count + 1) * width, pa.int32()), values)


def statuses(ledger: Ledger) -> np.ndarray:
    reached = ledger.hits[-1] >= 0
    return np.where(ledger.diverged, "diverged", np.where(reached, "converged", "budget"))


def _details(ledger: Ledger, target: float, metric: str) -> list[str]:
    out = []
    hits = ledger.hits[-1].tolist()
    rows = zip(ledger.diverged.tolist(), hits, ledger.steps.tolist(), ledger.best.tolist(), strict=True)
    for diverged, hit, steps, best in rows:
        if diverged:
            out.append(f"{metric} left the finite range or its limit at step {steps}")
        elif hit >= 0:
            out.append(f"{metric} reached {target:g} at step {hit}")
        else:
            out.append(f"{metric} came to {best:.3g} at best, target {target:g}, in {steps} steps")
    return out


def _common(tile: Tile, provenance: Mapping[str, Any]) -> dict[str, Any]:
    cells = tile.cells
    n, program = len(cells), tile.program
    workload_params: dict[int, str] = {}
    optimizer_params: dict[int, str] = {}

    def params(component: Any, seen: dict[int, str]) -> str:
        if id(component) not in seen:
            seen[id(component)] = canonical_json(component.resolved())
        return seen[id(component)]

    return {
        "cell_id": [c.cell_id for c in cells],
        "study": [provenance["study"]] * n,
        "workload": [c.workload.label for c in cells],
        "optimizer": [c.optimizer.label for c in cells],
        "strategy": [provenance["strategy"]] * n,
        "device": [provenance["device"]] * n,
        "replicas": [provenance["replicas"]] * n,
        "split": [provenance["split"]] * n,
        "all_reduce_share": [provenance.get("all_reduce_share")] * n,
        "dtype": [program.dtype] * n,
        "workload_params": [params(c.workload, workload_params) for c in cells],
        "optimizer_params": [params(c.optimizer, optimizer_params) for c in cells],
        "learning_rate": [c.learning_rate for c in cells],
        "seed": [c.seed for c in cells],
        "budget": [program.budget] * n,
        "target": [program.target] * n,
        "tile_id": [tile.tile_id] * n,
        "lanes": [provenance["lanes"]] * n,
        "worker": [provenance["worker"]] * n,
        "finished_at": [dt.datetime.now(dt.UTC)] * n,
        "code": [c.code for c in cells],
        **{
            f"{clock}_seconds": [provenance[f"{clock}_seconds"] / n] * n
            for clock in ("compile", "train", "evaluate")
        },
    }


def cells_table(
    tile: Tile,
    ledger: Ledger,
    targets: np.ndarray,
    metrics: Mapping[str, np.ndarray],
    provenance: Mapping[str, Any],
) -> pa.Table:
    """The rows of a tile that ran.

    Args:
        targets: [ladder, cells].
        metrics: final evaluation, name → [cells], NaN where there is none.
        provenance: `study`, `strategy`, `replicas`, `split`, `device`, `worker`, `lanes`, `target_metric`,
            the three clocks, `all_reduce_share` (of the training time; None where nothing is reduced), and
            `stability` (whether it was summed).
    """
    n, ladder = len(tile.cells), len(targets)
    status = statuses(ledger)
    inf = np.where(ledger.diverged, np.inf, np.nan)
    final = np.where(ledger.diverged, np.inf, ledger.final)
    stays = (ledger.hits[-1] >= 0) & ~ledger.diverged & (final <= targets[-1])
    whole = ~ledger.diverged & (ledger.steps == tile.program.budget)
    stability = bool(provenance["stability"])
    unknown = np.full(n, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        turns = np.where(ledger.steps > 1, ledger.turns / (ledger.steps - 1), np.nan)
    detail = _details(ledger, tile.program.target, provenance["target_metric"])
    if provenance.get("note"):
        detail = [f"{d}; {provenance['note']}" for d in detail]
    columns = _common(tile, provenance) | {
        "status": status.tolist(),
        "detail": detail,
        "steps": ledger.steps,
        "steps_to_target": _whole(ledger.hits[-1]),
        "steps_to_stay": _whole(np.where(stays, ledger.last_miss + 1, -1)),
        "targets": _lists(pa.array(targets.T.reshape(-1)), ladder, n),
        "hits": _lists(_whole(ledger.hits.T.reshape(-1)), ladder, n),
        "initial_loss": _real(ledger.initial_loss),
        "initial_gradient_norm": _real(ledger.initial_gradient),
        "best_loss": _real(np.where(np.isinf(ledger.best), inf, ledger.best)),
        "best_step": _whole(ledger.best_step),
        "final_loss": _real(final),
        "metrics": _maps(metrics, n),
        "path_length": _real(ledger.path if stability else unknown),
        "displacement": _real(ledger.displacement),
        "turn_backs": _real(turns if stability else unknown),
        "tail_std": _real(np.where(whole, ledger.tail_std, np.nan) if stability else unknown),
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in records.CELLS], schema=records.CELLS)


def failed_table(tile: Tile, cells: Sequence[Cell], reason: str, provenance: Mapping[str, Any]) -> pa.Table:
    """Rows of cells that could not run: identity, and the sentence why."""
    part = Tile(tile.program, tuple(cells))
    columns = _common(part, provenance) | {"status": ["failed"] * len(cells), "detail": [reason] * len(cells)}
    columns["steps"] = [0] * len(cells)
    missing = [None] * len(cells)
    return pa.table(
        [pa.array(columns.get(f.name, missing), f.type) for f in records.CELLS], schema=records.CELLS
    )


def _maps(metrics: Mapping[str, np.ndarray], n: int) -> pa.MapArray:
    """A map per row; a metric that a row lacks (a run that diverged) is not in its map."""
    names = list(metrics)
    if not names:
        return pa.MapArray.from_arrays(pa.array([0] * (n + 1), pa.int32()), pa.array([], pa.string()),
                                       pa.array([], pa.float64()))  # fmt: skip
    table = np.stack([metrics[k] for k in names], 1)  # [cells, metrics]
    known = ~np.isnan(table)
    offsets = np.concatenate([[0], np.cumsum(known.sum(1))])
    keys = np.broadcast_to(np.array(names, object), table.shape)[known]
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(keys, pa.string()), pa.array(table[known], pa.float64())
    )


def curves_table(tile: Tile, curves: Curves) -> pa.Table:
    """The recorded points of a tile: a row per cell, lists of one length."""
    n = len(tile.cells)
    extra = curves.last_step >= 0
    counts = curves.valid.sum(1) + extra
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    mask = np.concatenate([curves.valid, extra[:, None]], 1)

    def lists(values: np.ndarray, last: np.ndarray, kind: pa.DataType) -> pa.ListArray:
        joined = np.concatenate([values, last[:, None]], 1)
        return pa.ListArray.from_arrays(offsets, pa.array(joined[mask], kind))

    grid = np.broadcast_to(curves.steps, curves.valid.shape)
    columns: dict[str, Any] = {
        "cell_id": [c.cell_id for c in tile.cells],
        "step": lists(grid, curves.last_step, pa.int64()),
    }
    unknown = np.full(n, np.nan, np.float32)
    for i, name in enumerate([*curves.names, *curves.metrics]):
        last = curves.last_loss if name == "loss" else unknown
        columns[name] = lists(curves.values[i], last, pa.float32())
    schema = records.curves_schema(curves.metrics)
    missing = [None] * n
    return pa.table([pa.array(columns.get(f.name, missing), f.type) for f in schema], schema=schema)
