"""A study and its plug-ins as a small folder that travels with a job: code only, no data. No Ray here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from harness import catalog
from harness.executors.ray_code import LIMIT_BYTES, modules
from harness.types import UsageError

if TYPE_CHECKING:
    from harness.spec import StudySpec
    from harness.types import Component

STUDY = "study.yaml"


def pack(spec: StudySpec, folder: Path) -> Path:
    """Writes `study.yaml`, everything in it decided, and beside it the code of its plug-ins.

    Args:
        folder: empty; its content becomes the job's working folder.
    Returns:
        The study's file.
    Raises:
        UsageError: plug-ins of two folders have files of one name, or there is more than code could be.
    """
    files: dict[str, Path] = {}
    for component in (*spec.workloads, *spec.optimizers):
        _collect(component, files)
    size = sum(path.stat().st_size for path in files.values())
    if size > LIMIT_BYTES:
        raise UsageError(
            f"the plug-ins' folders hold more than {LIMIT_BYTES // 2**20} MB of Python files: "
            "put the plug-ins in a folder of their own"
        )
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    study = folder / STUDY
    decided = {key: value for key, value in spec.resolved().items() if key not in ("out", "workers")}
    study.write_text(yaml.safe_dump(decided, sort_keys=False))
    return study


def _collect(component: Component, files: dict[str, Path]) -> None:
    """The files that a plug-in may import, by their place in the folder."""
    if component.source:
        path = Path(component.source)
        _add(path.parent, [*modules(path.parent), path], files)
    elif ":" in component.name:
        entry = catalog.find_any(component.name)
        base = entry.path.parents[entry.module.count(".") + (entry.path.name == "__init__.py")]
        if base == Path.cwd():  # importable only because the command runs there; others are installed
            _add(base, [*modules(base)], files)
    for inner in component.inner:
        _collect(inner, files)


def _add(base: Path, paths: list[Path], files: dict[str, Path]) -> None:
    for path in paths:
        name = path.relative_to(base).as_posix()
        if files.setdefault(name, path) != path:
            raise UsageError(
                f"'{files[name]}' and '{path}' would both travel as {name}: put the plug-ins in one folder"
            )
