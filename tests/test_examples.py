"""The examples pass the contract suite, and the study file is a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Study, catalog
from harness.checks.optimizer import check_optimizer
from harness.checks.workload import check_workload

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.slow
def test_examples_pass_the_contract_suite() -> None:
    optimizer = catalog.load(catalog.find("optimizer", f"{EXAMPLES / 'my_optimizer.py'}:SignMomentum"))()
    workload = catalog.load(catalog.find("workload", f"{EXAMPLES / 'my_workload.py'}:Rayleigh"))()
    results = [*check_optimizer(optimizer), *check_workload(workload)]
    assert len(results) > 20 and [r for r in results if not r.passed] == []


def test_the_study_file_is_a_study() -> None:
    study = Study.load(EXAMPLES / "study.yaml")
    assert {c.workload.name for c in study.grid} >= {"rosenbrock", "my_workload.py:Rayleigh"}
    assert len(study.grid) == 3 * 6 * 11 * 8
