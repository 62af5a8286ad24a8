"""Train against test: does a lower training loss carry over to data that was never seen?"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from .base.axes import SMALL, fit_scale, linear_axis, log_axis, plain
from .base.data import ReportData, listed
from .base.dots import OPTIMIZERS, dot_panel, rows_panel
from .base.drawing import Drawing, Item, Panel, optimizer_items
from .base.frame import Frame
from .base.theme import Theme

TITLE = "Train against test"
SHORT = "Train and test"
ORDER = 80
ABSENT = "No workload here has train and test data."
TABLES = ("generalisation",)


def draw(data: ReportData, theme: Theme) -> Drawing | None:
    """Train-to-test segments for loss and accuracy, and the gap; None without train and test metrics."""
    frame = data.generalisation
    shown = data.leading(OPTIMIZERS)
    kinds = [m.removeprefix("test_") for m in dict.fromkeys(frame.measure) if m.startswith("test_")]
    kinds = sorted((k for k in kinds if f"train_{k}" in set(frame.measure)), key=lambda k: (k != "loss", k))
    panels = []
    for kind in kinds[:2]:
        pair = frame[frame.measure.isin([f"train_{kind}", f"test_{kind}"]) & np.isfinite(frame.value)]
        if len(pair):
            figure = _segments(data, pair, kind, theme, shown)
            panels.append(Panel(figure, _alt(pair, kind)))
    gap = frame[(frame.measure == "gap_loss") & frame.value.notna()]
    if len(gap):
        figure = dot_panel(data, gap, "Gap: test − train loss", "loss", theme, shown)
        medians = [f"{r.optimizer} on {r.workload} {r.value:.2g}" for r in gap.itertuples()]
        panels.append(Panel(figure, f"Test loss minus train loss: {listed(medians)}."))
    if not panels:
        return None
    caption = (
        f"Medians over seeds ({data.runs(frame.n)}, budget {data.budgets(list(frame.workload.unique()))}) "
        "at the rate with the lowest validation loss, which never sees test data; each seed at the rate "
        "that the other half chose. An open marker is the training set, a filled one the test set: a long "
        "segment is a large gap. Lines in the last panel are 95 % bootstrap intervals." + data.fewer(shown)
    )
    legend = (
        *optimizer_items({o: data.looks[o] for o in shown}, data.short_optimizers, theme),
        Item("train", "hollow", theme.ink, "o"),
        Item("test", "marker", theme.ink, "o"),
    )
    return Drawing(TITLE, tuple(panels), caption, _finding(data, frame), legend)


def _segments(data: ReportData, pair: Frame, kind: str, theme: Theme, optimizers: list[str]) -> Figure:
    """A segment from train to test per workload and optimizer."""
    workloads = [w for w in data.workloads if w in set(pair.workload)]
    pitch = min(0.16 + 0.055 * len(optimizers), 0.36)
    figure, axes = rows_panel(
        data, f"{kind.replace('_', ' ').capitalize()}: train to test", workloads, theme, pitch
    )
    share = kind == "accuracy"
    pair = pair[pair.optimizer.isin(optimizers)]
    scale = fit_scale(pair.value.to_numpy(dtype=float), log=None if not share else False)
    if scale.log:
        log_axis(axes, "x", scale.low, scale.high, count=4)
    else:
        linear_axis(axes, "x", scale.low, min(scale.high, 1.0) if share else scale.high, count=4, share=share)
    table = pair.pivot_table(index=["workload", "optimizer"], columns="measure", values="value")
    table = table.reindex(columns=[f"train_{kind}", f"test_{kind}"])
    for (workload, optimizer), (train, test) in zip(table.index, table.to_numpy(), strict=True):
        place = optimizers.index(optimizer) - (len(optimizers) - 1) / 2
        y = workloads.index(workload) + place * 0.72 / len(optimizers)
        look, x = data.looks[optimizer], scale.clip([train, test])
        colour = look.colour(theme)
        axes.plot(x, [y, y], color=colour, linewidth=1.4, alpha=0.6, zorder=3)
        common = {"marker": look.marker, "markersize": 5.0, "zorder": 4, "clip_on": False}
        axes.plot(x[:1], [y], color=theme.paper, markeredgecolor=colour, markeredgewidth=1.1, **common)
        axes.plot(x[1:], [y], color=colour, markeredgecolor=theme.paper, markeredgewidth=0.6, **common)
    axes.set_xlabel(plain(kind.replace("_", " ")), color=theme.muted, fontsize=SMALL + 0.4, labelpad=2.0)
    return figure


def _alt(pair: Frame, kind: str) -> str:
    test = pair[pair.measure == f"test_{kind}"]
    said = [f"{r.optimizer} on {r.workload} {r.value:.3g}" for r in test.itertuples()]
    return f"Train and test {kind}. Test: {listed(said)}."


def _finding(data: ReportData, frame: Frame) -> str:
    """Who is best on test data, workload by workload."""
    test = frame[(frame.measure == "test_loss") & np.isfinite(frame.value)]
    if test.optimizer.nunique() < 2:
        return ""
    best = test.loc[test.groupby("workload", sort=False).value.idxmin()]
    said = [
        f"{data.short_optimizers[r.optimizer]} on {data.short(r.workload, 30)} ({r.value:.3g})"
        for r in best.itertuples()
    ]
    return f"Lowest median test loss: {listed(said[:6])}."
