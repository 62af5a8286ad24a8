"""Ctrl-C and SIGTERM while a study runs: the first stops it in order, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ._app import INTERRUPTED

FIRST = b"\nstopping: what is finished is being kept (again to stop at once)\n"
SECOND = b"\nstopped at once: what was committed is kept\n"


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM raise KeyboardInterrupt once; the next ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; elsewhere the host's stay
        return
    received = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        # `os.write`: a handler must not wait for a lock that the interrupted code may hold.
        os.write(2, FIRST if received == 1 else SECOND)
        if received > 1:
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        if not received:  # once asked to stop, the process is on its way out: a second signal still ends it
            for number, handler in before.items():
                signal.signal(number, handler)
