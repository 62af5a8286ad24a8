"""A results folder, read: frames, what is done, and the report. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import CELLS, Store
from harness.sentences import unknown
from harness.types import STATUSES, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from harness.figures import Drawing

LIST_COLUMNS = (
    "step",
    "loss",
    "gradient_norm",
    "update_norm",
    "validation_loss",
    "validation_accuracy",
    "x",
    "y",
)


# Columns that no figure, table or sentence of the report is made from; the ladders are the largest of all.
_LEFT_OUT = {"study", "optimizer_params", "targets", "initial_gradient_norm", "best_step", "tile_id"}
REPORTED = tuple(name for name in CELLS.names if name not in _LEFT_OUT)


@dataclass(frozen=True)
class StatusReport:
    """What a study has come to.

    Args:
        path: the results folder.
        total, done: cells.
        counts: rows per status.
        table: a row per workload and optimizer: `cells`, a column per status, `missing`.
        failures: distinct reasons of failed rows, with how many rows each.
        problems: a sentence per file that could not be read.
    """

    path: str
    total: int
    done: int
    counts: dict[str, int]
    table: pd.DataFrame
    failures: dict[str, int]
    problems: list[str]

    @property
    def missing(self) -> int:
        return max(0, self.total - self.done)


class Results:
    """A results folder, local or at any `pyarrow.fs` address, complete or not.

    Args:
        path: where it is.
    Raises:
        UsageError: no results folder, or one of another schema version.
    """

    def __init__(self, path: str | Path):
        self.store = Store(str(path))
        self.study: dict[str, Any] = self.store.read_study()

    @property
    def path(self) -> str:
        return self.store.address

    def cells(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """A row per cell that is committed, in the order of `cell_id`."""
        return _frame(self.store.read("cells", None if columns is None else list(columns))[0])

    def curves(self, cell_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """A row per cell; lists: `step`, `loss`, `gradient_norm`, `update_norm`, metrics, `x`, `y`."""
        return _frame(self.store.read("curves", keys=None if cell_ids is None else list(cell_ids))[0])

    def tidy_curves(self, cell_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """A row per recorded point: `cell_id`, `step`, `loss`, …, with the cell's identity beside it."""
        wide: Any = self.curves(cell_ids)
        present = [c for c in wide.columns if c != "cell_id" and wide[c].notna().any()]
        tidy = wide[["cell_id", *present]]
        # Columns that only some workloads have are lists for those rows and null for the others.
        partial = [c for c in present if wide[c].isna().any()]
        for column in partial:
            filled = [
                value if value is not None else [float("nan")] * len(step)
                for value, step in zip(tidy[column], tidy["step"], strict=True)
            ]
            tidy = tidy.assign(**{column: filled})
        tidy = tidy.explode(present, ignore_index=True).astype(dict.fromkeys(present, "float64"))
        tidy = tidy.astype({"step": "int64"})
        identity = self.cells(["cell_id", "workload", "optimizer", "learning_rate", "seed"])
        return tidy.merge(identity, on="cell_id", how="left")

    def contours(self) -> pd.DataFrame:
        """A row per 2-D workload: a grid of its values, and its minimizers."""
        return self.store.read("contours")[0].to_pandas()

    def kernels(self) -> pd.DataFrame:
        """The profiler's rows: one per optimizer, implementation, device, dtype and layout; may be empty."""
        return self.store.read("kernels")[0].to_pandas()

    def figure(self, name: str, dark: bool = False) -> Drawing:
        """One figure of the report; a notebook shows it, `.figures` are its panels for matplotlib.

        Args:
            name: `learning_rate`, `steps_heatmap`, `loss_curves`, `trajectories`, …: a file of
                `harness/figures`.
            dark: for a dark page.
        Raises:
            UsageError: there is no such figure, or these rows have nothing to show in it.
        """
        from harness.figures import DARK, LIGHT, ReportData, catalogue, draw

        known = catalogue()
        if name not in known:
            raise UsageError(unknown("figure", name, known))
        data = ReportData(self.cells(), self.curves(), self.contours(), self.study)
        drawing = draw(name, data, DARK if dark else LIGHT)
        if drawing is None:
            raise UsageError(f"nothing to draw in '{name}': {known[name].ABSENT}")
        return drawing

    def problems(self) -> list[str]:
        """A sentence per file that could not be read; its rows are as if they had never been run."""
        folders = ("cells", "curves")
        # Of no row in the end: each file is read, and none is kept.
        return [p for folder in folders for p in self.store.read(folder, ["cell_id"], keys=[])[1]]

    def total_cells(self) -> int:
        return int(self.study["cells"])

    def status(self) -> StatusReport:
        """What is done, missing, diverged and failed, as of now."""
        table, problems = self.store.read("cells", ["cell_id", "workload", "optimizer", "status", "detail"])
        frame = table.to_pandas()
        counts = {s: int((frame["status"] == s).sum()) for s in STATUSES}
        expected = _expected(self.study)
        split = frame.groupby(["workload", "optimizer", "status"], observed=True).size().unstack(fill_value=0)
        out = (
            expected.join(split.reindex(columns=list(STATUSES), fill_value=0), how="left")
            .fillna(0)
            .astype(int)
        )
        out["missing"] = (out["cells"] - out[list(STATUSES)].sum(axis=1)).clip(lower=0)
        failed = frame.loc[frame["status"] == "failed", "detail"].value_counts()
        return StatusReport(
            path=self.path,
            total=self.total_cells(),
            done=len(frame),
            counts=counts,
            table=out.reset_index(),
            failures={str(k): int(v) for k, v in failed.items()},
            problems=problems,
        )

    def report(self, out: str | Path | None = None, cells: pd.DataFrame | None = None) -> Path:
        """Draws the report from the rows.

        Args:
            out: folder of the page; `report/` in the results folder by default.
            cells: the rows with at least the columns of `REPORTED`, where they have been read already.

        Returns:
            The page's path.
        """
        from harness.report import render

        local = self.store.local
        folder = Path(out) if out is not None else (local or Path("report")) / ("report" if local else "")
        return render(
            self.cells(REPORTED) if cells is None else cells,
            self.curves,
            self.contours(),
            self.study,
            folder,
            kernels=self.kernels(),
            total_cells=self.total_cells(),
        )


def _frame(table: pa.Table) -> pd.DataFrame:
    """A table as a frame in the order of `cell_id`; the table is used up, so that rows are not held twice."""
    if "cell_id" in table.column_names:
        table = table.sort_by("cell_id")
    return table.to_pandas(split_blocks=True, self_destruct=True)


def _expected(study: dict[str, Any]) -> pd.DataFrame:
    """Cells of the study per workload and optimizer, from `study.json`."""
    import pandas as pd

    seeds = len(study["seeds"])
    rows = [
        (workload, optimizer, len(rates) * seeds)
        for workload in study["workloads"]
        for optimizer, rates in study["learning_rates"].items()
    ]
    frame = pd.DataFrame(rows, columns=["workload", "optimizer", "cells"])
    return frame.set_index(["workload", "optimizer"])
