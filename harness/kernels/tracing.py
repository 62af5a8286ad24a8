"""A profiler trace of what is measured, for TensorBoard and Perfetto."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .device import tensorflow

MOST_EVENTS = 1_000_000  # that a viewer in a browser still opens


@contextmanager
def trace(folder: Path | None) -> Iterator[None]:
    """Within this context everything is traced into `folder`; nothing where it is None.

    The trace costs time itself, so that rows measured under it are not to be compared with others. Beside
    TensorBoard's own files (`*.xplane.pb`) the folder holds `*.trace.json.gz`, which ui.perfetto.dev opens.
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
        for path in folder.rglob("*.xplane.pb"):
            write_chrome_trace(path)


def write_chrome_trace(path: Path) -> Path:
    """Write a TensorFlow trace as Chrome's trace events, gzipped, beside it.

    Args:
        path: of a `*.xplane.pb`.
    Returns:
        The path of the `*.trace.json.gz`.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space: Any = xplane_pb2.XSpace()  # pyright: ignore[reportAttributeAccessIssue]
    space.ParseFromString(path.read_bytes())
    out = path.with_name(path.name.removesuffix(".xplane.pb") + ".trace.json.gz")
    with gzip.open(out, "wt", encoding="utf-8") as stream:
        json.dump({"displayTimeUnit": "ns", "traceEvents": list(_events(space))}, stream)
    return out


def _events(space: Any) -> Iterator[dict[str, Any]]:
    """Names of processes and threads, then complete events; times in microseconds."""
    left = MOST_EVENTS
    for process, plane in enumerate(space.planes, 1):
        yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": plane.name}}
        for thread, line in enumerate(plane.lines, 1):
            place = {"pid": process, "tid": thread}
            yield {
                "ph": "M",
                "name": "thread_name",
                **place,
                "args": {"name": line.display_name or line.name},
            }
            begin = line.timestamp_ns / 1e3
            for event in line.events[:left]:
                known = plane.event_metadata[event.metadata_id]
                yield {
                    "ph": "X",
                    "name": known.display_name or known.name,
                    "ts": begin + event.offset_ps / 1e6,
                    "dur": event.duration_ps / 1e6,
                    **place,
                }
            left = max(0, left - len(line.events))
