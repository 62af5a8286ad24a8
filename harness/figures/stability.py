"""Parameter stability: how straight and how steady the paths through parameter space are."""

from __future__ import annotations

from .base.axes import percent
from .base.data import ReportData, listed
from .base.dots import OPTIMIZERS, dot_panel
from .base.drawing import Drawing, Panel, optimizer_items
from .base.frame import Frame
from .base.theme import Theme

TITLE = "Parameter stability"
SHORT = "Stability"
ORDER = 70
ABSENT = "Parameter stability was not recorded in these rows."
TABLES = ("stability",)
STILL = 1e-6  # less movement than this is none, for float32 parameters of order one
# measure -> (panel's title, axis label, share, log)
MEASURES = {
    "turn_backs": ("Steps that turn back on the last", "share of steps", True, False),
    "straightness": ("Straightness of the path", "displacement ÷ path length", True, False),
    "tail_std": ("Unrest over the last tenth", "standard deviation of the parameters", False, True),
}


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """A dot plot per measure; None where the rows have none of them."""
    frame = data.stability
    shown = data.leading(OPTIMIZERS)
    panels = []
    for measure, (title, unit, share, log) in MEASURES.items():
        part = frame[(frame.measure == measure) & frame.value.notna()]
        if part.empty:
            continue
        if log:
            part = part.assign(**part[["value", "low", "high"]].clip(lower=STILL))
        figure = dot_panel(data, part, title, unit, theme, shown, share=share, log=log)
        panels.append(Panel(figure, _alt(title, unit, part)))
    if not panels:
        return None
    caption = (
        f"Medians over seeds at each optimizer's recommended rate ({data.runs(frame.n)}, budget "
        f"{data.budgets()}), lines are 95 % bootstrap intervals. Turning back: the update's inner product "
        "with the one before is negative, as in a zig-zag. Straightness: 100 % is a straight line to "
        "where the run ends. Unrest: how far the parameters still move about at the end, a millionth or "
        "less on the left edge; runs that stopped early have none."
    )
    caption += data.fewer(shown)
    legend = optimizer_items({o: data.looks[o] for o in shown}, data.short_optimizers, theme)
    return Drawing(TITLE, tuple(panels), caption, _finding(data, frame), legend)


def _alt(title: str, unit: str, part: Frame) -> str:
    medians = part.groupby("optimizer").value.median()
    said = [f"{o} {v:.2g}" for o, v in medians.items()]
    return f"{title} ({unit}) by workload. Medians over workloads: {listed(said)}."


def _finding(data: ReportData, frame: Frame) -> str:
    part = frame[(frame.measure == "turn_backs") & frame.value.notna()]
    medians = part.groupby("optimizer").value.median()
    if len(medians) < 2:
        return ""
    order = sorted(medians.index, key=lambda o: (medians[o], o))
    said = [f"{data.short_optimizers[o]} {percent(medians[o])}" for o in order[:6]]
    return f"Share of steps that turn back on the step before, median over workloads: {listed(said)}."
