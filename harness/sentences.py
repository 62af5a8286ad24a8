"""Words shared by error messages: near matches, lists, plurals."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def listing(words: Iterable[str], last: str = "or", limit: int = 12) -> str:
    """`'a', 'b' or 'c'`; at most `limit` words, then how many more there are."""
    quoted = [f"'{word}'" for word in words]
    if len(quoted) > limit:
        return ", ".join(quoted[:limit]) + f" and {len(quoted) - limit} more"
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def near_matches(word: str, options: Iterable[str], limit: int = 3) -> list[str]:
    """Options that look like `word`, nearest first: misspelt, or holding it as a part."""
    names = sorted(set(options))
    found = difflib.get_close_matches(word.lower(), names, n=limit, cutoff=0.6)
    part = [name for name in names if len(word) > 2 and word.lower() in name and name not in found]
    return (found + part)[:limit]


def unknown(what: str, word: str, options: Iterable[str]) -> str:
    """`unknown optimizer 'adm': did you mean 'adam'?`, or the whole list where nothing is near."""
    names = sorted(set(options))
    near = near_matches(word, names)
    if near:
        return f"unknown {what} '{word}': did you mean {listing(near)}?"
    if not names:
        return f"unknown {what} '{word}': there are none"
    return f"unknown {what} '{word}': known are {listing(names, 'and')}"


def plural(count: int, noun: str) -> str:
    """`1 cell`, `2,000 cells`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
