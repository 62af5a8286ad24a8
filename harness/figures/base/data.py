"""What figures are drawn from: the frames of one study and the aggregates of them, each made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ... import aggregates
from ...claims import claims
from .axes import Scale, fit_scale
from .frame import Frame
from .theme import Look, looks, shorten


def plural(count: int, noun: str) -> str:
    """`1 seed`, `2,000 seeds`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""


def span(values: Sequence[float], noun: str) -> str:
    """`300 steps`, or `300 to 1,000 steps` where values differ."""
    known = sorted({int(v) for v in values if np.isfinite(v)})
    if not known:
        return f"unknown {noun}s"
    return plural(known[0], noun) if len(known) == 1 else f"{known[0]:,} to {known[-1]:,} {noun}s"


class ReportData:
    """Frames of a results folder and, computed on first use and kept, every aggregate of them.

    Args:
        cells, curves, contours: frames as DESIGN describes them; any may be empty. Curves may also be a
            function that gets them by the cells' ids: only those at recommended rates are looked at.
        study: what `study.json` holds; may be empty.
    """

    def __init__(
        self,
        cells: Frame,
        curves: Frame | Callable[[Sequence[str]], Frame] | None = None,
        contours: Frame | None = None,
        study: Mapping[str, Any] | None = None,
    ) -> None:
        self.study: Mapping[str, Any] = study or {}
        self.cells = aggregates.prepare(aggregates.with_optimum(cells, self.study))
        self._curves = curves if curves is not None else pd.DataFrame()
        self.contours = contours if contours is not None else pd.DataFrame()

    @cached_property
    def curves(self) -> Frame:
        """A row per run whose points were recorded."""
        return self._curves(self.recommended["cell_id"].tolist()) if callable(self._curves) else self._curves

    # -- what is in it ---------------------------------------------------------------------------------
    def _labels(self, kind: str) -> list[str]:
        """Labels in the order of the study's file; those that it does not name come after, by alphabet."""
        there = set(self.cells[kind].unique()) if len(self.cells) else set()
        named = [label for label in self.named(kind) if label in there]
        return named + sorted(there - set(named))

    def named(self, kind: str) -> list[str]:
        """Labels of the whole study, run or not: in the order of its specification, then of `study.json`."""
        asked = self.study.get("spec", {}).get(f"{kind}s") or []
        labels = [*(a for a in asked if isinstance(a, str)), *self.study.get(f"{kind}s", {})]
        known = set(self.study.get(f"{kind}s", {}))
        return [label for label in dict.fromkeys(labels) if label in known]

    @cached_property
    def workloads(self) -> list[str]:
        return self._labels("workload")

    @cached_property
    def optimizers(self) -> list[str]:
        return self._labels("optimizer")

    @cached_property
    def looks(self) -> dict[str, Look]:
        """A look per optimizer: by its place in the study, so that a partial run keeps the colours."""
        named = self.named("optimizer")
        every = looks(named + [o for o in self.optimizers if o not in named])
        return {label: every[label] for label in self.optimizers}

    @cached_property
    def short_optimizers(self) -> dict[str, str]:
        return shorten(self.optimizers, 30)

    @cached_property
    def _short_workloads(self) -> dict[int, dict[str, str]]:
        return {}

    def short(self, workload: str, width: int) -> str:
        """A workload's label in at most `width` characters, unlike any other's."""
        if width not in self._short_workloads:
            self._short_workloads[width] = shorten(self.workloads, width)
        return self._short_workloads[width].get(workload, workload[:width])

    def budgets(self, workloads: Sequence[str] | None = None) -> str:
        """The budget in words, `300 to 1,000 steps`."""
        cells = self.cells if workloads is None else self.cells[self.cells.workload.isin(workloads)]
        return span(list(cells.budget.unique()) if len(cells) else [], "step")

    def seeds(self) -> str:
        """The number of seeds in words."""
        return plural(int(self.cells.seed.nunique()) if len(self.cells) else 0, "seed")

    def runs(self, n: pd.Series) -> str:
        """`n = 10`, or `n = 8 to 10` where cells are missing, of runs behind a point."""
        known = n.to_numpy()[n.to_numpy() > 0]
        if not known.size:
            return "n = 0"
        low, high = int(known.min()), int(known.max())
        return f"n = {high}" if low == high else f"n = {low} to {high}"

    def left_out(self, shown: Sequence[str]) -> str:
        """A sentence for a caption that says how many workloads have no panel; empty where all have one."""
        out = len(self.workloads) - len(shown)
        return f" {plural(out, 'more workload')} in the tables only." if out > 0 else ""

    def fewer(self, shown: Sequence[str]) -> str:
        """A sentence for a caption that says how many optimizers are not drawn; empty where all are."""
        out = len(self.optimizers) - len(shown)
        return f" {plural(out, 'optimizer')}, less often best, left out; the tables have all." if out else ""

    # -- scales ----------------------------------------------------------------------------------------
    @cached_property
    def _facts(self) -> Frame:
        """Per workload: optimum (NaN: unknown), target, initial loss (median), loss metric."""
        groups = self.cells.groupby("workload", sort=False)
        facts = groups[["optimum", "target", "initial_loss"]].median() if "target" in self.cells else None
        if facts is None:
            facts = groups[["optimum", "initial_loss"]].median().assign(target=np.nan)
        return facts.join(groups["loss_metric"].first())

    def metric(self, workload: str) -> str:
        """The metric that a workload is judged by, as `curves` calls it: `loss` or `validation_loss`."""
        return "loss" if self._facts.loss_metric[workload] == "final_loss" else "validation_loss"

    def baseline(self, workload: str) -> float:
        """What a loss is measured from: the known optimum, else 0 (the loss itself)."""
        fact = self._facts.loc[workload]
        known = fact.loss_metric == "final_loss" and np.isfinite(fact.optimum)
        return float(fact.optimum) if known else 0.0

    def loss_name(self, workload: str) -> str:
        """Axis label of the loss that is drawn."""
        if self.metric(workload) != "loss":
            return "validation loss"
        return "loss − optimum" if np.isfinite(self._facts.optimum[workload]) else "loss"

    def target(self, workload: str) -> float:
        """The target, measured as the losses are; NaN where it is on another metric."""
        wanted = self.study.get("workloads", {}).get(workload, {}).get("target_metric", self.metric(workload))
        return (
            float(self._facts.target[workload]) - self.baseline(workload)
            if wanted == self.metric(workload)
            else np.nan
        )

    def loss_scale(self, workload: str, values: np.ndarray) -> Scale:
        """A scale for losses: not deeper than a thousandth of the target, nor higher than 30 x the start.

        One run that lands on the minimum to the last bit, or that ends at 1e30, must not flatten the rest.
        """
        target = self.target(workload)
        start = float(self._facts.initial_loss[workload]) - self.baseline(workload)
        known = [v for v in (target,) if np.isfinite(v)]
        floor = target * 1e-3 if target > 0 else None
        ceiling = 30 * start if start > 0 else None
        finite = values[np.isfinite(values)]
        if floor and finite.size and finite.max() > 0 and np.isfinite(self._facts.optimum[workload]):
            # Zeros, rounding below them, and noise as deep as it reaches below them lie on the lower edge.
            floor = max(floor, -float(finite.min()))
            values = np.maximum(values, floor)
        return fit_scale([*values, *known], floor, ceiling)

    # -- aggregates ------------------------------------------------------------------------------------
    @cached_property
    def grid(self) -> aggregates.Grid:
        """The rows in their places: what all aggregates begin with."""
        return aggregates.grid(self.cells)

    @cached_property
    def recommended(self) -> Frame:
        """The rows at the recommended rates."""
        rows = self.grid.rows_at(self.grid.choice)
        return self.grid.frame.take(rows[rows >= 0])

    @cached_property
    def best_rates(self) -> Frame:
        return aggregates.best_rates(self.grid)

    @cached_property
    def chosen(self) -> dict[tuple[str, str], float]:
        """(workload, optimizer) -> recommended rate; no entry where every rate fails."""
        known = self.best_rates.dropna(subset="learning_rate")
        keys = zip(known.workload, known.optimizer, strict=True)
        return dict(zip(keys, known.learning_rate, strict=True))

    @cached_property
    def recommendations(self) -> Frame:
        """One row per workload, in the study's order."""
        frame = aggregates.recommendations(self.grid)
        order = {w: i for i, w in enumerate(self.workloads)}
        return frame.sort_values("workload", key=lambda s: s.map(order), kind="stable", ignore_index=True)

    @cached_property
    def learning_rate_curve(self) -> Frame:
        return aggregates.learning_rate_curve(self.grid)

    @cached_property
    def steps_heatmap(self) -> Frame:
        return aggregates.steps_heatmap(self.grid)

    @cached_property
    def divergence(self) -> Frame:
        return aggregates.divergence(self.grid)

    @cached_property
    def sensitivity(self) -> Frame:
        return aggregates.sensitivity(self.grid)

    @cached_property
    def tunability(self) -> Frame:
        return aggregates.tunability(self.grid)

    @cached_property
    def summary(self) -> Frame:
        return aggregates.summary(self.grid)

    @cached_property
    def stability(self) -> Frame:
        return aggregates.stability(self.grid)

    @cached_property
    def generalisation(self) -> Frame:
        return aggregates.generalisation(self.grid)

    @cached_property
    def initialisation(self) -> Frame:
        return aggregates.initialisation(self.grid)

    @cached_property
    def loss_curves(self) -> Frame:
        return aggregates.loss_curves(self.curves, self.grid)

    @cached_property
    def ecdf(self) -> Frame:
        return aggregates.ecdf(self.grid)

    @cached_property
    def profile(self) -> Frame:
        return aggregates.profile(self.grid)

    @cached_property
    def algoperf(self) -> Frame:
        return aggregates.algoperf(self.grid)

    @cached_property
    def overall(self) -> Frame:
        return aggregates.overall(self.grid)

    @cached_property
    def ranks(self) -> Frame:
        return aggregates.ranks(self.grid)

    @cached_property
    def improvement(self) -> Frame:
        return aggregates.improvement(self.grid)

    @cached_property
    def claims(self) -> Frame:
        return claims(self.grid, self.curves)

    @cached_property
    def paired(self) -> Frame:
        return aggregates.paired(self.grid)

    # -- selections ------------------------------------------------------------------------------------
    @cached_property
    def points(self) -> Frame:
        """cell_id, step, x, y of the runs whose coordinates were recorded."""
        if not {"cell_id", "step", "x", "y"} <= set(self.curves.columns):
            return pd.DataFrame({"cell_id": [], "step": [], "x": [], "y": []})
        return self.curves.loc[self.curves.x.notna(), ["cell_id", "step", "x", "y"]]

    def leading(self, count: int) -> list[str]:
        """At most `count` optimizers, in the study's order: those that are most often among the best."""
        if len(self.optimizers) <= count:
            return self.optimizers
        rank = self.best_rates.assign(loss=self.best_rates.loss.fillna(np.inf))
        rank = rank.sort_values(["workload", "ert", "loss", "optimizer"])
        place = rank.groupby("workload").cumcount().groupby(rank.optimizer).mean()
        kept = set(sorted(place.index, key=lambda o: (place[o], o))[:count])
        return [o for o in self.optimizers if o in kept]
