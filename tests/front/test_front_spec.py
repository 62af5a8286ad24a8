"""Study files: every field, and for everything that can be wrong one sentence with file and line."""

import pickle
import textwrap

import pytest

from harness.spec import StudySpec, build_study, load_study, study_of_flags, study_schema
from harness.specfields import SpecError
from harness.types import UsageError

MINIMAL = {"workloads": ["rosenbrock"], "optimizers": ["adam"]}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a study file `s.yaml` in the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "s.yaml").write_text(textwrap.dedent(text))
        return "s.yaml"

    return write


FULL = """\
name: mine
description: All fields at once.
workloads:
  - rosenbrock(dimension=4)
  - quadratic: {dimension: 5, condition: [10, 1000]}
optimizers:
  - adam
  - momentum: {momentum: [0.5, 0.9], nesterov: true}
  - cosine(gradient_descent)
learning_rates:
  adam: [1e-3, 1e-2]
  momentum: {low: 1e-4, high: 1e-1, points_per_decade: 1}
seeds: [3, 5, 8]
steps:
  rosenbrock: 1e3
target:
  quadratic(dimension=5, condition=10): 0.5
stop: target
dtype: float64
strategy:
  name: mirrored
  devices: [CPU:0, CPU:1]
  split: batch
out: somewhere/else
workers: 2
record: {points: 20, stability: false}
lanes: 64
"""


def test_every_field_is_read(written):
    spec = load_study(written(FULL))
    assert [w.label for w in spec.workloads] == [
        "rosenbrock(dimension=4)",
        "quadratic(dimension=5, condition=10.0)",
        "quadratic(dimension=5, condition=1000.0)",
    ]
    adam, half, plain, cosine = spec.optimizers
    assert [half.label, plain.label] == ["momentum(momentum=0.5, nesterov=True)", "momentum(nesterov=True)"]
    assert spec.rates_of(adam) == (1e-3, 1e-2)
    assert spec.rates_of(half) == spec.rates_of(plain) == (1e-4, 1e-3, 1e-2, 1e-1)
    assert len(spec.rates_of(cosine)) == 11  # gradient descent's own five decades, two points in each
    rosenbrock, easy, hard = spec.workloads
    assert spec.budget(rosenbrock) == 1000
    assert spec.budget(easy) == 500
    assert (spec.target_of(easy), spec.target_of(hard)) == (0.5, 1e-3)
    assert spec.dtype_of(easy) == "float64"
    assert spec.seeds == (3, 5, 8)
    assert (spec.stop, spec.workers, spec.lanes, spec.folder) == ("target", 2, 64, "somewhere/else")
    assert (spec.strategy.name, spec.strategy.split) == ("mirrored", "batch")
    assert spec.strategy.devices == ("CPU:0", "CPU:1")
    assert spec.record.model_dump() == {"points": 20, "stability": False, "curves": True}


def test_what_is_left_out_is_the_workloads_and_the_optimizers_own(written):
    spec = load_study(written("workloads: [beale]\noptimizers: [adam]\n"))
    (beale,), (adam,) = spec.workloads, spec.optimizers
    assert spec.name == "s"
    assert spec.folder == "results/s"
    assert (spec.budget(beale), spec.target_of(beale), spec.dtype_of(beale)) == (1000, 1e-3, "float32")
    assert spec.rates_of(adam)[0] == 1e-5
    assert spec.rates_of(adam)[-1] == 1.0
    assert len(spec.rates_of(adam)) == 11
    assert spec.seeds == tuple(range(10))
    assert spec.stop == "budget"
    assert spec.strategy.name == "default"
    assert spec.record.curves


def test_a_workloads_own_parameters_hold_where_the_study_says_nothing():
    spec = build_study(
        {"workloads": ["rosenbrock(steps=77, target=0.5, dtype=float64)"], "optimizers": "adam"}
    )
    (workload,) = spec.workloads
    assert (spec.budget(workload), spec.target_of(workload), spec.dtype_of(workload)) == (77, 0.5, "float64")
    over = build_study({**MINIMAL, "workloads": ["rosenbrock(steps=77)"], "steps": 5})
    assert over.budget(over.workloads[0]) == 5


