"""Axes of one small panel: fixed margins, few ticks, plain-text exponents.

Everything is set on the artists themselves, never in `rcParams`, so panels can be drawn in any thread.
Ticks are fixed before seaborn draws: its first question to a log axis with minor ticks costs 60 ms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from .theme import PAGE, Theme

PANEL = (3.5, 2.55)  # inches; at 72 dots an inch one point of the SVG is one point of type
TEXT = 7.5  # points
SMALL = 6.6
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Margins:
    """Space around the axes in inches."""

    left: float = 0.5
    right: float = 0.17
    top: float = 0.3
    bottom: float = 0.44


def panel(
    theme: Theme,
    title: str,
    size: tuple[float, float] = PANEL,
    margins: Margins | None = None,
    grid: str = "both",
) -> tuple[Figure, Axes]:
    """An empty panel of `size` inches with its title at the upper left.

    Args:
        grid: which axis has hairlines: `x`, `y`, `both` or an empty string.
    """
    space = margins or Margins()
    width, height = size
    # The page lies behind its own panels; a figure with real colours brings its paper along.
    figure = Figure(figsize=size, dpi=72, facecolor="none" if theme is PAGE else theme.paper)
    box = (
        space.left / width,
        space.bottom / height,
        max(width - space.left - space.right, 0.2) / width,
        max(height - space.top - space.bottom, 0.2) / height,
    )
    axes = figure.add_axes(box, facecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.muted)
        axes.spines[side].set_linewidth(0.6)
    axes.tick_params(
        colors=theme.muted, labelcolor=theme.muted, labelsize=SMALL, width=0.6, length=2.5, pad=2.0
    )
    if grid:
        axes.grid(visible=True, axis=grid, color=theme.faint, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    if title:
        room = int((width - 0.1 - space.right) * 72 / (TEXT * 0.62))
        text = title if len(title) <= room else title[: room * 3 // 5] + "…" + title[-(room * 2 // 5 - 1) :]
        figure.text(
            0.1 / width,
            1 - 0.07 / height,
            plain(text),
            color=theme.ink,
            fontsize=TEXT + 0.4,
            fontweight="bold",
            va="top",
        )
    return figure, axes


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: no mathematics between dollar signs, no line breaks."""
    return " ".join(text.replace("$", r"\$").split())


def label_axes(axes: Axes, theme: Theme, x: str, y: str, left: float = 0.38) -> None:
    """Axis labels: x below the ticks, y upright beside them (`left` inches from the axes)."""
    axes.set_xlabel(plain(x), color=theme.muted, fontsize=SMALL + 0.4, labelpad=2.0)
    # Anchored rotation: the SVG keeps the text's middle whatever font the reader's machine has.
    axes.set_ylabel(
        plain(y), color=theme.muted, fontsize=SMALL + 0.4, rotation_mode="anchor", va="bottom", ha="center"
    )
    width = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
    axes.yaxis.set_label_coords(-left / width, 0.5)


def power(exponent: int) -> str:
    """`10⁻³`, as plain text: fast, selectable, and the same in every browser."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits, short: `0.0032`, `12,400`, `3.2e-7`, `∞`, `–`."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    if size >= 1000 or float(value).is_integer():
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def percent(share: float) -> str:
    """`81 %`, with a space that does not break."""
    return f"{100 * share:.0f}\u00a0%"


def compact(value: float) -> str:
    """At most four characters: `85`, `340`, `1.2k`, `14k`, `3M`."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            scaled = value / limit
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def log_ticks(low: float, high: float, count: int) -> tuple[list[float], list[str]]:
    """Places and texts of at most about `count` ticks on a log axis over [low, high].

    Whole decades where there are two or more; 1-2-5 within fewer; plain round numbers within a third of one.
    """
    a, b = math.log10(low), math.log10(high)
    decades = list(range(math.ceil(a - 1e-9), math.floor(b + 1e-9) + 1))
    if b - a >= 1.7 and len(decades) >= 2:
        stride = max(1, math.ceil(len(decades) / count))
        chosen = [d for d in decades if d % stride == 0] or decades[:1]
        return [10.0**d for d in chosen], [power(d) for d in chosen]
    places = [m * 10.0**d for d in range(math.floor(a), math.ceil(b) + 1) for m in (1, 2, 5)]
    places = [p for p in places if low * (1 - 1e-9) <= p <= high * (1 + 1e-9)]
    if len(places) < 3:
        places = [float(p) for p in MaxNLocator(min(count, 4)).tick_values(low, high) if low <= p <= high]
    return places, [number(p) for p in places]


def tick_texts(places: Sequence[float]) -> list[str]:
    """Texts of evenly spaced ticks with just the decimals that tell them apart."""
    if len(places) < 2:
        return [number(p) for p in places]
    step = min(b - a for a, b in pairwise(places))
    if max(abs(p) for p in places) >= 1e5 or step < 1e-4:
        return [number(0.0 if abs(p) < step * 1e-6 else p, 4) for p in places]
    decimals = next(d for d in range(7) if all(abs(p - round(p, d)) < step * 1e-3 for p in places))
    return [f"{round(p, decimals) + 0.0:,.{decimals}f}".replace("-", "−") for p in places]


