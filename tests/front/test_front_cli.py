"""The command line without TensorFlow: help, list, schema, status, errors and exit codes."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from harness import cli
from harness.cli import _app, run
from harness.types import Interrupted, RunError, UsageError

ROOT = Path(cli.__file__).resolve().parents[2]


def optgrid(*arguments):
    """The command in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return end.value.code or 0, out.getvalue(), err.getvalue()


# --- help, list, schema --------------------------------------------------------------------------


def test_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom harness.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "heavy = {'tensorflow', 'ray', 'pandas', 'pyarrow', 'matplotlib', 'seaborn', 'numpy', 'pydantic'}\n"
        "assert not loaded & heavy, loaded & heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("run", "report", "status", "list", "check", "schema"):
        assert f"  {command} " in done.stdout


def test_no_command_prints_the_help():
    code, out, err = optgrid()
    assert "Usage: optgrid" in out + err
    assert code in (0, 2)  # typer 0.15 ends with 0, later ones with 2


def test_the_folder_is_the_catalogue_of_commands(monkeypatch, tmp_path):
    (tmp_path / "greet.py").write_text(
        "import typer\n\ndef register(app):\n"
        "    group = typer.Typer()\n    app.add_typer(group, name='greet')\n\n"
        "    @group.command('all')\n    def everybody(): print('hello')\n\n"
        "    @group.command('one')\n    def one(): raise ValueError('nobody')\n"
    )
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    assert optgrid("greet", "all") == (0, "hello\n", "")
    code, _, err = optgrid("greet", "one")
    assert code == 1
    assert "unexpected ValueError: nobody" in err
    del sys.modules["harness.cli.greet"]


def test_list_has_a_line_for_each():
    code, out, err = optgrid("list")
    assert (code, err) == (0, "")
    for word in (
        "optimizers\n",
        "transforms\n",
        "workloads\n",
        "studies\n",
        "  adam ",
        "  rosenbrock ",
        "  article ",
    ):
        assert word in out
    code, out, _ = optgrid("list", "workloads")
    assert code == 0
    assert all(line.split("  ", 1)[1].strip() for line in out.splitlines())


def test_list_of_a_name_is_in_full(in_plugins):
    _, adam, _ = optgrid("list", "adam")
    for word in (
        "adam (optimizer, optimizers/adam.py)",
        "beta_1",
        "0.999",
        "by default: 1e-05 to 1",
        "Kingma",
    ):
        assert word in adam
    _, cosine, _ = optgrid("list", "cosine")
    assert "wraps: optimizer" in cosine
    _, beale, _ = optgrid("list", "beale")
    assert "the target is on: loss" in beale
    _, article, _ = optgrid("list", "article")
    assert "workloads:" in article
    _, plugin, _ = optgrid("list", "sign_descent.py:Dish")
    assert "sign_descent.py:Dish (workload, sign_descent.py)" in plugin
    assert "math.pi / 4" in plugin


def test_list_as_json_is_one_document():
    _, out, _ = optgrid("list", "--json")
    everything = json.loads(out)
    assert set(everything) == {"optimizers", "transforms", "workloads", "studies"}
    adam = next(item for item in everything["optimizers"] if item["name"] == "adam")
    assert adam["learning_rates"] == [1e-5, 1.0]
    assert {"name": "amsgrad", "type": "bool", "default": False} in adam["hyperparameters"]
    _, out, _ = optgrid("list", "switch", "--json")
    assert json.loads(out)["wraps"] == ["first", "second"]
    _, out, _ = optgrid("list", "article", "--json")
    assert json.loads(out)["kind"] == "study"