def test_a_label_is_more_exact_than_a_name():
    spec = build_study(
        {
            "workloads": ["rosenbrock", "rosenbrock(dimension=3)", "rosenbrock(dimension=4)"],
            "optimizers": ["adam(beta_1=0.8)", "adam", "adam(beta_1=0.7)"],
            "learning_rates": {"adam": [0.1], "adam( beta_1 = 0.80 )": [0.2]},
            "steps": {"rosenbrock(dimension=3)": 3, "rosenbrock": 2},
        }
    )
    assert [spec.rates_of(o) for o in spec.optimizers] == [(0.2,), (0.1,), (0.1,)]
    assert [spec.budget(w) for w in spec.workloads] == [2, 3, 2]


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (3, (0, 1, 2)),
        (3.0, (0, 1, 2)),
        ([4], (4,)),
        ((5, 2), (5, 2)),
        ("2", (0, 1)),
        ("7,1", (7, 1)),
        ("7,", (7,)),
    ],
)
def test_seeds_are_a_count_or_a_list(seeds, expected):
    assert build_study({**MINIMAL, "seeds": seeds}).seeds == expected


def test_numbers_are_read_as_yaml_1_2_reads_them(written):
    text = "workloads: [rosenbrock]\noptimizers: [adam]\nlearning_rates: 1:10:3\nsteps: 2_000\ntarget: 1e-4\n"
    spec = load_study(written(text))
    assert spec.learning_rates == (1.0, 3.16227766017, 10.0)
    assert spec.steps == 2000
    assert spec.target == 1e-4


def test_anchors_and_merges_work(written):
    text = """\
    workloads: [rosenbrock]
    optimizers:
      - momentum: &m {momentum: 0.5}
      - momentum: {<<: *m, nesterov: true}
    """
    assert [o.label for o in load_study(written(text)).optimizers] == [
        "momentum(momentum=0.5)",
        "momentum(momentum=0.5, nesterov=True)",
    ]


def test_plugin_files_are_looked_up_beside_the_study_and_flags_from_here(plugins, tmp_path, monkeypatch):
    study = tmp_path / "deep" / "s.yaml"
    study.parent.mkdir()
    for name in ("sign_descent.py", "neighbour.py"):
        (study.parent / name).write_text((plugins / name).read_text())
    study.write_text("workloads: [sign_descent.py:Dish]\noptimizers: [adam]\n")
    monkeypatch.chdir(plugins)
    spec = load_study(study, {"optimizers": ["sign_descent.py:SignDescent"]})
    assert spec.workloads[0].source == str(study.parent / "sign_descent.py")
    assert spec.optimizers[0].source == str(plugins / "sign_descent.py")


def test_resolved_is_json_and_gives_the_same_study(written):
    import json

    from harness.grid import cells

    spec = load_study(written(FULL))
    again = StudySpec(**json.loads(json.dumps(spec.resolved())))
    assert [c.cell_id for c in cells(again)] == [c.cell_id for c in cells(spec)]
    assert again.resolved() == spec.resolved()
    assert pickle.loads(pickle.dumps(spec)) == spec


# --- what is wrong, and where --------------------------------------------------------------------

