"""Figures of a profile: a file per figure, in the protocol of the other figures, drawn from `KernelData`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from .base import KernelData

__all__ = ["KernelData", "catalogue"]


def catalogue() -> dict[str, ModuleType]:
    """Figure name -> module, in the order of the page."""
    names = [info.name for info in pkgutil.iter_modules(__path__) if info.name != "base"]
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return dict(sorted(modules.items(), key=lambda item: (item[1].ORDER, item[0])))
