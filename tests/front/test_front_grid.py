"""The grid: size, order, identity, resolution."""

import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.grid import cells, plugin_hash
from harness.spec import build_study
from harness.types import UsageError, digest

calm = settings(deadline=None)  # a shared machine may pause for longer than any deadline
MINIMAL = {"workloads": ["rosenbrock"], "optimizers": ["adam"], "learning_rates": [0.1], "seeds": 1}


def ids(**fields):
    return [cell.cell_id for cell in cells(build_study({**MINIMAL, **fields}))]


def test_the_grid_is_the_product_in_the_studys_order():
    spec = build_study(
        {
            "workloads": ["rosenbrock", "beale"],
            "optimizers": ["adam", "momentum"],
            "learning_rates": {"adam": [0.1, 0.2], "momentum": [0.3]},
            "seeds": [7, 3],
        }
    )
    found = [(c.workload.label, c.optimizer.label, c.learning_rate, c.seed) for c in cells(spec)]
    assert found == [
        (workload, optimizer, rate, seed)
        for workload in ("rosenbrock", "beale")
        for optimizer, rate in (("adam", 0.1), ("adam", 0.2), ("momentum", 0.3))
        for seed in (7, 3)
    ]


def test_a_schedule_without_steps_gets_the_budget_of_each_workload():
    spec = build_study(
        {
            **MINIMAL,
            "workloads": ["rosenbrock", "beale"],
            "optimizers": ["cosine(step(adam))"],
            "steps": {"beale": 50},
        }
    )
    rosenbrock, beale = cells(spec)
    assert rosenbrock.optimizer.params["steps"] == rosenbrock.budget == 2000
    assert beale.optimizer.params["steps"] == beale.budget == 50
    assert beale.optimizer.inner[0].params["steps"] == 50
    assert beale.optimizer.label == "cosine(step(adam))"
    assert spec.optimizers[0].params["steps"] is None
    (given_steps,) = cells(build_study({**MINIMAL, "optimizers": ["cosine(adam, steps=7)"]}))
    assert given_steps.optimizer.params["steps"] == 7


def test_two_ways_to_ask_for_one_run_are_one_run():
    assert ids(steps=300) == ids(workloads=["rosenbrock(steps=300)"])
    assert ids(target=0.5) == ids(workloads=["rosenbrock(target=0.5)"])
    assert ids(dtype="float64") == ids(workloads=["rosenbrock(dtype=float64)"])
    assert ids(optimizers=["cosine(adam)"]) == ids(optimizers=["cosine(adam, steps=2000)"])
    assert ids(optimizers=["adam(epsilon=1)"]) == ids(optimizers=["adam(epsilon=1.0)"])
    assert ids(learning_rates=[0.1 + 1e-16]) == ids()
    (cell,) = cells(build_study({**MINIMAL, "steps": 300, "dtype": "float64"}))
    assert cell.workload.params["steps"] == 300
    assert cell.workload.params["dtype"] == cell.dtype == "float64"
    assert cell.workload.label == "rosenbrock"


def test_the_same_run_written_twice_is_an_error():
    for fields in (
        {"workloads": ["rosenbrock", "rosenbrock(steps=9)"], "steps": 9},
        {"optimizers": ["cosine(adam)", "cosine(adam, steps=2000)"]},
    ):
        with pytest.raises(UsageError, match="the same run is in the study twice") as error:
            ids(**fields)
        assert "learning rate 0.1, seed 0" in str(error.value)


def test_what_decides_the_result_decides_the_id():
    base = ids()
    changes = [
        {"workloads": ["beale"]},
        {"workloads": ["rosenbrock(dimension=3)"]},
        {"optimizers": ["lion"]},
        {"optimizers": ["adam(beta_1=0.8)"]},
        {"optimizers": ["adam(amsgrad=True)"]},
        {"optimizers": ["cosine(adam)"]},
        {"learning_rates": [0.2]},
        {"seeds": [1]},
        {"steps": 3},
        {"target": 3.0},
        {"stop": "target"},
        {"dtype": "float64"},
        {"strategy": {"name": "mirrored", "split": "batch", "replicas": 2}},
        {"strategy": {"name": "mirrored", "split": "batch", "replicas": 4}},
    ]
    found = [tuple(ids(**change)) for change in changes]
    assert len({tuple(base), *found}) == len(changes) + 1


