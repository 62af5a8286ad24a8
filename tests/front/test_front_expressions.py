"""Expressions and hyperparameter values: read, expanded, checked, written back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import catalog, expressions, values
from harness.expressions import parse_optimizer, parse_workload
from harness.source import Field
from harness.types import UsageError

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(alphabet="ab Z_=(),.:'\"\\[]é\n", max_size=8)
ENTRIES = {kind: catalog.entries(kind) for kind in ("optimizer", "transform", "workload")}
calm = settings(deadline=None)  # a shared machine may pause for longer than any deadline


def labels(text, base=None):
    return [component.label for component in parse_optimizer(text, base)]


# --- reading -------------------------------------------------------------------------------------


def test_a_label_holds_only_what_differs_from_the_defaults():
    assert labels("adam") == ["adam"]
    assert labels("adam()") == ["adam"]
    assert labels("adam(beta_1=0.9, amsgrad=False)") == ["adam"]
    assert labels("momentum( nesterov=true,momentum = 5e-1 )") == ["momentum(momentum=0.5, nesterov=True)"]
    assert labels("adam(epsilon=1)") == ["adam(epsilon=1.0)"]


def test_params_hold_every_hyperparameter():
    (adam,) = parse_optimizer("adam(beta_1=0.8)")
    assert adam.params == {"beta_1": 0.8, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}
    assert adam.tuned == ("beta_1", "beta_2", "epsilon")
    (quadratic,) = parse_workload("quadratic(dimension=3)")
    assert quadratic.tuned == ()
    assert quadratic.params["dimension"] == 3
    assert quadratic.params["target"] == pytest.approx(
        catalog.find("workload", "quadratic").constants["target"]
    )


def test_lists_expand_to_their_product_the_last_fastest():
    assert labels("adam(beta_1=[0.8, 0.9], amsgrad=[False, True])") == [
        "adam(beta_1=0.8)",
        "adam(beta_1=0.8, amsgrad=True)",
        "adam",
        "adam(amsgrad=True)",
    ]


def test_wrapped_optimizers_expand_too_and_compose():
    assert labels("clip_by_global_norm(cosine(momentum(momentum=[0.5, 0.8])), max_norm=[1.0, 2.0])") == [
        "clip_by_global_norm(cosine(momentum(momentum=0.5)))",
        "clip_by_global_norm(cosine(momentum(momentum=0.5)), max_norm=2.0)",
        "clip_by_global_norm(cosine(momentum(momentum=0.8)))",
        "clip_by_global_norm(cosine(momentum(momentum=0.8)), max_norm=2.0)",
    ]
    assert labels("switch([adam, rmsprop], gradient_descent, at=50)") == [
        "switch(adam, gradient_descent, at=50)",
        "switch(rmsprop, gradient_descent, at=50)",
    ]
    assert labels("switch(second=adam, first=momentum)") == ["switch(momentum, adam)"]


def test_a_list_that_fits_a_tuple_is_a_value_and_a_list_of_them_is_not():
    def starts(text):
        return [component.params["start"] for component in parse_workload(text)]

    assert starts("rosenbrock(start=[1, 2])") == [(1.0, 2.0)]
    assert starts("rosenbrock(start=(1, 2))") == [(1.0, 2.0)]
    assert starts("rosenbrock(start=[[1, 2], [3, 4]])") == [(1.0, 2.0), (3.0, 4.0)]
    assert starts("rosenbrock(start=[None, (3, 4)])") == [None, (3.0, 4.0)]


def test_a_bare_word_is_text():
    (component,) = parse_workload("rosenbrock(dtype=float64)")
    assert component.params["dtype"] == "float64"
    assert component.label == "rosenbrock(dtype='float64')"


def test_mappings_say_the_same_as_expressions():
    data = {"clip_by_global_norm": {"optimizer": {"adam": {"beta_1": [0.8, 0.9]}}, "max_norm": 2}}
    same = parse_optimizer("clip_by_global_norm(adam(beta_1=[0.8, 0.9]), max_norm=2)")
    assert expressions.from_mapping("optimizer", data) == same
    assert expressions.from_mapping("optimizer", {"adam": None}) == parse_optimizer("adam")
    wrapped = {"cosine": {"optimizer": ["adam", "momentum(momentum=0.5)"]}}
    assert [c.label for c in expressions.from_mapping("optimizer", wrapped)] == [
        "cosine(adam)",
        "cosine(momentum(momentum=0.5))",
    ]


def test_plugin_references_may_stand_anywhere(plugins):
    assert labels("sign_descent.py:SignDescent(scale=2)", plugins) == [
        "sign_descent.py:SignDescent(scale=2.0)"
    ]
    nested = "clip_by_global_norm(sign_descent.py:Halved(sign_descent.py:SignDescent, at=3), max_norm=2.0)"
    assert labels(nested, plugins) == [nested]
    (component,) = parse_optimizer(nested, plugins)
    assert component.inner[0].source == str(plugins / "sign_descent.py")
    assert component.source == ""


def test_a_path_with_spaces_is_a_reference(tmp_path, plugins):
    folder = tmp_path / "my own files"
    folder.mkdir()
    for name in ("sign_descent.py", "neighbour.py"):
        (folder / name).write_text((plugins / name).read_text())
    found = parse_optimizer(f"cosine({folder}/sign_descent.py:SignDescent(mode='a.py:B'))")
    assert found[0].label == "cosine(sign_descent.py:SignDescent(mode='a.py:B'))"
    assert found[0].inner[0].source == str(folder / "sign_descent.py")


def test_absolute_references_leave_names_modules_and_quotes_alone(tmp_path):
    text = "switch(a/b.py:C(mode='x.py:Y'), package.module:D, at=3)"
    made = expressions.absolute_references(text, tmp_path)
    assert made == f"switch({tmp_path}/a/b.py:C(mode='x.py:Y'), package.module:D, at=3)"
    assert expressions.absolute_references("adam(beta_1=0.5)", tmp_path) == "adam(beta_1=0.5)"


def test_required_hyperparameters_are_always_in_the_label(plugins):
    text = "sign_descent.py:Halved(adam, at=3)"
    assert labels(text, plugins) == [text]


# --- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["cannot read ''", "adam(beta_1=0.8)"]),
        ("adam(", ["cannot read 'adam('"]),
        ("adam(beta_1=0.8", ["cannot read"]),
        ("adam + lion", ["'adam + lion' is not a name"]),
        ("3", ["'3' is not a name"]),
        ("adam(beta_3=0.8)", ["unknown hyperparameter of 'adam' 'beta_3'", "'beta_1'"]),
        ("adam(0.8)", ["give hyperparameters by name, as beta_1=0.8"]),
        ("adam(momentum)", ["'adam' wraps no optimizer"]),
        ("adam(**x)", ["'**' is not part"]),
        ("adam(beta_1=1/3)", ["beta_1=1 / 3 is not a plain value"]),
        ("adam(beta_1=print())", ["is not a plain value"]),
        ("adam(beta_1='a')", ["'beta_1' of 'adam' must be a number, not 'a'"]),
        ("adam(beta_1=True)", ["must be a number, not True"]),
        ("adam(beta_1=None)", ["must be a number, not None"]),
        ("adam(beta_1=nan)", ["'beta_1' of 'adam' must be finite, not nan"]),
        ("adam(beta_1=-inf)", ["must be finite, not -inf"]),
        ("adam(beta_1=[0.8, inf])", ["must be finite, not inf"]),
        ("adam(beta_1=1e999)", ["must be finite, not inf"]),
        ("adam(beta_1=[])", ["'beta_1' of 'adam' is an empty list"]),
        ("adam(amsgrad=1)", ["must be true or false, not 1"]),
        ("accumulate(adam, every=2.5)", ["'every' of 'accumulate' must be a whole number, not 2.5"]),
        ("accumulate(adam, every='4')", ["must be a whole number, not '4'"]),
        ("cosine(adam, steps='many')", ["must be a whole number or none, not 'many'"]),
        ("cosine", ["'cosine' wraps an optimizer: write cosine(adam"]),
        ("cosine(adam, momentum)", ["'cosine' wraps 1 optimizer, not 2"]),
        ("cosine(adam, optimizer=momentum)", ["given its 'optimizer' twice"]),
        ("cosine(adm)", ["unknown optimizer 'adm'"]),
        ("cosine(rosenbrock)", ["'rosenbrock' is a workload, not an optimizer"]),
        ("switch(adam)", ["wraps an optimizer: write switch(adam, gradient_descent)"]),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        parse_optimizer(text)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_requirement_says_how_to_give_it(plugins):
    with pytest.raises(UsageError, match=r"needs 'at', as sign_descent.py:Halved\(adam, at=…\)"):
        parse_optimizer("sign_descent.py:Halved(adam)", plugins)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"adam": [1]}, "'adam' takes a mapping of hyperparameters, not [1]"),
        ({"adam": {"beta_1": {"a": 1}}}, "'beta_1' of 'adam' must be a number"),
        ({"adam": {3: 1}}, "unknown hyperparameter of 'adam' '3'"),
        (
            {"cosine": {"optimizer": 3}},
            "a wrapped optimizer is an expression such as adam(beta_1=0.8), not 3",
        ),
        ({"cosine": {"optimizer": "adm"}}, "unknown optimizer 'adm'"),
    ],
)
def test_mappings_that_cannot_be_read_are_one_sentence(data, words):
    with pytest.raises(UsageError) as error:
        expressions.from_mapping("optimizer", data)
    assert words in str(error.value)


# --- laws ----------------------------------------------------------------------------------------


def test_every_entry_of_the_catalogue_reads_its_own_label():
    for name in catalog.entries("optimizer"):
        assert labels(name) == [name]
    for name, entry in catalog.entries("transform").items():
        text = f"{name}({', '.join(['adam', 'momentum'][: len(entry.inner)])})"
        assert labels(text) == [text]
    for name in catalog.entries("workload"):
        assert [component.label for component in parse_workload(name)] == [name]


@st.composite
def hyperparameters(draw, fields: tuple[Field, ...]):
    """Values for some of an entry's hyperparameters, of the types that its annotations ask for."""
    kinds = {
        "float": finite,
        "int": st.integers(),
        "bool": st.booleans(),
        "str": words,
        "int | None": st.none() | st.integers(),
        "tuple[float, ...]": st.lists(finite, max_size=3).map(tuple),
        "tuple[float, ...] | None": st.none() | st.lists(finite, max_size=3).map(tuple),
    }
    chosen = [f for f in fields if f.annotation in kinds and draw(st.booleans())]
    return {f.name: draw(kinds[f.annotation]) for f in chosen}


