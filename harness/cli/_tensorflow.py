"""Importing TensorFlow without the dozen lines that it writes to standard error on every start."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from ._app import say


def import_tensorflow(why: str) -> None:
    """Import TensorFlow, set up for grids; its start-up chatter is shown only where the import fails.

    The chatter comes from C++ before its logging is set up, past every log level: only the file
    descriptor can be turned away.

    Args:
        why: what it is imported for, said before the seconds that it takes.
    """
    from ..runtime import keep_imports, tensorflow

    if "tensorflow" in sys.modules:
        tensorflow()
        return
    say(f"{why}: importing TensorFlow")
    with tempfile.TemporaryFile() as chatter:
        kept = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            tensorflow()
        except BaseException:
            os.dup2(kept, 2)
            chatter.seek(0)
            shutil.copyfileobj(chatter, sys.stderr.buffer)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    keep_imports()
