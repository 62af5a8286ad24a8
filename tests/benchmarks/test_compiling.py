"""Compiling is measured in new processes, in turns."""

from __future__ import annotations

from benchmarks import compiling
from benchmarks.sides import Cold
from benchmarks.works import WORKS


def test_sides_and_works_take_turns_in_processes_of_their_own(monkeypatch):
    calls: list[tuple[str, int, str]] = []
    processes: dict[str, int] = {}

    class Recorded:
        def __init__(self, name: str):
            self.name, self.number = name, processes.get(name, 0)
            processes[name] = self.number + 1

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

        def __call__(self, method, *arguments):
            if method == "start":
                assert not [c for c in calls if c[:2] == (self.name, self.number)]  # before all else
                return None
            work, given, variant = arguments
            assert method == "cold" and given == f"inputs of {work.key}" and variant == f"way of {work.key}"
            calls.append((self.name, self.number, work.key))
            return Cold(len(calls), -len(calls))

    monkeypatch.setattr(compiling, "Remote", Recorded)
    works = list(WORKS[:3])
    inputs = {work.key: f"inputs of {work.key}" for work in works}
    variants = {work.key: f"way of {work.key}" for work in works}
    found = compiling.measure(works, inputs, variants, 2)  # type: ignore[arg-type]

    assert processes == {"optgrid": 2, "jax": 2}
    assert len(found) == len(calls) == 2 * 2 * 3
    assert found["seconds"].tolist() == (-found["run_seconds"]).tolist() == [i + 1 for i in range(12)]
    assert found.groupby(["work", "side"])["repeat"].apply(list).tolist() == [[0, 1]] * 6
    assert calls[0][2] != calls[6][2]  # another work begins
    begins = [calls[i][0] for i in range(0, 12, 2)]
    assert begins.count("optgrid") == begins.count("jax") == 3
