"""Where the rows come from: versions, hardware, seeds, clocks, lanes, code, and how to run it again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..figures import ReportData
from ..figures.base.axes import number
from ..figures.base.data import plural, span
from ..figures.base.frame import Frame
from ..figures.base.theme import plainer

NAMED = 12


def provenance(data: ReportData, kernels: Frame | None = None) -> dict[str, Any]:
    """Pairs, tables and the resolved study, for the template."""
    pairs = [(what, value) for what, value in _pairs(data) if value]
    tables = [t for t in (_optimizers(data), _workloads(data), _counts(data), _failures(data)) if t]
    if kernels is not None and len(kernels):
        from .kernels import verdict_table  # it writes its numbers as this module does

        tables.append(verdict_table(kernels))
    spec = data.study.get("spec")
    again = (
        "Save the text below as study.yaml (JSON is YAML) and run: optgrid run study.yaml. On the same "
        "versions and processor, 32-bit rows are the same to the bit, whatever the number of workers."
    )
    return {
        "pairs": pairs,
        "tables": tables,
        "spec": json.dumps(spec, indent=2) if spec else "",
        "again": again,
    }


def _pairs(data: ReportData) -> list[tuple[str, str]]:
    study, cells = data.study, data.cells
    hardware = study.get("hardware", {})
    versions = study.get("versions", {})
    return [
        ("Study", ": ".join(str(study[k]) for k in ("name", "description") if study.get(k))),
        (
            "Begun",
            str(study.get("created_at", ""))[:16].replace("T", " ")
            + (" UTC" if study.get("created_at") else ""),
        ),
        ("Seeds", _run_of([int(s) for s in study.get("seeds", _present(cells, "seed"))])),
        ("Budget", data.budgets() if len(cells) else ""),
        ("Precision", _some(_present(cells, "dtype"))),
        ("Strategy", _strategies(cells)),
        ("Devices", _some(_present(cells, "device"))),
        ("Hardware", _hardware(hardware)),
        ("Versions", ", ".join(f"{k} {v}" for k, v in versions.items())),
        ("Clocks", _clocks(cells)),
        ("Lanes", _lanes(data)),
        ("Workers", _some(_present(cells, "worker"))),
        ("Code hashes", ", ".join(f"{k} {str(v)[:16]}" for k, v in study.get("code", {}).items())),
        ("Schema", str(study.get("schema_version", ""))),
    ]


def _present(cells: Frame, column: str) -> list[str]:
    if column not in cells or cells.empty:
        return []
    return sorted({f"{v:g}" if isinstance(v, float) else str(v) for v in cells[column].dropna().unique()})


def _some(values: Sequence[str]) -> str:
    left = len(values) - NAMED
    return ", ".join(values[:NAMED]) + (f" and {left} more" if left > 0 else "")


def _run_of(seeds: Sequence[int]) -> str:
    """`0 to 12 (13 seeds)` where they follow each other, else the list."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]} ({plural(len(seeds), 'seed')})"
    return _some([str(seed) for seed in seeds])


def _hardware(hardware: Mapping[str, Any]) -> str:
    parts = []
    for name, value in hardware.items():
        if name == "memory_bytes":
            parts.append(f"{value / 2**30:.0f} GiB of memory")
        elif name == "cores":
            parts.append(plural(int(value), "core"))
        elif isinstance(value, list):
            parts += [f"{name}: {_some([str(v) for v in value])}"] if value else []
        elif value:
            parts.append(str(value))
    return ", ".join(parts)


def _clocks(cells: Frame) -> str:
    """Seconds of compiling, training and evaluating, summed: every row holds its share of its tile's."""
    if cells.empty:
        return ""
    parts = []
    if "compile_seconds" in cells.columns:
        parts.append(f"compile {number(float(cells['compile_seconds'].sum()))} s")
    for column, what in (("train_seconds", "train"), ("evaluate_seconds", "evaluate")):
        if column in cells and cells[column].notna().any():
            parts.append(f"{what} {number(float(cells[column].sum()))} s")
    if not parts:
        return ""
    return (
        ", ".join(parts)
        + " of device time, summed over workers; a run's own time is its share of its tile's."
    )


