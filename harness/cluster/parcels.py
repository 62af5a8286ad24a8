"""A results folder as text: how small results leave a head whose only open door is the job API."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
from pathlib import Path

from harness.types import RunError, UsageError

LIMIT_BYTES = 256 * 2**20
BEGIN, END = "-----BEGIN OPTGRID RESULTS-----", "-----END OPTGRID RESULTS-----"
WIDTH = 4096
# Rows and their description: a report is drawn at home, and nothing else belongs in a results folder.
_WANTED = re.compile(r"study\.json|journal\.jsonl|(cells|curves|contours)/[\w.-]+\.parquet")


def pack(folder: Path) -> str:
    """Rows, `study.json` and journal of a results folder as base64, with a checksum.

    Raises:
        UsageError: no results folder, or too much for this way.
    """
    if not (folder / "study.json").is_file():
        raise UsageError(f"{folder} is not a results folder: it has no study.json.")
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    wanted = [p for p in paths if _WANTED.fullmatch(p.relative_to(folder).as_posix())]
    if sum(p.stat().st_size for p in wanted) > LIMIT_BYTES:
        raise UsageError(
            f"the results in {folder} are more than {LIMIT_BYTES // 2**20} MB: copy them with rsync or "
            "'ray rsync-down', or give --out an address that both sides reach, as s3://"
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in wanted:
            archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    data = buffer.getvalue()
    text = base64.b64encode(data).decode()
    lines = [text[i : i + WIDTH] for i in range(0, len(text), WIDTH)]
    return "\n".join([BEGIN, hashlib.sha256(data).hexdigest(), *lines, END])


def unpack(text: str, folder: Path) -> int:
    """Lays the files of `pack`'s text in a folder; anything that is not a results file is refused.

    Returns:
        How many files there were.
    Raises:
        RunError: the text is not whole.
    """
    match = re.search(f"{BEGIN}\n([0-9a-f]{{64}})\n(.*?)\n?{END}", text, re.DOTALL)
    data = base64.b64decode("".join(match.group(2).split())) if match else b""
    if match is None or hashlib.sha256(data).hexdigest() != match.group(1):
        raise RunError("the results did not come over whole: run the same command again")
    count = 0
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is None or not _WANTED.fullmatch(member.name):
                raise RunError(f"the results hold '{member.name}', which is none of a results folder's files")
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".partial")
            partial.write_bytes(stream.read())
            partial.replace(path)
            count += 1
    return count