BAD = [
    ("", "s.yaml: a study file holds 'key: value' lines"),
    ("- a\n", "s.yaml: a study file holds 'key: value' lines"),
    ("workloads: [rosenbrock\noptimizers: [adam]\n", "s.yaml, line 2: this is not valid YAML"),
    ("workloads: [a]\n---\nworkloads: [b]\n", "s.yaml, line 2: this is not valid YAML"),
    ("workloads: [rosenbrock]\nx: \x01\n", "s.yaml: this is not valid YAML"),
    ("seeds: 3\noptimizers: [adam]\nseeds: 4\n", "s.yaml, line 3: 'seeds' stands here and in line 1"),
    (
        "optimizers:\n  - adam:\n      beta_1: 1\n      beta_1: 2\n",
        "s.yaml, line 4: 'beta_1' stands here and",
    ),
    ("workloads: &a [*a]\n", "s.yaml, line 1: this refers to itself"),
    ("workloads: [rosenbrock]\n", "s.yaml, line 1: 'optimizers' is missing"),
    (
        "workloads: [rosenbrock]\noptimizer: [adam]\n",
        "s.yaml, line 2: unknown key 'optimizer': did you mean 'optimizers'?",
    ),
    (
        "workloads: []\noptimizers: [adam]\n",
        "s.yaml, line 1: 'workloads' is empty: name at least one workload",
    ),
    ("workloads:\noptimizers: [adam]\n", "s.yaml, line 1: 'workloads' must be a list of workloads, not None"),
    ("OK\nsteps: 5\nsed: 3\n", "s.yaml, line 4: unknown key 'sed': did you mean 'seeds'?"),
    ("OK\n3: 3\n", "s.yaml, line 1: a key must be text, not 3"),
    (
        "workloads:\n  - rosenbrock\n  - beal\noptimizers: [adam]\n",
        "line 3: unknown workload 'beal': did you mean",
    ),
    (
        "workloads: [rosenbrock]\noptimizers:\n\n  - adam\n  - adm\n",
        "line 5: unknown optimizer 'adm': did you mean",
    ),
    ("workloads: [rosenbrock]\noptimizers:\n  adam:\n  lino:\n", "s.yaml, line 4: unknown optimizer 'lino'"),
    (
        "workloads: [rosenbrock]\noptimizers: [adam, 3]\n",
        "line 2: an optimizer is a name or name(hyperparameter=",
    ),
    ("workloads: [rosenbrock]\noptimizers: [adam, adam()]\n", "line 2: the optimizer 'adam' is given twice"),
    (
        "workloads: [rosenbrock]\noptimizers:\n - adam: {beta_1: [0.8, 0.8]}\n",
        "line 3: the optimizer 'adam(beta_1=0.8)' is given twice",
    ),
    (
        "workloads: [rosenbrock]\noptimizers:\n - momentum: {momentm: 1}\n",
        "line 3: unknown hyperparameter of 'momentum' 'momentm': did you mean 'momentum'?",
    ),
    (
        "workloads: [rosenbrock]\noptimizers:\n - adam: {beta_1: high}\n",
        "line 3: 'beta_1' of 'adam' must be a number, not 'high'",
    ),
    (
        "workloads: [rosenbrock]\noptimizers:\n - adam: {beta_1: .nan}\n",
        "line 3: 'beta_1' of 'adam' must be finite, not nan",
    ),
    (
        "workloads:\n - quadratic: {dimension: 2.5}\noptimizers: [adam]\n",
        "line 2: 'dimension' of 'quadratic' must be a whole number, not 2.5",
    ),
    ("OK\nlearning_rates: [0.1, -0.1]\n", "line 3: a learning rate must be finite and above 0, not -0.1"),
    ("OK\nlearning_rates: [0.1, .nan]\n", "line 3: a learning rate must be finite and above 0, not nan"),
    ("OK\nlearning_rates: [0.1, .inf]\n", "line 3: a learning rate must be finite and above 0, not inf"),
    ("OK\nlearning_rates: [0.1, 0]\n", "line 3: a learning rate must be finite and above 0, not 0"),
    ("OK\nlearning_rates: [0.1, nan]\n", "line 3: a learning rate must be finite and above 0, not nan"),
    ("OK\nlearning_rates: []\n", "line 3: no learning rates: give at least one"),
    ("OK\nlearning_rates: {}\n", "line 3: 'learning_rates' is empty"),
    ("OK\nlearning_rates: [0.1, 0.1]\n", "line 3: the learning rate 0.1 is given twice"),
    (
        "OK\nlearning_rates: {low: 1, high: 0.1}\n",
        "line 3: the range is out of order: low 1 is above high 0.1",
    ),
    ("OK\nlearning_rates: {low: 1}\n", "line 3: a range of learning rates needs both low and high"),
    ("OK\nlearning_rates: {low: 1, hi: 2}\n", "line 3: unknown key in a range of learning rates 'hi'"),
    (
        "OK\nlearning_rates:\n  adam: [0.1]\n  momentum: [0.1]\n",
        "line 5: in 'learning_rates': unknown optimizer of this study 'momentum': known are 'adam'",
    ),
    ("OK\nlearning_rates:\n  adam: [-1]\n", "line 4: for 'adam': a learning rate must be finite and above 0"),
    ("OK\nseeds: 0\n", "line 3: 'seeds' must be at least 1 and at most 1,000,000, not 0"),
    ("OK\nseeds: -1\n", "line 3: 'seeds' must be at least 1 and at most 1,000,000, not -1"),
    ("OK\nseeds: []\n", "line 3: 'seeds' is empty"),
    ("OK\nseeds: 2.5\n", "line 3: 'seeds' must be a count or a list of whole numbers, not 2.5"),
    ("OK\nseeds: many\n", "line 3: 'seeds' must be a count or a list as 0,1,2, not 'many'"),
    ("OK\nseeds: true\n", "line 3: 'seeds' must be a count or a list of whole numbers, not True"),
    ("OK\nseeds:\n - 1\n - 2\n - 1\n", "line 6: the seed 1 is given twice"),
    ("OK\nseeds: [1, -2]\n", "line 3: a seed must be a whole number from 0 to 2147483647, not -2"),
    ("OK\nseeds: [1, 0.5]\n", "line 3: a seed must be a whole number from 0 to 2147483647, not 0.5"),
    ("OK\nsteps: 0\n", "line 3: 'steps' must be at least 1, not 0"),
    ("OK\nsteps: many\n", "line 3: 'steps' must be a whole number, not 'many'"),
    (
        "OK\nsteps: {rosenbrok: 3}\n",
        "line 3: in 'steps': unknown workload of this study 'rosenbrok': did you",
    ),
    ("OK\nsteps:\n  rosenbrock: 0\n", "line 4: 'steps' must be at least 1, not 0 (for 'rosenbrock')"),
    ("OK\ntarget: .nan\n", "line 3: 'target' must be finite, not nan"),
    ("OK\ntarget: low\n", "line 3: 'target' must be a number, not 'low'"),
    ("OK\ntarget:\n  rosenbrock: true\n", "line 4: 'target' must be a number, not True"),
    ("OK\nstop: at_target\n", "line 3: unknown stop 'at_target': did you mean 'target'?"),
    ("OK\nstop: 3\n", "line 3: 'stop' must be 'budget' or 'target', not 3"),
    ("OK\ndtype: float23\n", "line 3: unknown dtype 'float23': did you mean 'float32'"),
    ("OK\nstrategy: mirored\n", "line 3: unknown strategy 'mirored': did you mean 'mirrored'"),
    (
        "OK\nstrategy: {name: mirrored, replicsa: 2}\n",
        "line 3: unknown key 'replicsa': did you mean 'replicas'?",
    ),
    ("OK\nstrategy:\n  name: mirrored\n  replicas: 0\n", "line 5: 'replicas' must be at least 1, not 0"),
    ("OK\nstrategy:\n  split: batch\n", "line 3: split: batch needs 'replicas' or 'devices'"),
    ("OK\nstrategy: [mirrored]\n", "line 3: 'strategy' must be a mapping, not ['mirrored']"),
    ("OK\nstrategy: {1: a}\n", "line 3: the keys of 'strategy' must be text"),
    ("OK\nrecord: {points: 1}\n", "line 3: 'points' must be at least 2, not 1"),
    ("OK\nrecord: {curves: 1}\n", "line 3: 'curves' must be true or false, not 1"),
    ("OK\nworkers: 0\n", "line 3: 'workers' must be at least 1, not 0"),
    ("OK\nworkers: true\n", "line 3: 'workers' must be a whole number, not True"),
    ("OK\nlanes: 1.5\n", "line 3: 'lanes' must be a whole number, not 1.5"),
    ("OK\nout: 3\n", "line 3: 'out' must be text, not 3"),
    ("OK\nname: a/b\n", "line 3: 'name' must be letters, digits and . _ + - (it names a folder), not 'a/b'"),
    ("OK\nname: ..\n", "line 3: 'name' must be letters"),
    (
        "workloads: [rosenbrock(dtype=float16)]\noptimizers: [adam]\n",
        "line 1: 'rosenbrock(dtype='float16')': unknown dtype 'float16'",
    ),
]


