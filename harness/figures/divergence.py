"""Where runs blow up: the share of seeds that diverge, by workload and learning rate."""

from __future__ import annotations

from .base.axes import percent
from .base.data import ReportData, listed, plural
from .base.drawing import Drawing, Item, Panel
from .base.frame import Frame
from .base.heat import Cell, heat_panel
from .base.theme import Theme

TITLE = "Divergence map: share of seeds that diverge, by workload and learning rate"
SHORT = "Divergence"
ORDER = 90
ABSENT = "No run diverged or failed."
TABLES = ("divergence",)
PANELS = 12


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """A map per optimizer of the share of seeds that diverged; None where none did."""
    frame = data.divergence
    if frame.empty or not (frame.diverged.sum() + frame.failed.sum()):
        return None
    frame = frame.assign(share=(frame.diverged + frame.failed) / frame.n)
    lost = frame.groupby("optimizer").share.sum()
    calm = [data.short_optimizers[o] for o in data.optimizers if lost.get(o, 0) == 0]
    shown = [o for o in data.leading(PANELS) if lost.get(o, 0) > 0]
    panels = []
    for optimizer in shown:
        mine = frame[frame.optimizer == optimizer]
        cells = {(row.workload, row.learning_rate): _cell(row) for row in mine.itertuples()}
        panels.append(
            Panel(
                heat_panel(data, optimizer, cells, theme.alarms, theme.on_alarms, theme),
                _alt(optimizer, mine),
            )
        )
    caption = (
        f"Each cell is the percentage of seeds ({data.runs(frame.n)}, budget {data.budgets()}) whose loss "
        "or parameters left the finite range, or whose run failed (hatched); a dot: none; empty: not run "
        "(yet). The first coloured cell of a row is where its optimizer's learning rate becomes too large."
    )
    if calm:
        caption += f" No run of {listed(calm)} diverged or failed: no panel."
    if len(shown) + len(calm) < len(data.optimizers):
        caption += " Optimizers that are less often best are left out; the table has all."
    legend = [Item("all seeds diverge", "ramp", ramp=theme.alarms, before="none")]
    if frame.failed.sum():
        legend.append(Item("runs that failed", "hatch", theme.paper))
    return Drawing(TITLE, tuple(panels), caption, _finding(data, frame), tuple(legend), columns=2)


def _cell(row) -> Cell:
    if row.share == 0:
        return Cell(None, "·")
    return Cell(min(float(row.share), 0.999), f"{100 * row.share:.0f}", lost=bool(row.failed))


def _alt(optimizer: str, frame: Frame) -> str:
    lost = frame[frame.share >= 0.5]
    if lost.empty:
        return f"{optimizer}: at no learning rate do half of the seeds diverge."
    first = lost.groupby("workload", sort=False).learning_rate.min()
    parts = [f"{w} {rate:.3g}" for w, rate in first.items()]
    return f"Lowest learning rate at which half of the seeds of {optimizer} diverge: {listed(parts)}."


def _finding(data: ReportData, frame: Frame) -> str:
    counts = frame.groupby("optimizer")[["diverged", "failed", "n"]].sum()
    parts = []
    for optimizer in sorted(counts.index, key=lambda o: -counts.diverged[o] / counts.n[o])[:4]:
        share = counts.diverged[optimizer] / counts.n[optimizer]
        parts.append(f"{data.short_optimizers[optimizer]} {percent(share)}")
    failed = int(counts.failed.sum())
    tail = f" {plural(failed, 'run')} failed before a loss was known." if failed else ""
    return f"Share of all runs that diverged: {listed(parts)}.{tail}"
