"""`optgrid list`: what can be raced, and on what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..catalog import FAMILIES, ROOT, Entry, Kind, entries, find_any, names
from ..sentences import unknown
from ..types import UsageError
from ._output import print_columns, print_json, shown_path

ORDER = 40
GROUPS: dict[str, Kind] = {
    "optimizers": "optimizer",
    "transforms": "transform",
    "workloads": "workload",
}
STUDIES = "studies"


def register(app: typer.Typer) -> None:
    """Add `optgrid list`."""
    app.command("list")(show)


def show(
    what: Annotated[
        str | None,
        typer.Argument(help="optimizers, transforms, workloads, studies, or the name of one of them."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output.")
    ] = False,
) -> None:
    """List what there is, or one thing in full."""
    if what is None or what in GROUPS or what == STUDIES:
        groups = [*GROUPS, STUDIES] if what is None else [what]
        _groups({group: _group(group) for group in groups}, as_json)
        return
    study = _studies().get(what)
    if study is not None:
        _study(study, as_json)
        return
    known = [each for family in FAMILIES for each in names(family)]
    if ":" not in what and what not in known:
        raise UsageError(unknown("name", what, [*known, *_studies(), *GROUPS, STUDIES]))
    entry = find_any(what)
    if as_json:
        print_json(_record(entry))
    else:
        _entry(entry)


def _group(group: str) -> list[dict[str, Any]]:
    if group == STUDIES:
        return [_studies()[name] for name in _studies()]
    return [_record(entry) for entry in entries(GROUPS[group]).values()]


def _groups(groups: dict[str, list[dict[str, Any]]], as_json: bool) -> None:
    if as_json:
        print_json(groups)
        return
    for place, (group, items) in enumerate((k, v) for k, v in groups.items() if v):
        if len(groups) > 1:
            print(("\n" if place else "") + group)
        print_columns([[item["name"], item["summary"]] for item in items], indent=2 if len(groups) > 1 else 0)


def _record(entry: Entry) -> dict[str, Any]:
    """An entry as JSON."""
    return {
        "name": entry.name,
        "kind": entry.kind,
        "summary": entry.summary,
        "wraps": list(entry.inner),
        "hyperparameters": [
            {"name": f.name, "type": f.annotation, "default": f.default if f.literal else f.text}
            | ({"required": True} if f.required else {})
            for f in entry.fields
        ],
        "learning_rates": entry.constants.get("learning_rates"),
        "target": entry.constants.get("target"),
        "target_metric": entry.constants.get("target_metric"),
        "steps": entry.constants.get("steps"),
        "file": _file(entry),
    }


def _file(entry: Entry) -> str:
    """Where an entry is: from the project's root, or from the current folder."""
    return str(entry.path.relative_to(ROOT)) if entry.builtin else shown_path(entry.path)


def _entry(entry: Entry) -> None:
    """An entry in full."""
    print(f"{entry.name} ({entry.kind}, {_file(entry)})\n")
    print(entry.doc or entry.summary)
    if entry.inner:
        print(f"\nwraps: {', '.join(entry.inner)}")
    if entry.fields:
        print("\nparameters" if entry.kind == "workload" else "\nhyperparameters")
        rows = [
            [f.name, f.annotation, "required" if f.required else repr(f.default) if f.literal else f.text]
            for f in entry.fields
        ]
        print_columns(rows, indent=2)
    rates = entry.constants.get("learning_rates")
    if rates:
        print(f"\nlearning rates by default: {rates[0]:g} to {rates[1]:g}")
    metric = entry.constants.get("target_metric")
    if metric:
        print(f"\nthe target is on: {metric}")


def _studies() -> dict[str, dict[str, Any]]:
    """Built-in studies: name, one line, file."""
    from ..studyfile import builtin_studies, read_study

    return {
        name: {
            "name": name,
            "kind": "study",
            "summary": str(read_study(path).data.get("description") or ""),
            "file": str(path.relative_to(ROOT)),
        }
        for name, path in builtin_studies().items()
    }


def _study(study: dict[str, Any], as_json: bool) -> None:
    """A built-in study in full: its file, to start one's own from."""
    from ..studyfile import builtin_studies

    text = builtin_studies()[study["name"]].read_text(encoding="utf-8")
    if as_json:
        print_json({**study, "text": text})
    else:
        print(f"# {study['file']}\n{text.rstrip()}")
