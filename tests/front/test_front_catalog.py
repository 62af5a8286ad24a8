"""The catalogue: what files say, without importing them; plug-ins; building."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import catalog, source, values
from harness.expressions import parse_optimizer, parse_workload
from harness.types import UsageError

KINDS = ("optimizer", "transform", "workload")


# --- the project's own folders -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_the_folder_is_an_entry(kind):
    root = Path(catalog.__file__).resolve().parents[1].joinpath(*catalog.FOLDERS[kind])
    files = {path.stem for path in root.glob("*.py") if not path.name.startswith("_")}
    assert files
    assert files <= set(catalog.entries(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_can_be_listed_and_made_from_its_source_alone(kind):
    for name, entry in catalog.entries(kind).items():
        assert entry.summary, name
        assert len(entry.summary) <= 110, f"{name}: the first line of its docstring is too long to list"
        assert entry.kind == kind
        assert entry.class_name.lower() == name.replace("_", "")
        for field in entry.fields:
            assert field.literal, f"{name}.{field.name} has a default that cannot be read: {field.text}"
            assert field.required or values.fits(field.default, field.annotation), f"{name}.{field.name}"


def test_optimizers_have_a_default_range_of_at_least_three_decades():
    for name, entry in catalog.entries("optimizer").items():
        low, high = entry.constants["learning_rates"]
        assert 0 < low < high, name
        assert high / low >= 1e3, name


def test_workloads_own_a_target_a_budget_and_a_dtype():
    for name, entry in catalog.entries("workload").items():
        assert isinstance(entry.constants["target"], float), name
        assert entry.constants["steps"] > 0, name
        assert entry.constants["dtype"] == "float32", name
        assert entry.constants["target_metric"] in ("loss", "validation_loss"), name


def test_transforms_wrap_and_optimizers_do_not():
    assert all(entry.inner for entry in catalog.entries("transform").values())
    assert not any(entry.inner for entry in catalog.entries("optimizer").values())


def test_inherited_fields_of_another_file_are_listed():
    entry = catalog.find("workload", "quadratic")
    names = [field.name for field in entry.fields]
    assert {"noise", "start", "target", "steps", "dtype", "dimension", "condition", "rotated"} <= set(names)
    assert entry.constants["target_metric"] == "loss"


def test_reading_the_whole_catalogue_imports_neither_tensorflow_nor_pandas():
    code = (
        "import sys; from harness import catalog; import harness.cli, harness.grid\n"
        "for kind in ('optimizer', 'transform', 'workload'): assert catalog.entries(kind)\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'tensorflow', 'ray', 'pandas', 'pyarrow', 'matplotlib', 'numpy'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(catalog.__file__).parents[1])


# --- plug-ins ------------------------------------------------------------------------------------


def test_a_file_plugin_is_found_read_and_hashed(plugins):
    entry = catalog.find("optimizer", "sign_descent.py:SignDescent", plugins)
    assert entry.kind == "optimizer"
    assert entry.name == "sign_descent.py:SignDescent"
    assert entry.summary == "Sign descent: a step of one size against the gradient's sign."
    assert [(f.name, f.default) for f in entry.fields] == [
        ("scale", 1),
        ("decay", 0.0),
        ("sizes", (2, 3)),
        ("mode", None),
    ]
    assert entry.constants["learning_rates"] == (1e-3, 1.0)
    assert not entry.builtin
    assert len(catalog.code_hash(entry)) == 64
    assert catalog.code_hash(catalog.find("optimizer", "adam")) == ""


def test_the_name_of_a_file_plugin_does_not_depend_on_how_its_path_is_written(plugins, monkeypatch):
    near = catalog.find("optimizer", "sign_descent.py:SignDescent", plugins)
    monkeypatch.chdir(plugins.parent)
    far = catalog.find("optimizer", "./plugins/../plugins/sign_descent.py:SignDescent")
    assert (near.name, near.path) == (far.name, far.path)


def test_a_workload_inherits_a_neighbours_fields_in_dataclass_order(plugins):
    import dataclasses

    entry = catalog.find("workload", "sign_descent.py:Dish", plugins)
    made = catalog.load(entry)
    assert [f.name for f in entry.fields] == [f.name for f in dataclasses.fields(made) if f.init]
    by_name = {f.name: f for f in entry.fields}
    assert by_name["steps"].default == 20
    assert by_name["dimension"].default == 3
    assert not by_name["angle"].literal
    assert by_name["angle"].text == "math.pi / 4"
    assert not by_name["names"].literal
    assert "cached" not in by_name
    assert entry.constants["optimum"] == 0.0


def test_a_default_that_is_no_literal_is_left_to_the_class(plugins):
    (dish,) = parse_workload("sign_descent.py:Dish", plugins)
    assert "angle" not in dish.params
    assert catalog.build_workload(dish).angle == pytest.approx(0.7853981634)
    (given,) = parse_workload("sign_descent.py:Dish(angle=1)", plugins)
    assert given.label == "sign_descent.py:Dish(angle=1.0)"
    assert catalog.build_workload(given).angle == 1.0


def test_a_transform_is_known_by_its_optimizer_field(plugins):
    entry = catalog.find("optimizer", "sign_descent.py:Halved", plugins)
    assert entry.kind == "transform"
    assert entry.inner == ("inner",)
    assert [f.name for f in entry.fields if f.required] == ["at"]


def test_a_module_is_found_without_importing_it(plugins, monkeypatch):
    monkeypatch.syspath_prepend(plugins)
    sys.modules.pop("sign_descent", None)
    entry = catalog.find("optimizer", "sign_descent:SignDescent")
    assert "sign_descent" not in sys.modules
    assert entry.module == "sign_descent"
    assert catalog.load(entry).__name__ == "SignDescent"
    del sys.modules["sign_descent"]


def test_a_module_of_the_current_folder_is_found_too(in_plugins):
    entry = catalog.find("optimizer", "sign_descent:SignDescent")
    assert catalog.load(entry).__module__ == "sign_descent"
    assert str(in_plugins) not in sys.path
    del sys.modules["sign_descent"]


def test_an_entry_point_is_part_of_the_catalogue(plugins, monkeypatch):
    monkeypatch.syspath_prepend(plugins)
    monkeypatch.setattr(
        catalog,
        "_plugin_names",
        lambda family: {"dish" if family == "workload" else "signed": "sign_descent:SignDescent"},
    )
    entry = catalog.find("optimizer", "signed")
    assert (entry.name, entry.module, entry.builtin) == ("signed", "sign_descent", False)
    assert "signed" in catalog.entries("optimizer")
    assert "signed" not in catalog.entries("transform")


def test_a_plugins_folder_is_importable_only_while_it_loads(plugins):
    before = list(sys.path)
    catalog.load(catalog.find("optimizer", "sign_descent.py:SignDescent", plugins))
    assert sys.path == before


def test_an_edited_plugin_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # as users have it
    text = (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    size: float = {}\n"
        "    def init(self, params): ...\n    def update(self, *args): ...\n"
        "    def eval_params(self, *args): ...\n"
    )
    file = tmp_path / "mine.py"
    hashes = []
    for moment, size in enumerate(("1.0", "2.5")):
        file.write_text(text.format(size))
        written = 10**18 + moment  # within one second, by which bytecode is known
        os.utime(file, ns=(written, written))
        entry = catalog.find("optimizer", "mine.py:Mine", tmp_path)
        hashes.append(catalog.code_hash(entry))
        assert entry.fields[0].default == float(size)
        assert catalog.load(entry)().size == float(size)
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adm", ["unknown optimizer 'adm'", "did you mean 'adam'"]),
        ("zzz", ["unknown optimizer 'zzz'", "known are", "more"]),
        ("rosenbrock", ["'rosenbrock' is a workload, not an optimizer"]),
        ("nowhere.py:Adam", ["there is no file 'nowhere.py'"]),
        ("no_such_package.module:Adam", ["there is no module 'no_such_package.module'"]),
        ("sign_descent.py", ["names no class", "sign_descent.py:ClassName"]),
        ("sign_descent.py:SignDescnt", ["unknown class 'SignDescnt'", "'SignDescent'"]),
        ("sign_descent.py:NotAnOptimizer", ["is not an optimizer", "'init', 'update' and 'eval_params'"]),
        ("sign_descent.py:Dish", ["is not an optimizer", "'update' and 'eval_params'"]),
    ],
)
def test_what_cannot_be_found_is_one_sentence(name, words, plugins):
    with pytest.raises(UsageError) as error:
        catalog.find("optimizer", name, plugins)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_python_is_one_sentence(tmp_path):
    (tmp_path / "bad.py").write_text("class Mine:\n    def init(self:\n")
    with pytest.raises(UsageError, match=r"bad\.py' is not valid Python: line 2"):
        catalog.find("optimizer", "bad.py:Mine", tmp_path)
    (tmp_path / "null.py").write_bytes(b"class Mine:\n\x00\xff")
    with pytest.raises(UsageError, match=r"null\.py' is not a Python file"):
        catalog.find("optimizer", "null.py:Mine", tmp_path)


def test_a_file_that_cannot_be_imported_can_be_listed_and_says_why_when_loaded(plugins):
    entry = catalog.find("optimizer", "unruly.py:Unimportable", plugins)
    assert entry.fields[0].default == -1e-3
    with pytest.raises(UsageError, match="ModuleNotFoundError: No module named 'unruly_base'") as error:
        catalog.load(entry)
    assert "\n" not in str(error.value)


def test_circular_bases_end(tmp_path):
    (tmp_path / "ring.py").write_text("class A(B): ...\nclass B(A):\n    size: int = 1\n")
    found = source.read_class(tmp_path / "ring.py", "A")
    assert found is not None
    assert list(found.fields) == ["size"]


# --- building ------------------------------------------------------------------------------------


def test_traced_values_go_where_they_belong(plugins):
    (component,) = parse_optimizer(
        "sign_descent.py:Halved(sign_descent.py:SignDescent(scale=3, decay=0.25), at=7, factor=0.75)", plugins
    )
    assert component.traced() == (0.75, 3.0, 0.25)
    made = catalog.build_optimizer(component)
    assert (made.factor, made.at, made.inner.scale, made.inner.decay) == (0.75, 7, 3.0, 0.25)
    tensors = [object(), object(), object()]
    lifted = catalog.build_optimizer(component, tensors)
    assert [lifted.factor, lifted.inner.scale, lifted.inner.decay] == tensors
    with pytest.raises(UsageError, match="takes 3 traced values, not 2"):
        catalog.build_optimizer(component, tensors[:2])


def test_lists_from_json_become_tuples_again(plugins):
    import json
    from dataclasses import replace

    (component,) = parse_optimizer("sign_descent.py:SignDescent(sizes=(4, 5))", plugins)
    back = replace(component, params=json.loads(json.dumps(dict(component.params))))
    assert catalog.build_optimizer(back) == catalog.build_optimizer(component)
    assert catalog.build_optimizer(back).sizes == (4, 5)


def test_a_workload_is_built_in_the_dtype_that_is_asked_for(plugins):
    (dish,) = parse_workload("sign_descent.py:Dish(dimension=4)", plugins)
    assert catalog.build_workload(dish).dtype == "float32"
    assert catalog.build_workload(dish, "float64").dtype == "float64"
    assert catalog.build_workload(dish).dimension == 4


def test_a_class_that_refuses_its_values_is_one_sentence(tmp_path):
    (tmp_path / "picky.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Picky:\n    size: int = 1\n"
        "    def __post_init__(self):\n        if self.size > 1: raise ValueError('size is 1 at most')\n"
        "    def init(self, params): ...\n    def update(self, *args): ...\n"
        "    def eval_params(self, *args): ...\n"
    )
    (component,) = parse_optimizer("picky.py:Picky(size=2)", tmp_path)
    with pytest.raises(UsageError, match=r"cannot make 'picky.py:Picky\(size=2\)': size is 1 at most"):
        catalog.build_optimizer(component)
