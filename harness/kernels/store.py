"""Rows of a profile on disk: `kernels/*.parquet`, `steps/*.parquet`, and `kernels.json`."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..records import KERNELS, STEPS, Store
from ..types import UsageError
from .schema import Frame, Row, StepRow, table

EVERY = 50  # rows between commits: an interrupted profile keeps what it has


class Writer:
    """Commits rows as they come; one file per profile, so that profiles gather in a folder.

    Args:
        folder: where to; a study's results folder will do.
        environment: what `kernels.json` holds.
    """

    def __init__(self, folder: Path, environment: dict[str, Any]):
        self.store = Store(str(folder))
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.name = f"{stamp}-{uuid.uuid4().hex[:6]}"
        self.rows: list[Row] = []
        self.store.write_json("kernels.json", {**environment, "created_at": datetime.now(UTC).isoformat()})

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if len(self.rows) % EVERY == 0:
            self._commit()

    def finish(self, steps: list[StepRow]) -> None:
        """Commits what is left, and the split of training steps."""
        if self.rows:
            self._commit()
        if steps:
            self.store.write_table("steps", self.name, table(steps, STEPS))

    def _commit(self) -> None:
        self.store.write_table("kernels", self.name, table(self.rows, KERNELS))


def read(folder: str) -> Frame:
    """Rows of a profile, or of one of its Parquet files.

    Raises:
        UsageError: there are none.
    """
    path = Path(folder)
    if path.suffix == ".parquet" and path.is_file():
        from pyarrow import dataset

        return dataset.dataset(path, schema=KERNELS).to_table().to_pandas()
    found, problems = Store(folder).read("kernels")
    if not found.num_rows:
        why = f" ({problems[0]})" if problems else ""
        raise UsageError(f"'{folder}' holds no profile: it has no rows in kernels/{why}")
    return found.to_pandas()