@st.composite
def optimizers(draw, depth: int = 2):
    """A component of the catalogue with drawn hyperparameters, transforms nested up to `depth`."""
    kinds = ["optimizer"] if depth == 0 else ["optimizer", "transform"]
    entries = ENTRIES[draw(st.sampled_from(kinds))]
    entry = entries[draw(st.sampled_from(sorted(entries)))]
    inner = [draw(optimizers(depth=depth - 1)) for _ in entry.inner]
    return expressions.make(entry, draw(hyperparameters(entry.fields)), inner)


@calm
@given(optimizers())
def test_reading_a_label_gives_the_component_back(component):
    assert parse_optimizer(component.label) == [component]


@calm
@given(st.sampled_from(sorted(ENTRIES["workload"])), st.data())
def test_reading_a_workloads_label_gives_it_back(name, data):
    entry = ENTRIES["workload"][name]
    component = expressions.make(entry, data.draw(hyperparameters(entry.fields)))
    assert parse_workload(component.label) == [component]


@calm
@given(st.permutations(["beta_1=0.5", "beta_2=0.75", "epsilon=0.25", "amsgrad=True"]))
def test_the_order_in_which_hyperparameters_are_written_does_not_matter(arguments):
    assert labels(f"adam({', '.join(arguments)})") == [
        "adam(beta_1=0.5, beta_2=0.75, epsilon=0.25, amsgrad=True)"
    ]


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, "float", 1.0),
        (1e3, "int", 1000),
        (-3, "int", -3),
        (True, "bool", True),
        ("a", "str", "a"),
        (None, "float | None", None),
        (None, "Optional[int]", None),
        (2, "Union[int, None]", 2),
        (2, "float | int", 2),
        (2.5, "int | float", 2.5),
        ([1, 2], "tuple[float, ...]", (1.0, 2.0)),
        ([1, "a"], "tuple[int, str]", (1, "a")),
        ([[1, 2], [3, 4]], "tuple[tuple[float, float], ...]", ((1.0, 2.0), (3.0, 4.0))),
        ("max", "Literal['max', 'min']", "max"),
        ([1, 2], "tuple", (1, 2)),
        ([1, 2], "SomethingOfTheirOwn", (1, 2)),
        ("x", "Any", "x"),
    ],
)
def test_values_are_brought_to_the_form_of_their_annotation(value, annotation, expected):
    made = values.coerce(value, annotation)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "words"),
    [
        (True, "int", "must be a whole number, not True"),
        (1.5, "int", "must be a whole number, not 1.5"),
        (True, "float", "must be a number, not True"),
        (0, "bool", "must be true or false, not 0"),
        (3, "str", "must be text, not 3"),
        (None, "int", "must be a whole number, not None"),
        ("a", "float | None", "must be a number or none, not 'a'"),
        (3, "tuple[int, ...]", "must be a tuple, each item a whole number, not 3"),
        ((1,), "tuple[int, int]", "must be a tuple of 2, not (1,)"),
        ("mean", "Literal['max', 'min']", "must be 'max' or 'min', not 'mean'"),
        (float("nan"), "float", "must be finite, not nan"),
        ([1.0, float("inf")], "tuple[float, ...]", "must be finite, not inf"),
    ],
)
def test_values_that_do_not_fit_say_what_is_expected(value, annotation, words):
    with pytest.raises(values.Mismatch) as error:
        values.coerce(value, annotation)
    assert str(error.value) == words
    assert not values.fits(value, annotation)
