"""Rows on disk: explicit Arrow schemas, atomic commits, and a reader that names what it cannot read.

A results folder holds `study.json` (the resolved spec and where it ran), `cells/` and `curves/` (one
Parquet file per committed tile) and `contours/`. A file appears whole or not at all, and its name is the
tile's id, so that a tile done twice leaves one set of rows. The folder may be local or any `pyarrow.fs`
address (`s3://`, `gs://`). The rows are the state: there is no database beside them.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from harness.types import SCHEMA_VERSION, RunError, UsageError

READS = 3  # times that a folder is listed again when a file goes while it is read
_VERSION_KEY = b"optgrid.schema_version"
_METADATA = {_VERSION_KEY: str(SCHEMA_VERSION).encode()}

CELLS = pa.schema(
    [
        *((name, pa.string()) for name in ("cell_id", "study", "workload", "optimizer")),
        *((name, pa.string()) for name in ("strategy", "device", "dtype")),
        ("workload_params", pa.string()),
        ("optimizer_params", pa.string()),
        ("learning_rate", pa.float64()),
        ("seed", pa.int64()),
        ("budget", pa.int64()),
        ("status", pa.string()),
        ("detail", pa.string()),
        ("steps", pa.int64()),
        ("target", pa.float64()),
        ("steps_to_target", pa.int64()),
        ("steps_to_stay", pa.int64()),
        ("targets", pa.list_(pa.float64())),
        ("hits", pa.list_(pa.int64())),
        ("initial_loss", pa.float64()),
        ("initial_gradient_norm", pa.float64()),
        ("best_loss", pa.float64()),
        ("best_step", pa.int64()),
        ("final_loss", pa.float64()),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("path_length", pa.float64()),
        ("displacement", pa.float64()),
        ("turn_backs", pa.float64()),
        ("tail_std", pa.float64()),
        ("tile_id", pa.string()),
        ("lanes", pa.int64()),
        ("compile_seconds", pa.float64()),
        ("train_seconds", pa.float64()),
        ("evaluate_seconds", pa.float64()),
        ("worker", pa.string()),
        ("finished_at", pa.timestamp("us", tz="UTC")),
        ("replicas", pa.int64()),
        ("split", pa.string()),
        ("all_reduce_share", pa.float64()),
        ("code", pa.string()),
    ],
    metadata=_METADATA,
)
# Columns that files of this schema's version may lack, since they were added to it: null in their rows.

CURVE_BASE = ("loss", "gradient_norm", "update_norm")
CURVE_METRICS = ("validation_loss", "validation_accuracy")


def curves_schema(metrics: Iterable[str] = ()) -> pa.Schema:
    """The schema of `curves/`; `metrics` are the workload's monitored ones beyond the usual two."""
    extra = [m for m in metrics if m not in CURVE_METRICS]
    names = (*CURVE_BASE, *CURVE_METRICS, *extra, "x", "y")
    fields = [("cell_id", pa.string()), ("step", pa.list_(pa.int64()))]
    return pa.schema([*fields, *((n, pa.list_(pa.float32())) for n in names)], metadata=_METADATA)


CONTOURS = pa.schema(
    [
        ("workload", pa.string()),
        ("x", pa.list_(pa.float64())),
        ("y", pa.list_(pa.float64())),
        ("z", pa.list_(pa.float64())),
        ("minimizers", pa.list_(pa.list_(pa.float64()))),
    ],
    metadata=_METADATA,
)

KERNELS = pa.schema(
    [
        *((name, pa.string()) for name in ("optimizer", "optimizer_params", "implementation")),
        *((name, pa.string()) for name in ("device", "device_name", "dtype", "layout")),
        ("parameters", pa.int64()),
        ("tensors", pa.int64()),
        ("status", pa.string()),
        ("detail", pa.string()),
        ("compile_seconds", pa.float64()),
        ("update_seconds", pa.float64()),
        ("update_seconds_low", pa.float64()),
        ("update_seconds_high", pa.float64()),
        ("windows", pa.int64()),
        ("calls", pa.int64()),
        ("noise", pa.float64()),
        ("copy_noise", pa.float64()),
        ("nanoseconds_per_parameter", pa.float64()),
        ("bytes_moved", pa.int64()),
        ("flops", pa.int64()),
        ("gigabytes_per_second", pa.float64()),
        ("gigaflops_per_second", pa.float64()),
        ("copy_gigabytes_per_second", pa.float64()),
        ("copy_share", pa.float64()),
        ("product_flops", pa.int64()),
        ("matmul_gigaflops_per_second", pa.float64()),
        ("matmul_share", pa.float64()),
        ("traffic_bytes", pa.int64()),
        ("temporary_bytes", pa.int64()),
        ("state_bytes", pa.int64()),
        ("state_bytes_per_parameter", pa.float64()),
        ("kernels", pa.int64()),
        ("fusions", pa.int64()),
        ("passes", pa.float64()),
        ("kernel_names", pa.list_(pa.string())),
        ("threads", pa.int64()),
        ("versions", pa.string()),
        ("measured_at", pa.timestamp("us", tz="UTC")),
    ],
    metadata=_METADATA,
)

