"""The driver's journal: one line of JSON per event of a run, in one file."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from harness.records import Store

PUBLISH_SECONDS = 60.0


class Journal:
    """`journal.jsonl` in the results folder; in a remote one, `journal/<begin>.jsonl`, renewed each minute.

    Args:
        store: the results folder.
    """

    def __init__(self, store: Store):
        self.store, self.lock = store, threading.Lock()
        local = store.local
        begin = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S")
        self.remote = None if local else f"journal/{begin}.jsonl"
        if local:
            local.mkdir(parents=True, exist_ok=True)
            self.path = local / "journal.jsonl"
        else:
            self.folder = tempfile.TemporaryDirectory(prefix="optgrid-journal-")
            self.path = Path(self.folder.name) / "journal.jsonl"
        self.stream = self.path.open("a", encoding="utf-8")
        self.published = time.monotonic()

    def __call__(self, event: str, **fields: Any) -> None:
        """Writes a line: the time, the event, its fields."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        with self.lock:
            if self.stream.closed:
                return  # Ray's own thread may still have something to say
            self.stream.write(json.dumps({"at": now, "event": event, **fields}) + "\n")
            self.stream.flush()
        if self.remote and time.monotonic() - self.published > PUBLISH_SECONDS:
            self._publish()

    def close(self) -> None:
        with self.lock:
            self.stream.close()
        if self.remote:
            self._publish()
            self.folder.cleanup()

    def _publish(self) -> None:
        assert self.remote is not None
        self.store.write_bytes(self.remote, self.path.read_bytes())
        self.published = time.monotonic()
