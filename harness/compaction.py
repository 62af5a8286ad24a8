"""Many small files of rows become few: at any moment every row is there at least once."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.fs as pafs

from harness.records import ROW_KEYS, Store, first_of_each
from harness.types import digest

FEW = 32  # files that are left as they are
GROUP_BYTES = 64 * 2**20  # of a merged file, about
READERS = 16


def compact(store: Store) -> int:
    """Merges a results folder's small files.

    A merged file is published whole before the files that it holds are deleted, and readers take one row
    per cell: a crash in between costs space, and the next run clears it. Few files stay as they are, unless
    a cell is in two of them (a worker outlived its driver): other readers of Parquet would count it twice.

    Returns:
        How many files went.
    """
    gone = 0
    for folder in ("curves", "cells"):
        paths = store.files(folder)
        if len(paths) > FEW or _overlap(store, folder):
            gone += sum(_merge(store, folder, group) for group in _groups(store, paths))
    return gone


def _overlap(store: Store, folder: str) -> bool:
    """Whether some cell has a row in more than one file."""
    key = ROW_KEYS[folder]
    found: set[str] = set()
    for path in store.files(folder):
        name = posixpath.basename(path).removesuffix(".parquet")
        table = store.read_part(folder, name, [key])
        ids = [] if table is None else table.column(key).to_pylist()
        if not found.isdisjoint(ids):
            return True
        found.update(ids)
    return False


def _groups(store: Store, paths: Sequence[str]) -> Iterator[list[str]]:
    """Files that together make one of the wanted size."""
    filesystem = store.filesystem
    group, size = [], 0
    for info in filesystem.get_file_info(list(paths)):
        if info.type != pafs.FileType.File or info.size > GROUP_BYTES // 2:
            continue
        group.append(info.path)
        size += info.size
        if size > GROUP_BYTES:
            yield group
            group, size = [], 0
    if len(group) > 1:
        yield group


def _merge(store: Store, folder: str, paths: Sequence[str]) -> int:
    names = [posixpath.basename(path).removesuffix(".parquet") for path in paths]
    # Opening a file in a bucket takes tens of milliseconds, in which a thread only waits.
    with ThreadPoolExecutor(READERS) as pool:
        tables = pool.map(lambda name: store.read_part(folder, name), names)
        parts = dict(zip(paths, tables, strict=True))
    whole = {path: table for path, table in parts.items() if table is not None}
    if len(whole) < 2:
        return 0
    key = ROW_KEYS[folder]
    merged = first_of_each(pa.concat_tables(list(whole.values()), promote_options="default"), key)
    name = f"merged-{digest(sorted(names))}"
    store.write_table(folder, name, merged)
    for path in whole:
        if not path.endswith(f"/{name}.parquet"):
            store.filesystem.delete_file(path)
    return len(whole)
