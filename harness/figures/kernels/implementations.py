"""Implementations side by side: a bar each, per optimizer, at the largest size."""

from __future__ import annotations

from ...kernels.schema import IMPLEMENTATIONS, OURS, WORDS
from ..base.axes import SMALL, Margins, label_axes, linear_axis, named_axis, panel, plain
from ..base.data import listed
from ..base.drawing import Drawing, Item, Panel
from ..base.frame import Frame
from ..base.theme import Theme
from .base import KernelData

TITLE = "Implementations side by side"
SHORT = "Implementations"
ORDER = 30
ABSENT = "No implementation was measured."
TABLES = ("kernels",)


def draw(data: KernelData, theme: Theme) -> Drawing | None:
    """A panel per optimizer: milliseconds of an update by implementation, with the copy's for its bytes."""
    at = data.one_tensor[data.one_tensor["parameters"] == data.large]
    shown = [o for o in data.optimizers if o in set(at["optimizer"])]
    panels = [_panel(data, o, at[at["optimizer"] == o], theme) for o in shown]
    if not panels:
        return None
    caption = (
        f"{data.where()}, {data.dtype}, {data.large:,} parameters in the fewest tensors measured. Bars are "
        "medians over windows, lines their quartiles. The dotted line is what a copy would take for the "
        "bytes that the rule must move."
    )
    legend = (Item("OptGrid", "patch", theme.hues[0]), Item("others", "patch", theme.muted))
    return Drawing(TITLE, tuple(panels), caption, _finding(at), legend, more=12)


def _panel(data: KernelData, optimizer: str, frame: Frame, theme: Theme) -> Panel:
    order = [name for name in IMPLEMENTATIONS if name in set(frame["implementation"])]
    rows = frame.set_index("implementation").loc[order]
    margins = Margins(left=1.45, right=0.2, top=0.3, bottom=0.42)
    size = (3.5, margins.top + margins.bottom + 0.19 * len(order))
    figure, axes = panel(theme, data.short_optimizers[optimizer], size, margins, grid="x")
    scaled = rows[["update_seconds", "update_seconds_low", "update_seconds_high"]] * 1e3
    floor = float((rows["bytes_moved"] / rows["copy_gigabytes_per_second"]).median()) * 1e-6
    top = float(scaled["update_seconds"].max())
    linear_axis(axes, "x", 0.0, max(top, floor) * 1.15, count=4)
    axes.set_ylim(len(order) - 0.5, -0.5)
    named_axis(axes, "y", [WORDS[name] for name in order])
    axes.tick_params(axis="y", length=0, labelcolor=theme.ink, labelsize=SMALL - 0.2)
    colours = [theme.hues[0] if name in OURS else theme.muted for name in order]
    places = range(len(order))
    axes.barh(list(places), scaled["update_seconds"], color=colours, height=0.66, zorder=2)
    axes.hlines(
        list(places),
        scaled["update_seconds_low"],
        scaled["update_seconds_high"],
        color=theme.ink,
        linewidth=1.0,
        zorder=3,
    )
    axes.axvline(floor, color=theme.ink, linewidth=0.8, dashes=(1.5, 1.8), zorder=4)
    label_axes(axes, theme, "milliseconds per update", "")
    axes.set_ylabel(plain(""))
    said = [f"{WORDS[name]} {scaled.loc[name, 'update_seconds']:.3g} ms" for name in order]
    return Panel(figure, f"{optimizer}: {listed(said)}; a copy of its bytes {floor:.3g} ms.")


def _finding(frame: Frame) -> str:
    ours = (
        frame[frame["implementation"].isin(("xla_in_place", "flat"))]
        .groupby("optimizer")["update_seconds"]
        .min()
    )
    loop = frame[frame["implementation"] == "eager"].set_index("optimizer")["update_seconds"]
    ratio = (loop / ours).dropna()
    if ratio.empty:
        return ""
    return f"The eager loop takes {ratio.median():.1f} times as long as our best path (median)."
