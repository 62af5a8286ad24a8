"""Other people's answers, imported without what they do besides."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any


def cocopp_toolsstats() -> Any:
    """COCO's statistics. Importing the package itself looks for its archive on the network and warns where
    there is none, so the module is imported under an empty package of that name."""
    spec = importlib.util.find_spec("cocopp")
    assert spec is not None, "cocopp is part of the test extra"
    package = types.ModuleType("cocopp")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["cocopp"] = package
    try:
        return importlib.import_module("cocopp.toolsstats")
    finally:
        for name in [n for n in sys.modules if n == "cocopp" or n.startswith("cocopp.")]:
            del sys.modules[name]