def test_what_does_not_decide_the_result_does_not():
    for change in (
        {"name": "other"},
        {"out": "elsewhere"},
        {"workers": 3},
        {"lanes": 64},
        {"record": {"points": 5}},
        {"strategy": "mirrored"},
        {"strategy": {"name": "mirrored", "devices": ["GPU:0"]}},
        {"description": "x"},
    ):
        assert ids(**change) == ids(), change


def test_a_plugins_file_is_part_of_the_identity(plugins, tmp_path):
    for name in ("sign_descent.py", "neighbour.py"):
        (tmp_path / name).write_text((plugins / name).read_text())
    fields = {**MINIMAL, "optimizers": ["clip_by_value(sign_descent.py:SignDescent)"]}
    (one,) = cells(build_study(fields, plugins))
    (copy,) = cells(build_study(fields, tmp_path))
    assert one.code == plugin_hash(one.workload, one.optimizer)
    assert len(one.code) == 64
    assert one.cell_id == copy.cell_id
    with (tmp_path / "sign_descent.py").open("a") as file:
        file.write("# changed\n")
    (changed,) = cells(build_study(fields, tmp_path))
    assert changed.cell_id != one.cell_id
    assert cells(build_study(MINIMAL))[0].code == ""


FIELDS = st.fixed_dictionaries(
    {
        "workloads": st.lists(st.sampled_from(["rosenbrock", "beale", "quartic"]), min_size=1, unique=True),
        "optimizers": st.lists(
            st.sampled_from(["adam", "lion", "momentum(momentum=0.5)", "cosine(adam)", "switch(adam, lion)"]),
            min_size=1,
            unique=True,
        ),
        "learning_rates": st.lists(
            st.integers(1, 10**6).map(lambda i: i * 1e-6), min_size=1, max_size=4, unique=True
        ),
        "seeds": st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4, unique=True),
    }
)


@calm
@given(FIELDS)
def test_the_grid_has_every_combination_once(fields):
    found = cells(build_study(fields))
    sizes = [len(fields[key]) for key in ("workloads", "optimizers", "learning_rates", "seeds")]
    assert len(found) == sizes[0] * sizes[1] * sizes[2] * sizes[3]
    assert len({cell.cell_id for cell in found}) == len(found)


@calm
@given(FIELDS, st.randoms())
def test_ids_ignore_every_order(fields, random):
    shuffled = {key: random.sample(value, len(value)) for key, value in fields.items()}
    keys = random.sample(sorted(shuffled), len(shuffled))
    again = build_study({key: shuffled[key] for key in keys})
    assert {c.cell_id for c in cells(again)} == {c.cell_id for c in cells(build_study(fields))}


@calm
@given(FIELDS)
def test_a_resolved_study_has_the_same_cells(fields):
    spec = build_study(fields)
    assert cells(build_study(spec.resolved())) == cells(spec)


@calm
@given(FIELDS)
def test_cells_of_one_program_differ_only_in_rate_and_seed(fields):
    programs = {}
    for cell in cells(build_study(fields)):
        key = str(cell.program_identity())
        programs.setdefault(key, set()).add((cell.workload.label, cell.optimizer.label))
    assert all(len(pairs) == 1 for pairs in programs.values())


@calm
@given(
    rates=st.lists(st.floats(min_value=1e-12, max_value=1e6), min_size=1, max_size=4),
    seeds=st.lists(st.integers(min_value=0, max_value=2**31 - 1), min_size=1, max_size=4),
    split=st.sampled_from(["lanes", "batch"]),
)
def test_siblings_are_the_cells_that_are_made_one_by_one(rates, seeds, split):
    (first,) = cells(build_study({**MINIMAL, "optimizers": ["clip_by_global_norm(adam)"]}))
    first = replace(first, split=split, replicas=3)
    made = [replace(first, learning_rate=rate, seed=seed) for rate in rates for seed in seeds]
    found = list(first.siblings(rates, seeds))
    assert found == made
    assert [cell.cell_id for cell in found] == [digest(cell.identity()) for cell in made]
    assert pickle.loads(pickle.dumps(found)) == made
