"""A profiler trace of what is measured, for TensorBoard and Perfetto."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .device import tensorflow


@contextmanager
def trace(folder: Path | None) -> Iterator[None]:
    """Within this context everything is traced into `folder`; nothing where it is None.

    The trace costs time itself, so that rows measured under it are not to be compared with others. Beside
    TensorBoard's own files the folder holds `*.trace.json.gz`, which ui.perfetto.dev opens.
    """
    if folder is None:
        yield
        return
    tf = tensorflow()
    folder.mkdir(parents=True, exist_ok=True)
    tf.profiler.experimental.start(str(folder))
    try:
        yield
    finally:
        tf.profiler.experimental.stop()
