"""Importing plug-ins: modules by name, files by path, their own folder importable meanwhile; and libraries
without what they would like to have beside them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

_lock = threading.RLock()  # workers are threads of one process


def by_name(name: str, folder: Path | None = None) -> ModuleType:
    """Import a module; `folder` is where its top package lies, where that may not be on `sys.path`."""
    if folder is None:
        return importlib.import_module(name)
    with _lock, _importable(folder):
        return importlib.import_module(name)


def by_path(path: Path) -> ModuleType:
    """Import a file under a name made of its path and content: the same file is imported once, an
    edited one again."""
    key = str(path).encode() + b"\0" + path.read_bytes()
    name = f"optgrid_plugin_{path.stem}_{hashlib.sha256(key).hexdigest()[:12]}"
    with _lock:
        if name not in sys.modules:
            _execute(name, path)
        return sys.modules[name]


def _execute(name: str, path: Path) -> None:
    spec = None
    if path.suffix in SOURCE_SUFFIXES:
        spec = importlib.util.spec_from_file_location(name, path, loader=_AsWritten(name, str(path)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while the class is made
    try:
        with _importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


class _AsWritten(SourceFileLoader):
    """Takes no bytecode of earlier: it is known by the file's size and the second it was written in, which an
    edit may leave as they were."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put a folder on `sys.path`, last, for as long as the block runs."""
    entry = str(folder)
    added = entry not in sys.path
    if added:
        sys.path.append(entry)
    try:
        yield
    finally:
        if added and entry in sys.path:
            sys.path.remove(entry)


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Packages that nobody has imported yet are found by what this thread imports meanwhile, but not loaded:
    to load one is an `ImportError`. Afterwards they can be imported as ever, and by other threads at once."""
    hidden = _Hidden(packages)
    sys.meta_path.insert(0, hidden)
    try:
        yield
    finally:
        sys.meta_path.remove(hidden)


class _Hidden(MetaPathFinder, Loader):
    def __init__(self, packages: Sequence[str]):
        self.packages, self.thread = packages, threading.get_ident()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        if fullname not in self.packages or threading.get_ident() != self.thread:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None:
            spec.loader = self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        raise ImportError(f"{module.__name__} is imported when it is asked for")