@pytest.mark.parametrize(
    ("text", "words"), BAD, ids=[f"{i}-{words[-24:]}" for i, (_, words) in enumerate(BAD)]
)
def test_bad_input_is_one_sentence_with_its_line(text, words, written):
    study = written(text.replace("OK\n", "workloads: [rosenbrock]\noptimizers: [adam]\n"))
    with pytest.raises(UsageError) as error:
        load_study(study)
    assert words in str(error.value)
    assert str(error.value).startswith("s.yaml")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_plugin_that_declares_too_little_is_named(plugins):
    with pytest.raises(SpecError, match=r"'unruly.py:Rangeless' declares no range learning_rates"):
        build_study({"workloads": ["beale"], "optimizers": ["unruly.py:Rangeless"]}, plugins)
    with pytest.raises(SpecError, match=r"'unruly.py:Targetless' declares no 'steps': give 'steps'"):
        build_study({"workloads": ["unruly.py:Targetless"], "optimizers": ["adam"]}, plugins)
    spec = build_study(
        {"workloads": ["unruly.py:Targetless"], "optimizers": ["adam"], "steps": 3, "target": 1}, plugins
    )
    assert spec.budget(spec.workloads[0]) == 3


def test_two_files_of_one_name_are_not_mistaken_for_each_other(plugins, tmp_path):
    (tmp_path / "sign_descent.py").write_text((plugins / "sign_descent.py").read_text())
    paths = [f"{folder}/sign_descent.py:SignDescent" for folder in (plugins, tmp_path)]
    with pytest.raises(SpecError, match=r"two different files both give 'sign_descent\.py:SignDescent'"):
        build_study({**MINIMAL, "optimizers": paths})


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("missing.yaml", "there is no study file 'missing.yaml'"),
        ("folder/missing", "there is no study file 'folder/missing'"),
        ("artcle", "unknown study 'artcle'"),
    ],
)
def test_a_study_that_is_not_there(study, words):
    with pytest.raises(UsageError, match=words):
        load_study(study)


