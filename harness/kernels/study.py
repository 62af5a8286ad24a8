"""The kernels of a study's optimizers, profiled beside its rows (`profile: true`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..records import Store
from ..types import Component

SIZES = "1e4,1e6,1e7"
_COMMAND = "from harness.cli import main; main()"


def profile_study(optimizers: Sequence[Component], store: Store, sizes: str | None = None) -> str:
    """Profile the optimizers of a study into its folder, once, in a process of its own.

    A grid runs with one thread inside an operation, and that cannot be changed once TensorFlow runs; a kernel
    is timed with all cores, when the grid is done with them.

    Args:
        optimizers: of the study.
        store: its results folder.
        sizes: parameters, as `--sizes` takes them; `SIZES` by default.
    Returns:
        A sentence on why there are no kernels; empty where there are.
    """
    if store.files("kernels"):
        return ""
    if store.local is None:
        return f"kernels are profiled into local folders only: run 'optgrid profile' beside {store.address}"
    names = [expression(component) for component in optimizers]
    line = [sys.executable, "-c", _COMMAND, "profile", *names, "--quick", "--sizes", sizes or SIZES, "--json"]
    line += ["--out", str(store.local)]
    # The same code there as here, wherever it was imported from.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, errors="replace", env=environment
    )
    if done.returncode == 0:
        return ""
    said = [each for each in done.stderr.splitlines() if each.strip()]
    return f"the kernels could not be profiled: {said[-1] if said else 'no reason was given'}"


def expression(component: Component) -> str:
    """The optimizer's label, with the files of plug-ins as absolute paths."""
    text = component.label
    for part in _parts(component):
        if part.source:
            text = text.replace(part.name, f"{part.source}:{part.name.rpartition(':')[2]}")
    return text


def _parts(component: Component) -> Iterator[Component]:
    yield component
    for inner in component.inner:
        yield from _parts(inner)
