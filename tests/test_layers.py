"""Who may import whom: low never imports high, and what must start fast imports no TensorFlow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"tensorflow", "keras", "ray", "jax", "optax"}
# From low to high; a module may import its own layer and lower ones.
LAYERS = [
    {"types", "sentences", "values", "rates", "source", "importing"},
    {"catalog", "expressions", "spec", "specfields", "studyfile", "grid", "records", "metrics", "studies"},
    {"compaction", "tokens"},
    {
        "lanes",
        "tiling",
        "rows",
        "aggregates",
        "runtime",
        "kernels",
        "nodes",
        "tracing",
        "bridge",
        "static",
        "kinds",
    },
    {"claims", "lift", "convolutions", "graphs", "strategies", "feasibility", "figures"},
    {"products", "convolved", "draws", "kept", "pools"},
    {"contractions"},
    {"lanes_last", "tiles"},
    {"halves"},
    {"segments", "starts", "evaluation", "means", "checks"},
    {"lanemaths", "bookkeeping", "calls"},
    {"seating"},
    {"program", "report", "planning"},
    {"tilerun", "batchsplit", "results"},
    {"worker"},
    {"executors"},
    {"study", "cluster"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Modules that must stay fast: nothing heavy, directly or through what they import at their top.
LIGHT = ["cli", "spec", "catalog", "grid", "records", "results", "metrics", "aggregates", "claims", "report"]


def files(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py"))


def imported(path: Path, *, top_level: bool = False) -> set[str]:
    """Dotted names that a file imports; `top_level`: only those that run when it is imported."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            found |= {f"{stem}.{alias.name}" for alias in node.names} | {stem}
    return found


@pytest.mark.parametrize("path", files("optimizers") + files("workloads"), ids=lambda p: p.name)
def test_rules_and_losses_import_their_own_package_only(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        top = name.split(".")[0]
        assert top not in {"harness", "optimizers", "workloads"} - {own}, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", files("harness"), ids=lambda p: str(p.relative_to(ROOT / "harness")))
def test_low_never_imports_high(path: Path) -> None:
    parts = path.relative_to(ROOT / "harness").with_suffix("").parts
    if parts == ("__init__",):
        return
    assert parts[0] in LEVEL, f"harness/{parts[0]} has no layer: name one in this test"
    for name in imported(path):
        pieces = name.split(".")
        if pieces[0] == "harness" and len(pieces) > 1 and pieces[1] in LEVEL:
            assert LEVEL[pieces[1]] <= LEVEL[parts[0]], f"{'/'.join(parts)} imports {name}"


@pytest.mark.parametrize("module", LIGHT)
def test_what_must_start_fast_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, harness.{module}; print(*({HEAVY!r} & {{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_only_the_store_writes_parquet() -> None:
    writers = [p for p in files("harness") if "write_table(" in p.read_text() and "pq." in p.read_text()]
    assert [p.name for p in writers] == ["records.py"]


def test_only_the_executor_and_the_cluster_import_ray() -> None:
    users = {
        p.relative_to(ROOT / "harness").parts[0]
        for p in files("harness")
        if any(n.split(".")[0] == "ray" for n in imported(p))
    }
    assert users <= {"executors", "cluster"}
