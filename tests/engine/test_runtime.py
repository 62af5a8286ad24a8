"""XLA's flags: this project's, and what the user has set."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.importing import without
from harness.runtime import XLA_FLAGS, tf_xla_flags, xla_flags

OURS = " ".join(f"--{name}={value}" for name, value in XLA_FLAGS.items())
OPTIONS = dict(option.partition("=")[::2] for option in XLA_FLAGS["xla_backend_extra_options"].split(","))


@pytest.mark.parametrize("given", ["--xla_dump_to=there", " --xla_cpu_prefer_vector_width=256"])
def test_what_the_user_has_set_comes_last_and_so_holds(given):
    assert xla_flags(given) == f"{OURS} {given}".strip()


def test_without_flags_of_the_user_there_are_ours():
    assert xla_flags("") == OURS


@pytest.mark.parametrize("given", ["", "--xla_dump_to=there"])
def test_a_process_of_ours_passes_on_what_it_was_given(given):
    assert xla_flags(xla_flags(given)) == xla_flags(given)


def test_flags_of_a_file_are_taken_from_it(tmp_path):
    file = tmp_path / "flags"
    file.write_text("--xla_dump_to=there\n--xla_dump_hlo_as_text\n")
    assert xla_flags(str(file)).split() == [*OURS.split(), "--xla_dump_to=there", "--xla_dump_hlo_as_text"]


def test_a_file_that_is_not_there_is_left_to_xla(tmp_path):
    assert xla_flags(str(tmp_path / "none")) == str(tmp_path / "none")


def test_the_cache_is_where_this_process_has_it_and_apart_by_xlas_flags():
    folders = [Path("here"), Path("there")]
    first, moved, changed = (
        tf_xla_flags("--tf_xla_clustering_debug", folders[i], x) for i, x in [(0, ""), (1, ""), (0, "x")]
    )
    assert len({first, moved, changed}) == 3
    for parents in (first, moved, changed):
        assert tf_xla_flags(parents, folders[0], "") == first


def test_what_else_the_user_says_of_the_cache_goes_to_children():
    given = "--tf_xla_persistent_cache_read_only=true"
    made = tf_xla_flags(given, Path("here"), "")
    assert made.startswith(given)
    assert tf_xla_flags(made, Path("here"), "") == made


def test_a_cache_that_the_user_has_set_stays():
    given = "--tf_xla_persistent_cache_directory=mine --tf_xla_persistent_cache_prefix=my"
    assert tf_xla_flags(given, Path("here"), "") == given


LATER = """
import sys

from harness.runtime import tensorflow

tf = tensorflow()
print(*[name for name in ("keras", "jax", "sklearn") if name in sys.modules])
from workloads._digits import digits

digits()
print(*[name for name in ("keras", "jax", "sklearn") if name in sys.modules])
import tensorflow.keras.layers

assert tf.keras.layers.Dense is tensorflow.keras.layers.Dense
print("keras" in sys.modules)
import jax

print(jax.numpy.ones(2).shape)
"""


def test_what_others_want_is_imported_when_they_ask_for_it():
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["", "", "True", "(2,)"]


def test_packages_are_found_and_not_loaded_meanwhile(tmp_path, monkeypatch):
    for name in ("hidden_one", "hidden_two", "hidden_three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "part.py").write_text("here = True")
    monkeypatch.syspath_prepend(tmp_path)
    import hidden_two

    with without("hidden_one", "hidden_two", "hidden_three"):
        found = find_spec("hidden_one")
        assert found is not None and found.origin == str(tmp_path / "hidden_one" / "__init__.py")
        with pytest.raises(ImportError, match="hidden_one"):
            import_module("hidden_one.part")
        assert import_module("hidden_two.part").here  # was there already
        with ThreadPoolExecutor(1) as others:
            assert others.submit(import_module, "hidden_three.part").result().here
    assert import_module("hidden_one.part").here and hidden_two


COMPILE = """
from harness.runtime import tensorflow

tf = tensorflow()
tf.function(tf.sin, jit_compile=True)(tf.ones([3]))
"""


@pytest.mark.slow
def test_xla_takes_the_options_of_both_and_where_they_differ_the_users(tmp_path):
    changed, *_ = OPTIONS
    given = f"--xla_backend_extra_options={changed}=7,xla_mine=8 --xla_dump_to={tmp_path}"
    # as in two children of one process, whose cache is not to mix up what was compiled with which flags
    cache = tmp_path / "cache"
    env = {"OPTGRID_CACHE": str(cache), "TF_XLA_FLAGS": tf_xla_flags("", cache, xla_flags(""))}
    for flags in ("", given):
        child = os.environ | env | {"XLA_FLAGS": flags}
        subprocess.run([sys.executable, "-c", COMPILE], env=child, check=True, capture_output=True)
    (told, *_) = [path.read_text() for path in tmp_path.glob("*debug_options*")]
    expected = OPTIONS | {changed: "7", "xla_mine": "8"}
    assert {name: _after(told, f'key: "{name}"') for name in expected} == expected


def _after(told: str, key: str) -> str:
    """The value that follows a key in a protocol buffer's text."""
    return told.split(key)[1].split('value: "')[1].split('"')[0]
