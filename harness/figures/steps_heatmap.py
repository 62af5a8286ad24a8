"""Steps to the target, by workload and learning rate."""

from __future__ import annotations

import numpy as np

from .base.axes import compact
from .base.data import ReportData, listed, plural
from .base.drawing import Drawing, Item, Panel
from .base.frame import Frame
from .base.heat import Cell, heat_panel
from .base.theme import Theme

TITLE = "Steps to the target, by workload and learning rate"
SHORT = "Heat map"
ORDER = 20
ABSENT = "There are no finished runs yet."
TABLES = ("steps_heatmap",)
SPAN = 3.0  # decades of steps, down from the budget, over which the colour runs
PANELS = 12


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """A map per optimizer; colour is the median number of steps as a share of the budget."""
    frame = data.steps_heatmap
    if frame.empty:
        return None
    keys = ["workload", "optimizer", "learning_rate"]
    frame = frame.merge(data.divergence[[*keys, "value"]].rename(columns={"value": "lost"}), on=keys)
    budget = data.cells.groupby("workload").budget.max()
    frame["share"] = frame.value / frame.workload.map(budget)
    shown = data.leading(PANELS)
    panels = []
    for optimizer in shown:
        mine = frame[frame.optimizer == optimizer]
        cells = {(row.workload, row.learning_rate): _cell(row) for row in mine.itertuples()}
        panels.append(
            Panel(heat_panel(data, optimizer, cells, theme.ramp, theme.on_ramp, theme), _alt(optimizer, mine))
        )
    caption = (
        f"Each cell is the median over seeds ({data.runs(frame.n)}) of the first step at which the target "
        f"is reached; colour runs from the whole budget ({data.budgets()}) to a thousandth of it or less. "
        "k/n: only k of n seeds reach the target, too few for a median; a dot: none does; hatched: most "
        "seeds diverge; empty: not run (yet). Look for wide rows of strong colour: fast, and forgiving in "
        "the learning rate."
    )
    caption += data.fewer(shown)
    legend = (
        Item("few steps", "ramp", ramp=theme.ramp, before="whole budget"),
        Item("most seeds diverge", "hatch", theme.paper),
    )
    return Drawing(TITLE, tuple(panels), caption, _finding(data, frame), legend, columns=2)


def _cell(row) -> Cell:
    if row.lost > 0.5:
        return Cell(None, "", lost=True)
    if np.isfinite(row.value):
        level = -np.log10(max(row.share, 1e-9)) / SPAN
        return Cell(float(np.clip(level, 0.0, 0.999)), compact(row.value))
    return Cell(None, f"{row.hits}/{row.n}" if row.hits else "·")


def _alt(optimizer: str, frame: Frame) -> str:
    hit = frame[np.isfinite(frame.value)]
    if hit.empty:
        return f"{optimizer}: no learning rate brings most seeds to the target on any workload."
    best = hit.loc[hit.groupby("workload").value.idxmin()]
    parts = [f"{r.workload} {r.value:,.0f} steps at {r.learning_rate:.3g}" for r in best.itertuples()]
    return f"Fewest median steps of {optimizer}: {listed(parts)}."


def _finding(data: ReportData, frame: Frame) -> str:
    reached = frame[np.isfinite(frame.value)].groupby("optimizer").workload.nunique()
    total = len(data.workloads)
    order = sorted(data.optimizers, key=lambda o: -int(reached.get(o, 0)))
    counts = [f"{data.short_optimizers[o]} on {int(reached.get(o, 0))}" for o in order[:4]]
    return (
        f"Some learning rate brings most seeds to the target on this many of {plural(total, 'workload')}: "
        f"{listed(counts)}."
    )