STEPS = pa.schema(
    [
        *((name, pa.string()) for name in ("workload", "optimizer", "device", "dtype")),
        ("parameters", pa.int64()),
        ("part", pa.string()),
        ("seconds", pa.float64()),
        ("seconds_low", pa.float64()),
        ("seconds_high", pa.float64()),
        ("windows", pa.int64()),
        ("share", pa.float64()),
        ("detail", pa.string()),
        ("measured_at", pa.timestamp("us", tz="UTC")),
    ],
    metadata=_METADATA,
)

SCHEMAS = {
    "cells": CELLS,
    "curves": curves_schema(),
    "contours": CONTOURS,
    "kernels": KERNELS,
    "steps": STEPS,
}
# Columns that rows of earlier profiles lack: they are null there, and the profiles stay comparable.
ADDED = {
    "cells": frozenset({"replicas", "split", "all_reduce_share", "code"}),
    "kernels": frozenset({"copy_noise", "product_flops", "matmul_gigaflops_per_second", "matmul_share"}),
}
ROW_KEYS = {"cells": "cell_id", "curves": "cell_id", "contours": "workload"}  # the others keep every row


@dataclass(frozen=True)
class Store:
    """A results folder, local or remote.

    Args:
        address: a local path or an address that `pyarrow.fs` knows.
    """

    address: str

    @property
    def _place(self) -> tuple[pafs.FileSystem, str]:
        if "://" in self.address:
            try:
                return pafs.FileSystem.from_uri(self.address)
            except (pa.ArrowInvalid, OSError, ValueError) as error:
                raise UsageError(
                    f"{self.address}: not an address that results can go to ({error})."
                ) from error
        return pafs.LocalFileSystem(), str(Path(self.address).expanduser().absolute())

    @property
    def filesystem(self) -> pafs.FileSystem:
        """Where the folder is."""
        return self._place[0]

    @property
    def local(self) -> Path | None:
        """The folder as a local path; None where it is remote."""
        filesystem, root = self._place
        return Path(root) if isinstance(filesystem, pafs.LocalFileSystem) else None

    def exists(self) -> bool:
        filesystem, root = self._place
        return filesystem.get_file_info(posixpath.join(root, "study.json")).type == pafs.FileType.File

    def refuse_foreign(self) -> None:
        """A folder that holds something else is not written into.

        Raises:
            UsageError: it has rows and no study.json, or is no folder.
        """
        filesystem, root = self._place
        if filesystem.get_file_info(root).type == pafs.FileType.File:
            raise UsageError(f"{self.address} is a file, not a folder: give another --out.")
        if self.files("cells"):
            raise UsageError(
                f"{self.address} holds rows and no study.json: give another --out, or delete the folder."
            )

    def clear(self) -> None:
        """Deletes the rows and `study.json`; other files in the folder stay."""
        filesystem, root = self._place
        for folder in SCHEMAS:
            path = posixpath.join(root, folder)
            if filesystem.get_file_info(path).type == pafs.FileType.Directory:
                filesystem.delete_dir(path)
        study = posixpath.join(root, "study.json")
        if filesystem.get_file_info(study).type == pafs.FileType.File:
            filesystem.delete_file(study)

    def _publish(self, name: str, data: bytes | pa.Buffer) -> None:
        """Writes `name` whole or not at all.

        Raises:
            RunError: the folder cannot be written; what is there already stays as it was.
        """
        filesystem, root = self._place
        path = posixpath.join(root, name)
        local = isinstance(filesystem, pafs.LocalFileSystem)
        # Readers take *.parquet and *.json only, so a file that is being written is never seen.
        partial = f"{path}.{os.getpid()}.partial" if local else path
        try:
            filesystem.create_dir(posixpath.dirname(path), recursive=True)
            with filesystem.open_output_stream(partial) as stream:
                stream.write(data)
            if local:
                _sync(partial)
                filesystem.move(partial, path)
        except OSError as error:
            if local:
                with contextlib.suppress(OSError):
                    Path(partial).unlink()
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise RunError(
                f"cannot write {name} in {self.address}: {reason}. What was committed before is kept."
            ) from error

    def write_table(self, folder: str, name: str, table: pa.Table) -> None:
        """Commits one Parquet file, `folder/name.parquet`."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self._publish(f"{folder}/{name}.parquet", sink.getvalue())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file that is neither a table nor JSON, as a journal."""
        self._publish(name, data)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self._publish(name, json.dumps(value, indent=2, sort_keys=True).encode())

    def commit(self, tile_id: str, cells: pa.Table, curves: pa.Table | None) -> None:
        """Commits a tile: curves first, so that a row in `cells/` always has its curve."""
        if curves is not None and curves.num_rows:
            self.write_table("curves", tile_id, curves)
        self.write_table("cells", tile_id, cells)

    def read_study(self) -> dict[str, Any]:
        """`study.json`.

        Raises:
            UsageError: there is none, it is not ours, or its schema is another version's.
        """
        filesystem, root = self._place
        try:
            with filesystem.open_input_stream(posixpath.join(root, "study.json")) as stream:
                study = json.loads(stream.read())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(f"{self.address} is not a results folder: it has no study.json.") from error
        except OSError as error:
            raise UsageError(f"{self.address} cannot be read: {error}.") from error
        except ValueError as error:
            raise UsageError(f"{self.address}/study.json is not valid JSON: {error}.") from error
        version = study.get("schema_version") if isinstance(study, dict) else None
        if version != SCHEMA_VERSION:
            raise UsageError(
                f"{self.address} was written with results schema {version}, this version reads "
                f"{SCHEMA_VERSION}: use the version that wrote it, or another --out."
            )
        return study

    def files(self, folder: str) -> list[str]:
        """Parquet files of a folder, in name order; a missing folder has none."""
        filesystem, root = self._place
        selector = pafs.FileSelector(posixpath.join(root, folder), allow_not_found=True)
        found = [i.path for i in filesystem.get_file_info(selector) if i.type == pafs.FileType.File]
        return sorted(path for path in found if path.endswith(".parquet"))

    def read_part(self, folder: str, name: str, columns: list[str] | None = None) -> pa.Table | None:
        """One committed file; None where there is none that can be read."""
        filesystem, root = self._place
        try:
            return _read_file(filesystem, posixpath.join(root, folder, f"{name}.parquet"), columns, folder)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, KeyError, ValueError):
            return None

    def read(
        self, folder: str, columns: list[str] | None = None, keys: Sequence[str] | None = None
    ) -> tuple[pa.Table, list[str]]:
        """Rows of a folder, one per cell, and a sentence for each file that was left out.

        A truncated or foreign file costs its own rows only.

        Args:
            folder: of `SCHEMAS`.
            columns: which; all by default.
            keys: of the rows that are wanted, as ids of cells; all by default. `columns` must hold the key.
        """
        for _ in range(READS - 1):
            try:
                return self._read(folder, columns, keys, gone_is_an_error=True)
            except FileNotFoundError:
                continue  # merged with others between listing and reading: what it became is there now
        return self._read(folder, columns, keys, gone_is_an_error=False)

    def _read(
        self, folder: str, columns: list[str] | None, keys: Sequence[str] | None, gone_is_an_error: bool
    ) -> tuple[pa.Table, list[str]]:
        filesystem, _ = self._place
        wanted = None if keys is None else pa.array(keys, pa.string())
        schema = SCHEMAS[folder]
        if columns is not None:
            schema = pa.schema([schema.field(c) for c in columns], metadata=schema.metadata)
        tables, problems = [], []

        def rows_of(path: str) -> pa.Table | Exception:
            try:
                table = _read_file(filesystem, path, columns, folder)
                if wanted is None:
                    return table
                # File by file, so that what is not wanted is never held together.
                key = table.column(ROW_KEYS[folder])
                return table.filter(pc.call_function("is_in", [key], pc.SetLookupOptions(wanted)))
            except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, KeyError, ValueError) as error:
                return error

        paths = self.files(folder)
        with ThreadPoolExecutor() as readers:
            for path, found in zip(paths, readers.map(rows_of, paths), strict=True):
                if isinstance(found, pa.Table):
                    tables.append(found)
                    continue
                if isinstance(found, FileNotFoundError) and gone_is_an_error:
                    raise found
                reason = str(found).splitlines()[0].rstrip(".")
                problems.append(f"{folder}/{posixpath.basename(path)} was left out: {reason}.")
        if not tables:
            return schema.empty_table(), problems
        table = pa.concat_tables(tables, promote_options="default")
        key = ROW_KEYS.get(folder)
        return (table if key is None else first_of_each(table, key)), problems