def _fix(axis: Axis, places: Sequence[float], texts: Sequence[str]) -> None:
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FixedFormatter(list(texts)))


def log_axis(axes: Axes, which: str, low: float, high: float, count: int = 5) -> None:
    """Make the `x` or `y` axis logarithmic over [low, high], 0 < low < high, with few ticks."""
    if not high > low:
        low, high = low / 3, high * 3
    getattr(axes, f"set_{which}scale")("log")
    _fix(getattr(axes, f"{which}axis"), *log_ticks(low, high, count))
    getattr(axes, f"set_{which}lim")(low, high)


def linear_axis(axes: Axes, which: str, low: float, high: float, count: int = 5, share: bool = False) -> None:
    """Make the `x` or `y` axis linear over [low, high]; `share` writes ticks as percentages."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
    span = high - low
    places = [
        p for p in MaxNLocator(count).tick_values(low, high) if low - 1e-9 * span <= p <= high + 1e-9 * span
    ]
    texts = [percent(p) for p in places] if share else tick_texts(places)
    _fix(getattr(axes, f"{which}axis"), places, texts)
    getattr(axes, f"set_{which}lim")(low, high)


def named_axis(axes: Axes, which: str, names: Sequence[str], places: Sequence[float] | None = None) -> None:
    """Ticks that are names, at 0, 1, 2, … unless `places` says otherwise."""
    at = list(range(len(names))) if places is None else list(places)
    _fix(getattr(axes, f"{which}axis"), at, [plain(n) for n in names])


def broken(name: str, width: int) -> str:
    """A label of a row in at most two lines, broken after a comma or bracket; one that fits stays whole."""
    places = [i + 1 for i, letter in enumerate(name) if letter in "(,"]
    if len(name) <= width or not places:
        return name
    place = min(places, key=lambda i: max(i, len(name) - i))
    return f"{name[:place].rstrip()}\n{name[place:].lstrip()}"


def row_names(
    axes: Axes,
    names: Sequence[str],
    width: int,
    size: float,
    colour: str,
    places: Sequence[float] | None = None,
) -> None:
    """Names of rows on the y axis, `size` points; those over `width` characters in two lines, smaller."""
    at = list(range(len(names))) if places is None else list(places)
    _fix(axes.yaxis, at, [broken(plain(n), width) for n in names])
    axes.tick_params(axis="y", length=0, labelsize=size, labelcolor=colour, rotation=0)
    for label in axes.get_yticklabels():
        if "\n" in label.get_text():
            label.set(fontsize=0.84 * size, linespacing=1.05)


def value_axis(axes: Axes, which: str, scale: Scale, count: int = 5) -> None:
    """The `x` or `y` axis as `scale` says."""
    (log_axis if scale.log else linear_axis)(axes, which, scale.low, scale.high, count)


@dataclass(frozen=True)
class Scale:
    """Limits of a value axis, and whether it is logarithmic; `clip` puts values on its edges."""

    low: float
    high: float
    log: bool

    def clip(self, values: Iterable[float]) -> np.ndarray:
        """Values with those outside put on the edge; NaN stays NaN."""
        return np.clip(np.asarray(list(values), dtype=float), self.low, self.high)

    def inside(self, share: float) -> float:
        """The value at a share (0 to 1) of the axis' length."""
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + (self.high - self.low) * share


def fit_scale(
    values: Iterable[float],
    floor: float | None = None,
    ceiling: float | None = None,
    pad: float = 0.06,
    log: bool | None = None,
) -> Scale:
    """A scale that holds the finite values between `floor` and `ceiling`; log where all are positive.

    Args:
        floor, ceiling: values beyond are not worth an axis' length; they go to its edge.
        pad: share of the length left free at either end.
        log: force a scale; by default log where all values are > 0 and span a factor 3, or are one value.
    """
    data = np.asarray(list(values), dtype=float)
    data = data[np.isfinite(data)]
    if log is None:
        log = bool(data.size and data.min() > 0 and (data.max() > 3 * data.min() or data.max() == data.min()))
    if log:
        data = data[data > 0]
    if not data.size:
        return Scale(0.1, 1.0, log) if log else Scale(0.0, 1.0, False)
    low, high = float(data.min()), float(data.max())
    low = max(low, floor) if floor is not None else low
    high = min(high, ceiling) if ceiling is not None else high
    low = min(low, high)
    if log:
        if low == high:
            return Scale(low / 10, high * 10, True)
        ratio = max(high / low, 1.5)
        return Scale(low / ratio**pad, low * ratio ** (1 + pad), True)
    span = (high - low) or (abs(high) or 1.0) * 0.1
    return Scale(low - span * pad, high + span * pad, False)
