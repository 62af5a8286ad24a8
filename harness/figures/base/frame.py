"""The type of a frame in signatures.

Pandas ships no stubs: from its source pyright infers that `frame.value` may be any of a dozen types. Where
rows are only read and drawn, a frame is `Any` to the checker, and a `DataFrame` to the reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    Frame = Any
else:
    Frame = pd.DataFrame

__all__ = ["Frame"]