def test_schema_is_one_json_document():
    code, out, err = optgrid("schema")
    assert (code, err) == (0, "")
    assert json.loads(out)["title"] == "OptGrid study"


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "adma"], "error: unknown name 'adma': did you mean 'adam'"),
        (["list", "optimisers"], "did you mean 'optimizers'?"),
        (["list", "sign_descent.py:Nobody"], "unknown class 'Nobody'"),
        (["check", "adma"], "error: unknown optimizer or workload 'adma': did you mean 'adam'"),
        (["check", "adam(beta_3=1)"], "error: unknown hyperparameter of 'adam' 'beta_3'"),
        (["check", "quadratic(condition=x)"], "error: 'condition' of 'quadratic' must be a number"),
        (["check", "sign_descent.py:NotAnOptimizer"], "is not an optimizer: it has no method"),
        (["check", "adam", "--kind", "workload"], "error: 'adam' is an optimizer, not a workload"),
        (
            ["check", "adam", "--kind", "optimiser"],
            "error: unknown kind 'optimiser': did you mean 'optimizer'?",
        ),
        (["run", "artcle"], "error: unknown study 'artcle': did you mean 'article'?"),
        (["run", "missing.yaml"], "error: there is no study file 'missing.yaml'"),
        (["run", "--optimizer", "adm"], "error: --optimizer: unknown optimizer 'adm'"),
        (["run", "--lr", "1:0.1:3"], "error: --lr: the range is out of order"),
        (["run", "--lr", "nan"], "error: --lr: a learning rate must be finite and above 0, not nan"),
        (["run", "--seeds", "0"], "error: --seeds: 'seeds' must be at least 1"),
        (["run", "--steps", "0"], "error: --steps: 'steps' must be at least 1, not 0"),
        (["run", "--stop", "soon"], "error: --stop: unknown stop 'soon'"),
        (["run", "--dtype", "float23"], "error: --dtype: unknown dtype 'float23': did you mean 'float32'"),
        (["run", "--strategy", "mirored"], "error: --strategy: unknown strategy 'mirored'"),
        (["run", "--workers", "0"], "error: --workers: 'workers' must be at least 1, not 0"),
        (["run", "--name", "a/b"], "error: --name: 'name' must be letters"),
        (["run", "--steps", "many"], "--steps"),
        (["status", "nowhere"], "error: nowhere is not a results folder"),
        (["report", "nowhere"], "error: nowhere is not a results folder"),
    ],
)
def test_a_mistake_is_one_sentence_on_standard_error_and_exit_code_2(arguments, words, in_plugins):
    code, out, err = optgrid(*arguments)
    assert code == 2
    assert out == ""
    assert words in err
    if "Usage:" not in err:
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("wrong"), 2, "error: wrong\n"),
        (RunError("no room"), 1, "error: no room\n"),
        (Interrupted("stopped"), 130, "stopped\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: Permission denied '/x'\n"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device: free some space, "),
        (ZeroDivisionError("by zero"), 1, "error: unexpected ZeroDivisionError: by zero (this is a defect"),
    ],
)
def test_every_error_has_its_exit_code(error, code, said, capsys):
    import typer

    with pytest.raises(typer.Exit) as end, _app.sentences(debug=False):
        raise error
    assert end.value.exit_code == code
    assert capsys.readouterr().err.startswith(said)


def test_debug_shows_the_traceback(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("harness.cli.listing.entries", broken)
    code, _, quiet = optgrid("list")
    assert (code, "Traceback" in quiet) == (1, False)
    code, _, loud = optgrid("--debug", "list")
    assert (code, "Traceback" in loud) == (1, True)
    assert "unexpected ZeroDivisionError" in loud


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        code = "from harness.cli import main; main(['list', '--json'])"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True
        )
    assert "error" not in done.stderr


# --- which study ---------------------------------------------------------------------------------


def test_no_argument_is_the_article():
    spec = run.chosen_study(None, {})
    assert spec.name == "article"
    assert spec == run.chosen_study("article", {})


def test_flags_that_leave_the_grid_as_it_is_leave_the_name():
    plain = run.chosen_study(None, {})
    assert run.chosen_study(None, {"workers": 1, "out": "here"}).name == "article"
    assert run.chosen_study(None, {"seeds": str(len(plain.seeds))}).name == "article"
    assert run.chosen_study(None, {"out": "here"}).folder == "here"


