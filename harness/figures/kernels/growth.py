"""Time of an update against the number of parameters and of tensors."""

from __future__ import annotations

from ..base.axes import fit_scale, label_axes, log_axis, panel, value_axis
from ..base.data import listed
from ..base.drawing import Drawing, Panel, optimizer_items
from ..base.frame import Frame
from ..base.theme import Theme
from .base import KernelData

TITLE = "How the cost of an update grows"
SHORT = "Growth"
ORDER = 20
ABSENT = "Only one size was measured."
TABLES = ("kernels",)


def draw(data: KernelData, theme: Theme) -> Drawing | None:
    """Nanoseconds per parameter against parameters, and against tensors where counts of them differ."""
    panels = []
    if data.best["parameters"].nunique() > 1:
        panels.append(_panel(data, data.best, "parameters", "Our best path, one tensor", "parameters", theme))
    measured = data.measured[data.measured["dtype"] == data.dtype]
    counts = measured.groupby("parameters")["tensors"].nunique()
    for size in counts[counts > 1].index[-2:]:
        for name, title in (("xla_in_place", "Variables in place"), ("flat", "One flat buffer")):
            part = measured[(measured["parameters"] == size) & (measured["implementation"] == name)]
            if part["tensors"].nunique() > 1:
                panels.append(
                    _panel(data, part, "tensors", f"{title}, {size:,} parameters", "tensors", theme)
                )
    if not panels:
        return None
    caption = (
        f"{data.where()}, {data.dtype}. Medians over windows with their quartiles. To the left the call "
        "itself costs most; steps upwards to the right are the caches' ends."
    )
    legend = optimizer_items(data.looks, data.short_optimizers, theme)
    return Drawing(TITLE, tuple(panels), caption, _finding(data), legend)


def _panel(data: KernelData, frame: Frame, across: str, title: str, label: str, theme: Theme) -> Panel:
    figure, axes = panel(theme, title)
    per = 1e9 / frame["parameters"]
    drawn = frame.assign(
        value=frame["update_seconds"] * per,
        low=frame["update_seconds_low"] * per,
        high=frame["update_seconds_high"] * per,
    )
    y = fit_scale([*drawn["low"], *drawn["high"]], log=True)
    log_axis(axes, "x", float(drawn[across].min()) / 1.5, float(drawn[across].max()) * 1.5)
    value_axis(axes, "y", y)
    said = []
    for optimizer, part in drawn.groupby("optimizer", sort=False):
        part = part.sort_values(across)
        look = data.looks[str(optimizer)]
        colour = look.colour(theme)
        axes.vlines(part[across], part["low"], part["high"], color=colour, linewidth=1.0, alpha=0.6)
        (line,) = axes.plot(part[across], part["value"], color=colour, marker=look.marker, markersize=4)
        if look.dash:
            line.set_dashes(look.dash)
        said.append(f"{optimizer} {part['value'].iloc[0]:.3g} to {part['value'].iloc[-1]:.3g}")
    label_axes(axes, theme, label, "ns per parameter")
    return Panel(figure, f"{title}: ns per parameter from the fewest to the most {label}: {listed(said)}.")


def _finding(data: KernelData) -> str:
    part = data.best.sort_values("nanoseconds_per_parameter")
    if part["parameters"].nunique() < 2:
        return ""
    cheapest = part.iloc[0]
    return (
        f"A parameter is cheapest with {cheapest.optimizer} at {cheapest.parameters:,} parameters: "
        f"{cheapest.nanoseconds_per_parameter:.2g} ns per update."
    )
