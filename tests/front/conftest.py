"""Shared by the front's tests: where the fixture plug-ins are."""

from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parent / "plugins"


@pytest.fixture
def plugins() -> Path:
    return PLUGINS


@pytest.fixture
def in_plugins(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is that of the plug-ins, so that `sign_descent.py:SignDescent` is found."""
    monkeypatch.chdir(PLUGINS)
    return PLUGINS