def test_flags_that_change_the_grid_name_another_study_always_the_same():
    once = run.chosen_study(None, {"seeds": "2"})
    again = run.chosen_study("article", {"seeds": "0,1"})
    other = run.chosen_study(None, {"seeds": "3"})
    assert once.name == again.name != other.name
    assert once.name.startswith("article-")
    assert once.folder == f"results/{once.name}"
    assert run.chosen_study(None, {"seeds": "2", "name": "mine"}).name == "mine"


def test_what_flags_leave_open_is_the_articles():
    plain = run.chosen_study(None, {})
    mine = run.chosen_study(None, {"optimizers": ["lion"]})
    assert mine.workloads == plain.workloads
    assert [o.label for o in mine.optimizers] == ["lion"]
    theirs = run.chosen_study(None, {"workloads": ["beale"]})
    assert theirs.optimizers == plain.optimizers


def test_flags_alone_make_a_study_named_after_them(in_plugins):
    flags = {"workloads": ["beale"], "optimizers": ["sign_descent.py:SignDescent", "cosine(adam)"]}
    spec = run.chosen_study(None, flags)
    assert spec.name.startswith("beale-sign_descent.py-SignDescent-cosine-")
    assert spec.learning_rates is None
    assert len(spec.seeds) == 10


def test_the_resume_command_is_the_command_without_fresh():
    given = ["run", "my study.yaml", "--fresh", "--optimizer", "adam(beta_1=0.5)"]
    assert run.resume_command(given) == "optgrid run 'my study.yaml' --optimizer 'adam(beta_1=0.5)'"


# --- status --------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path):
    """A results folder of 8 cells, 5 of them done: what a run that was cut leaves."""
    import pyarrow as pa

    from harness.records import CELLS, Store

    store = Store(str(tmp_path / "results"))
    rows = [
        ("a", "beale", "adam", "converged", ""),
        ("b", "beale", "adam", "budget", ""),
        ("c", "beale", "lion", "diverged", "loss is NaN at step 3"),
        ("d", "quartic", "adam", "failed", "ValueError: wrong shape"),
        ("e", "quartic", "adam", "failed", "ValueError: wrong shape"),
    ]
    names = ("cell_id", "workload", "optimizer", "status", "detail")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=CELLS)
    store.write_table("cells", "tile", table)
    store.write_json(
        "study.json",
        {
            "schema_version": 1,
            "name": "s",
            "cells": 8,
            "seeds": [0, 1],
            "workloads": {"beale": {}, "quartic": {}},
            "optimizers": {"adam": {}, "lion": {}},
            "learning_rates": {"adam": [0.1], "lion": [0.1]},
        },
    )
    return tmp_path / "results"


def test_status_counts_what_is_there_and_what_is_not(results):
    code, out, err = optgrid("status", str(results))
    assert (code, err) == (0, "")
    assert "5 of 8 cells done (62%), 3 missing" in out
    assert "converged 1, budget 1, diverged 1, failed 2" in out
    assert "failed 2 times: ValueError: wrong shape" in out
    code, out, _ = optgrid("status", str(results), "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["cells"], found["done"], found["missing"]) == (8, 5, 3)
    by_pair = {(row["workload"], row["optimizer"]): row for row in found["table"]}
    assert by_pair["beale", "adam"]["missing"] == 0
    assert by_pair["beale", "lion"]["diverged"] == 1
    assert by_pair["quartic", "lion"]["missing"] == 2
    assert found["failures"] == {"ValueError: wrong shape": 2}


def test_status_names_files_that_cannot_be_read_and_counts_the_rest(results):
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = (results / "cells" / "tile.parquet").read_bytes()
    (results / "cells" / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    pq.write_table(pa.table({"x": [1]}), results / "cells" / "foreign.parquet")
    code, out, err = optgrid("status", str(results))
    assert code == 1
    assert "5 of 8 cells done" in out
    assert "problem: cells/cut.parquet was left out" in err
    assert "problem: cells/foreign.parquet was left out: not written by OptGrid" in err


def test_status_reads_without_tensorflow(results):
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"try: main(['status', {str(results)!r}])\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'tensorflow', 'ray', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
