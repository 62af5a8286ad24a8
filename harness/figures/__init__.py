"""Figures: a file per figure, and the folder is the catalogue.

A figure is a module in this folder with

- `TITLE`, what it shows; `SHORT`, its name in the page's navigation; `ORDER`, its place in the report;
- `ABSENT`, a sentence for when there is nothing to draw; `TABLES`, the tables that hold its numbers;
- `draw(data: ReportData, theme: Theme) -> Drawing | None`, which touches neither pyplot nor `rcParams`.

    from harness.figures import LIGHT, ReportData, draw
    draw("learning_rate", ReportData(cells, curves, contours, study), LIGHT).figures[0].savefig("panel.pdf")
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from types import ModuleType

from .base.data import ReportData
from .base.drawing import Drawing, Item, Panel
from .base.theme import DARK, LIGHT, PAGE, THEMES, Theme

__all__ = [
    "DARK",
    "LIGHT",
    "PAGE",
    "THEMES",
    "Drawing",
    "Item",
    "Panel",
    "ReportData",
    "Theme",
    "catalogue",
    "draw",
]


def catalogue() -> dict[str, ModuleType]:
    """Figure name -> module, in the order of the report."""
    names = [info.name for info in pkgutil.iter_modules(__path__) if not info.ispkg]
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return dict(sorted(modules.items(), key=lambda item: (item[1].ORDER, item[0])))


def draw(name: str, data: ReportData, theme: Theme = LIGHT) -> Drawing | None:
    """One figure of the catalogue; None where the rows have nothing to show in it.

    Args:
        name: of a module in this folder.
        data: the study.
        theme: `LIGHT` or `DARK` for real colours; `PAGE` for an SVG that follows the reader's theme.

    Raises:
        KeyError: there is no such figure.
    """
    modules = catalogue()
    if name not in modules:
        raise KeyError(f"no figure '{name}'; there are {', '.join(modules)}")
    drawing = modules[name].draw(data, theme)
    return None if drawing is None else replace(drawing, theme=theme.name)
