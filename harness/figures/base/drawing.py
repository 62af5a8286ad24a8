"""What a figure module returns: panels, and the words around them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Literal

from matplotlib.figure import Figure

from .theme import Look, Theme


@dataclass(frozen=True)
class Panel:
    """One small figure.

    Args:
        figure: a `matplotlib.figure.Figure`, no pyplot state behind it.
        alt: what a reader who cannot see it should know, in a sentence or two.
        overlay: SVG drawn on top, in the figure's points (the animation's moving parts).
    """

    figure: Figure
    alt: str
    overlay: str = ""


@dataclass(frozen=True)
class Item:
    """One entry of a legend.

    Args:
        text: what it means.
        kind: `look` (an optimizer's line and marker), `line`, `marker`, `hollow`, `patch`, `hatch`, `ramp`.
        before: text in front of the sign (the low end of a ramp).
    """

    text: str
    kind: Literal["look", "line", "marker", "hollow", "patch", "hatch", "ramp"]
    colour: str = ""
    marker: str = ""
    dash: tuple[float, ...] | None = None
    ramp: tuple[str, ...] = ()
    before: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure of the report.

    Args:
        title: what it shows.
        finding: what these rows say, in a sentence; empty where there is nothing to say.
        caption: n, budget and how to read it.
        columns: panels side by side where there is room: 3, 2 or 1.
        more: panels after this many are folded away in the page (all are in the file).
        style: CSS of the overlays.
        moving: whether it is animated; the page then shows a pause switch.
        theme: name of the theme that it was drawn with.
    """

    title: str
    panels: tuple[Panel, ...]
    caption: str
    finding: str = ""
    legend: tuple[Item, ...] = ()
    columns: int = 3
    more: int = 15
    style: str = ""
    moving: bool = False
    theme: str = "page"

    @property
    def figures(self) -> list[Figure]:
        """The panels as matplotlib figures."""
        return [panel.figure for panel in self.panels]

    @property
    def half(self) -> bool:
        """Whether it is one panel that may stand beside another."""
        return self.columns == 2 and len(self.panels) == 1

    def _repr_html_(self) -> str:
        """The whole drawing as one picture, for notebooks; an `<img>`, so that its style stays its own."""
        from .svg import body, compose

        text = compose(self, [body(p.figure, f"p{i}") for i, p in enumerate(self.panels)])
        data = base64.b64encode(text.encode()).decode()
        return f'<img alt="{escape(self.title)}" src="data:image/svg+xml;base64,{data}">'


def optimizer_items(looks: Mapping[str, Look], texts: Mapping[str, str], theme: Theme) -> tuple[Item, ...]:
    """Legend entries of the optimizers, each with its line, dash and marker."""
    return tuple(
        Item(texts[label], "look", look.colour(theme), look.marker, look.dash)
        for label, look in looks.items()
    )
