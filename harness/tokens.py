"""The secret that a Ray cluster asks for: one token file, readable by its owner only. Imports no Ray."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from harness.types import UsageError

MODE = "RAY_AUTH_MODE"
TOKEN = "RAY_AUTH_TOKEN"
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"


def token_path() -> Path:
    """Where Ray looks for the token: `$RAY_AUTH_TOKEN_PATH`, else `~/.ray/auth_token`."""
    chosen = os.environ.get(TOKEN_PATH)
    return Path(chosen).expanduser() if chosen else Path.home() / ".ray" / "auth_token"


def find_token() -> str | None:
    """The token that this process would use, in Ray's order; None where there is none."""
    given = os.environ.get(TOKEN)
    if given:
        return given
    path = token_path()
    return path.read_text().strip() or None if path.is_file() else None


def ensure_token() -> Path:
    """The token file, made where there is none; others are shut out of it.

    Returns:
        Its path, mode 600.
    """
    path = token_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        # Born with its mode: at no moment can others read it, whatever the umask is.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        shut_out_others(path)
        return path
    with os.fdopen(handle, "w") as stream:
        stream.write(secrets.token_hex(32))
    return path


def shut_out_others(path: Path) -> None:
    """Takes the rights of group and others from a token file (Ray's own tool leaves it readable)."""
    if readable_by_others(path):
        path.chmod(0o600)


def readable_by_others(path: Path) -> bool:
    """Whether anybody but the owner may read or write a file."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def require(insecure: bool, make: bool = False) -> None:
    """Sets this process up to talk to a cluster with a token, before Ray is imported.

    Args:
        insecure: go on without one.
        make: the cluster is ours and begins now: make a token where there is none.
    Raises:
        UsageError: there is no token, or it was switched off, and `insecure` does not allow that.
    """
    mode = os.environ.get(MODE, "").lower()
    if insecure:
        os.environ[MODE] = mode or ("token" if find_token() else "disabled")
        return
    if mode == "disabled":
        raise UsageError(
            f"{MODE}=disabled: without a token, whoever reaches the cluster can run code on it; "
            "unset it, or say --insecure"
        )
    os.environ[MODE] = "token"
    if os.environ.get(TOKEN):
        return
    path = token_path()
    if make:
        ensure_token()
    elif not path.is_file():
        raise UsageError(
            f"there is no token at {path}: 'optgrid cluster token' makes one before the cluster is started; "
            "for one that runs, copy its head's file there (or say --insecure where it asks for none)"
        )
    else:
        shut_out_others(path)
