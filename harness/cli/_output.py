"""What commands print: aligned columns, tables, JSON, numbers in a reader's units."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..sentences import plural


def print_json(document: Any) -> None:
    """One JSON document on standard output; NaN and infinity become null."""
    print(json.dumps(jsonable(document), indent=2, ensure_ascii=False))


def jsonable(value: Any) -> Any:
    """A value as JSON can hold it: numpy scalars, frames, paths and dataclass tuples included."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(each) for key, each in value.items()}
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [jsonable(row) for row in value.to_dict("records")]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return None if type(value).__name__ in ("NAType", "NaTType") else str(value)


def print_columns(rows: Sequence[Sequence[str]], indent: int = 0) -> None:
    """Aligned columns on standard output; in a terminal the last is cut at its edge."""
    if not rows:
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        line = " " * indent + "  ".join([*cells, row[-1]]).rstrip()
        print(line if room is None or len(line) <= room else line[: room - 1] + "…")


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on standard output; numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    body = [list(row) for row in rows]
    table = Table()
    for i, name in enumerate(header):
        numeric = all(isinstance(row[i], int | float) or row[i] is None for row in body) and body
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in body:
        table.add_row(*(Text(shown(value)) for value in row))
    print(title)
    # Where there is no terminal, nothing is folded to the width of one.
    width = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def print_frame(title: str, frame: Any, columns: Sequence[str] | None = None) -> None:
    """A pandas frame as a table; underscores in its column names become spaces."""
    names = [name for name in (columns or frame.columns) if name in frame.columns]
    rows = [[jsonable(value) for value in row] for row in frame[names].itertuples(index=False)]
    print_table(title, [name.replace("_", " ") for name in names], rows)


def shown(value: Any) -> str:
    """A value in a table: four significant digits, thousands apart, a dash for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e9
        return f"{int(value):,}" if whole else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def duration(seconds: float) -> str:
    """`4 s`, `2 min 10 s`, `3 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def size(count: float) -> str:
    """Bytes as `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def shown_path(path: Any) -> str:
    """A path from the current folder where it lies below it; addresses stay as they are."""
    text = str(path)
    if "://" in text:
        return text
    try:
        return str(Path(text).resolve().relative_to(Path.cwd())) or "."
    except ValueError:
        return text


def counts(by_status: Mapping[str, int]) -> str:
    """`converged 300, diverged 12` in a fixed order, what is zero left out."""
    order = ("converged", "budget", "diverged", "failed")
    return ", ".join(f"{name} {by_status[name]:,}" for name in order if by_status.get(name))


def cells(count: int) -> str:
    """`1 cell`, `2,000 cells`."""
    return plural(count, "cell")