def _strategies(cells: Frame) -> str:
    """Each strategy with its replicas, what it split, and the all-reduce's share of the training time."""
    said = []
    for name in _present(cells, "strategy"):
        mine = cells[cells["strategy"] == name]
        parts = [name]
        replicas = [int(float(r)) for r in _present(mine, "replicas")]
        if replicas and max(replicas) > 1:
            parts.append(span(sorted(replicas), "replica"))
        parts += [
            f"split: {split}" for split in _present(mine, "split") if split != "lanes" or len(parts) > 1
        ]
        if "all_reduce_share" in mine:
            known = mine[mine["all_reduce_share"].notna() & (mine["train_seconds"] > 0)]
            if len(known):
                seconds = known["train_seconds"]
                share = float((known["all_reduce_share"] * seconds).sum() / seconds.sum())
                low, high = known["all_reduce_share"].min(), known["all_reduce_share"].max()
                spread = f" ({low:.0%} to {high:.0%} by tile)" if high - low >= 0.01 else ""
                parts.append(f"all-reduce {share:.0%} of the training time{spread}")
        said.append(", ".join(parts))
    return "; ".join(said)


def _lanes(data: ReportData) -> str:
    programs = data.study.get("programs", {})
    known = [int(p["lanes"]) for p in programs.values() if p.get("lanes")]
    if not known and "lanes" in data.cells:
        known = [int(v) for v in data.cells.lanes.dropna().unique()]
    if not known:
        return ""
    of = f", {plural(len(programs), 'program')}" if programs else ""
    return f"{span(known, 'lane')} in a program{of}"


class Number(str):
    """Text of a cell that is right-aligned."""

    number = True


def _count(value: float) -> Number:
    return Number("–" if value is None or not np.isfinite(value) else f"{value:,.0f}")


def _table(
    key: str, title: str, caption: str, heads: Sequence[str], rows: list, file: str = ""
) -> dict[str, Any]:
    return {"key": key, "title": title, "caption": caption, "heads": heads, "rows": rows, "file": file}


def _optimizers(data: ReportData) -> dict[str, Any] | None:
    rows = []
    for label in data.optimizers:
        entry = data.study.get("optimizers", {}).get(label, {})
        rates = data.study.get("learning_rates", {}).get(label)
        rates = sorted(rates or data.cells.learning_rate[data.cells.optimizer == label].dropna().unique())
        grid = f"{number(rates[0])} to {number(rates[-1])}" if rates else "–"
        params = (
            ", ".join(f"{k} = {json.dumps(v)}" for k, v in sorted(entry.get("params", {}).items())) or "none"
        )
        rows.append([plainer(label), entry.get("description", ""), grid, Number(len(rates)), params])
    caption = "Every hyperparameter with its value; learning rates as run."
    heads = ["Optimizer", "What it is", "Learning rates", "Number", "Hyperparameters"]
    return _table("optimizers", "Optimizers", caption, heads, rows) if rows else None


def _workloads(data: ReportData) -> dict[str, Any] | None:
    rows = []
    for label in data.workloads:
        entry = data.study.get("workloads", {}).get(label, {})
        mine = data.cells.workload == label
        target = float(data.cells.target[mine].median()) if "target" in data.cells else np.nan
        optimum = entry.get("optimum")
        rows.append(
            [
                plainer(label),
                entry.get("description", ""),
                Number(number(target)),
                str(entry.get("target_metric", data.metric(label))).replace("_", " "),
                Number("unknown" if optimum is None else number(float(optimum))),
                Number(span(list(data.cells.budget[mine].unique()), "step")),
            ]
        )
    caption = "A workload owns its target and its budget; a study may set others."
    heads = ["Workload", "What it is", "Target", "On", "Optimum", "Budget"]
    return _table("workloads", "Workloads", caption, heads, rows) if rows else None


def _counts(data: ReportData) -> dict[str, Any] | None:
    frame = data.summary
    if frame.empty:
        return None
    totals = frame.groupby("optimizer")[
        ["n", "converged", "budget", "diverged", "failed", "steps", "train_seconds"]
    ].sum()
    rows = [
        [
            o,
            *(_count(totals.loc[o, c]) for c in totals.columns[:-1]),
            Number(number(float(totals.train_seconds[o]))),
        ]
        for o in data.optimizers
    ]
    caption = (
        "How the runs ended: at the target, out of budget, diverged, or failed. Per workload in the CSV."
    )
    heads = ["Optimizer", "Runs", "Target", "Budget", "Diverged", "Failed", "Steps", "Train seconds"]
    return _table("runs", "Runs", caption, heads, rows, "summary")


def _failures(data: ReportData) -> dict[str, Any] | None:
    cells = data.cells
    failed = cells[cells.failed] if len(cells) else cells
    if failed.empty or "detail" not in failed:
        return None
    counts = Counter(zip(failed.detail, failed.optimizer, failed.workload, strict=True))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [[str(d), str(o), str(w), _count(n)] for (d, o, w), n in ranked[:20]]
    caption = f"Why {plural(len(failed), 'run')} failed" + (
        ", the most frequent reasons." if len(counts) > 20 else "."
    )
    return _table("failures", "Failed runs", caption, ["Reason", "Optimizer", "Workload", "Runs"], rows)
