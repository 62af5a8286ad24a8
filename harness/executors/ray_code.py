"""The user's own plug-ins as a parcel of files: code only, to be laid out again on every worker."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from harness import catalog
from harness.types import Component, Tile, UsageError, digest

LIMIT_BYTES = 20 * 2**20


def parcel(tiles: Sequence[Tile]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Files that the plug-ins of some tiles need on a worker: see `parcel_of`."""
    return _packed(_plugins(tiles))


def parcel_of(optimizers: Iterable[Component]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Files that some optimizers need on a worker.

    The folder that a plug-in lies in travels as far as Python could import it from there: its `*.py` files
    and packages. What is installed, and the catalogue's own, is expected on the workers.

    Returns:
        files: path in the parcel → content. sources: a plug-in's path here → its path in the parcel.
    Raises:
        UsageError: it is more than code could be.
    """
    return _packed(_of("optimizer", optimizers))


def _packed(plugins: Iterable[tuple[Path, Path]]) -> tuple[dict[str, bytes], dict[str, str]]:
    files: dict[str, bytes] = {}
    sources: dict[str, str] = {}
    for path, folder in sorted(set(plugins)):
        top = digest(str(folder), size=4)
        for each in modules(folder):
            files.setdefault(f"{top}/{each.relative_to(folder).as_posix()}", each.read_bytes())
        name = f"{top}/{path.relative_to(folder).as_posix()}"
        files.setdefault(name, path.read_bytes())
        sources[str(path)] = name
        if sum(map(len, files.values())) > LIMIT_BYTES:
            raise UsageError(
                f"the folder '{folder}' of a plug-in holds more than {LIMIT_BYTES // 2**20} MB of Python "
                "files: put the plug-in in a folder of its own"
            )
    return files, sources


def modules(folder: Path) -> Iterator[Path]:
    """`*.py` files that are importable from a folder: its own, and those of its packages."""
    for path in sorted(folder.glob("*.py")):
        if path.is_file():
            yield path
    for init in sorted(folder.glob("*/__init__.py")):
        if not init.parent.name.startswith((".", "__")):
            yield from modules(init.parent)


def _plugins(tiles: Sequence[Tile]) -> Iterator[tuple[Path, Path]]:
    """Files of plug-ins, each with the folder that it is imported from."""
    programs = {t.program.key: t.program for t in tiles}.values()
    for program in programs:
        yield from _of("workload", [program.workload])
        yield from _of("optimizer", [program.optimizer])


def _of(
    kind: Literal["workload", "optimizer"], components: Iterable[Component]
) -> Iterator[tuple[Path, Path]]:
    for component in components:
        entry = catalog.entry_of(kind, component)
        if not entry.builtin:
            depth = entry.module.count(".") + (1 if entry.path.name == "__init__.py" and entry.module else 0)
            folder = entry.path.parents[depth]
            if not _installed(folder):
                yield entry.path, folder
        yield from _of(kind, component.inner)


def _installed(folder: Path) -> bool:
    return str(folder) in {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