def _sync(path: str) -> None:
    """A rename is only as durable as the bytes behind it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_file(filesystem: pafs.FileSystem, path: str, columns: list[str] | None, folder: str) -> pa.Table:
    # One thread each: many small files, whose reading is dominated by opening them.
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        schema = file.schema_arrow  # made anew at every look
        found = (schema.metadata or {}).get(_VERSION_KEY)
        if found is None:
            raise ValueError("not written by OptGrid")
        if found != _METADATA[_VERSION_KEY]:
            raise ValueError(f"results schema {found.decode()}, expected {SCHEMA_VERSION}")
        expected = SCHEMAS[folder]
        names = set(schema.names)
        missing = [n for n in expected.names if n not in names]
        if not set(missing) <= ADDED.get(folder, frozenset()):
            raise ValueError(f"lacks the columns {', '.join(missing)}")
        there = [n for n in columns or schema.names if n not in missing]
        table = file.read(columns=there, use_threads=False)
        for name in missing:
            if columns is None or name in columns:
                table = table.append_column(
                    expected.field(name), pa.nulls(len(table), expected.field(name).type)
                )
        return table.select(columns or expected.names) if missing else table


def first_of_each(table: pa.Table, key: str) -> pa.Table:
    """One row per key: a cell that two overlapping tiles ran is the same row twice."""
    column = table.column(key)
    if len(column.unique()) == len(column):
        return table
    seen: set[str] = set()
    keep = []
    for i, value in enumerate(column.to_pylist()):
        if value not in seen:
            seen.add(value)
            keep.append(i)
    return table.take(keep)