def test_a_study_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(UsageError, match="is not a text file in UTF-8"):
        load_study(tmp_path / "latin.yaml")
    with pytest.raises(UsageError, match="there is no study file"):
        load_study(tmp_path)


# --- flags ---------------------------------------------------------------------------------------


def test_flags_replace_fields_and_are_named_in_errors(written):
    study = written(FULL)
    spec = load_study(study, {"seeds": "2", "steps": 9, "learning_rates": "0.1,0.2"})
    assert spec.seeds == (0, 1)
    assert spec.budget(spec.workloads[1]) == 9
    assert spec.rates_of(spec.optimizers[3]) == (0.1, 0.2)
    with pytest.raises(UsageError, match=r"^--lr: the range is out of order"):
        load_study(study, {"learning_rates": "1:0.1:3"})
    with pytest.raises(UsageError, match=r"^--seeds: 'seeds' must be at least 1"):
        load_study(study, {"seeds": "0"})
    with pytest.raises(UsageError, match=r"^--optimizer: unknown optimizer 'adm'"):
        load_study(study, {"optimizers": ["adm"]})
    with pytest.raises(UsageError, match=r"^--target: 'target' must be finite, not nan"):
        study_of_flags({**MINIMAL, "target": float("nan")})
    with pytest.raises(UsageError, match=r"^--workload: unknown workload 'beal'"):
        study_of_flags({**MINIMAL, "workloads": ["beal"]})


def test_flags_that_replace_the_optimizers_leave_the_others_rates_aside(written):
    study = written(FULL)
    spec = load_study(study, {"optimizers": ["momentum", "lion"], "workloads": ["beale"]})
    momentum, lion = spec.optimizers
    assert len(spec.rates_of(momentum)) == 4
    assert len(spec.rates_of(lion)) == 11
    assert spec.budget(spec.workloads[0]) == 1000


# --- the schema ----------------------------------------------------------------------------------


def test_the_schema_names_every_field_with_a_description():
    schema = study_schema()
    assert set(schema["properties"]) == set(StudySpec.model_fields)
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == ["optimizers", "workloads"]
    for name, field in schema["properties"].items():
        assert field.get("description"), name
    assert "adam" in schema["properties"]["optimizers"]["examples"][0]
