"""Measuring: bytes by hand, passes of planted optimizers, sentences for what cannot be measured."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.catalog import build_optimizer
from harness.expressions import parse_optimizer, parse_workload
from harness.kernels import cases, device, measure, ours, peers, run, shapes, steps
from harness.kernels.compare import compare
from harness.kernels.measure import Pace
from harness.kernels.schema import OURS, frame
from harness.kernels.words import verdict
from harness.types import UsageError
from optimizers import _variables as variables

PLUGINS = Path(__file__).parent / "plugins"
BRIEF = Pace(windows=5, window_seconds=1e-4, row_seconds=0.01)
SIZE = 50_000


def rows_of(*optimizers: str, layouts=None, implementations=("xla_in_place",), dtypes=("float32",)):
    components = tuple(c for text in optimizers for c in parse_optimizer(text, PLUGINS))
    plan = run.Plan(components, layouts or (shapes.uniform(SIZE, 1),), dtypes, implementations, BRIEF)
    return list(run.profile(plan, device.find("CPU:0")))


# Parameters, gradients and slots that are read, and parameters and slots that are written; of 4 bytes each.
@pytest.mark.parametrize(
    ("optimizer", "read", "written", "scalars"),
    [
        ("gradient_descent", 2, 1, 0),
        ("momentum", 3, 2, 0),
        ("adagrad", 3, 2, 0),
        ("adam", 4, 3, 0),
        ("adam(amsgrad=True)", 5, 4, 0),
        ("lion", 3, 2, 0),
        ("nadam", 4, 3, 2),  # one product of momenta for all parameters: read and written
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fewest_bytes_by_hand(optimizer, read, written, scalars, dtype):
    rule = build_optimizer(parse_optimizer(optimizer)[0])
    moved, state = cases.least_bytes(rule, ((100, 3), (7,)), dtype)
    width = 4 if dtype == "float32" else 2
    assert moved == 307 * width * (read + written) + 4 * scalars
    assert state == 307 * width * (read - 2) + 4 * (scalars // 2)


def test_a_state_that_is_handed_on_is_not_written():
    class Handed:
        """Gradient descent that keeps its first gradient and never looks at it."""

        def init(self, params):
            return {"kept": params}

        def update(self, params, grads, state, lr, step):
            return [p - 0.1 * g for p, g in zip(params, grads, strict=True)], state

    assert cases.least_bytes(Handed(), ((10,),), "float32") == (10 * 4 * 3, 40)


@pytest.mark.parametrize("optimizer", ["gradient_descent", "momentum", "adagrad", "adam", "lion"])
def test_programs_touch_at_least_the_fewest_bytes(optimizer):
    """The optimised program reads every input and writes every output: its traffic cannot be less."""
    (row,) = rows_of(optimizer)
    assert row.status == "measured", row.detail
    assert row.traffic_bytes >= row.bytes_moved
    assert row.traffic_bytes <= row.bytes_moved * row.passes * 1.2
    if row.passes < 1.01:
        assert row.traffic_bytes == pytest.approx(row.bytes_moved, rel=1e-3)


def test_planted_second_pass_is_found_and_its_removal_too():
    slow, fast = rows_of("two_passes.py:Planted"), rows_of("one_pass.py:Planted")
    for row in slow:
        row.optimizer = fast[0].optimizer  # the same optimizer, before and after a change of its file
    assert fast[0].passes == pytest.approx(1, abs=0.01)
    assert slow[0].passes >= 1.9
    worse, better = compare(frame(fast), frame(slow)), compare(frame(slow), frame(fast))
    assert worse.regressions["verdict"].isin(["slower", "more passes"]).all() and len(worse.regressions) == 1
    assert better.gains["verdict"].isin(["faster", "fewer passes"]).all() and len(better.gains) == 1


def test_every_implementation_gives_a_row():
    layout = shapes.Layout("small", ((30, 20), (20,)))
    rows = rows_of("adam", layouts=(layout,), implementations=run.IMPLEMENTATIONS)
    assert [row.implementation for row in rows][: len(OURS)] == list(OURS)
    assert {row.implementation for row in rows} >= {"keras", "keras_jit", "fused_op"}
    for row in rows:
        if "one_pass" in row.implementation:  # for a process that only profiles
            assert (row.status, row.detail[:24]) == ("skipped", "XLA was not told to fuse")
            continue
        assert row.status == "measured", f"{row.implementation}: {row.detail}"
        assert row.update_seconds_low <= row.update_seconds <= row.update_seconds_high
        assert row.windows == 5
        assert row.gigabytes_per_second == pytest.approx(row.bytes_moved / row.update_seconds / 1e9)
        assert row.copy_share == pytest.approx(row.gigabytes_per_second / row.copy_gigabytes_per_second)
        if row.implementation not in OURS:  # Adam's two slots, whoever keeps them
            assert row.bytes_moved == 620 * 4 * 7 and row.state_bytes == 620 * 4 * 2
    flat = next(row for row in rows if row.implementation == "flat")
    assert flat.fusions < next(row for row in rows if row.implementation == "xla_in_place").fusions


@pytest.mark.parametrize("name", run.IMPLEMENTATIONS)
def test_implementations_compute_the_rule(name, monkeypatch):
    """Two calls move the parameters as two updates of the rule do, ours and the peers' alike."""
    (component,) = parse_optimizer("momentum")
    rule, layout = build_optimizer(component), shapes.Layout("small", ((3,), (2,)))
    case = cases.Case(component, rule, layout, "float32", device.find("CPU:0"), 0, 0)
    builders = {**ours.BUILDERS, **peers.available(case)}
    if name not in builders:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(ours, "outputs_fused", lambda: True)
    monkeypatch.setattr(variables, "fuse_outputs", lambda: True)  # more kernels, same numbers
    prepared = builders[name](case)
    prepared.call()
    prepared.call()
    params, grads, state = case.parameters(), case.gradients(), rule.init(case.parameters())
    if name.startswith("flat"):
        whole = ((5,),)
        params, grads, state = (
            case.parameters(whole),
            case.gradients(whole),
            rule.init(case.parameters(whole)),
        )
    for step in range(2):
        params, state = rule.update(params, grads, state, cases.LEARNING_RATE, step)
    for mine, wanted in zip(prepared.params(), params, strict=True):
        np.testing.assert_allclose(np.asarray(mine), wanted.numpy(), rtol=1e-5)


def test_a_flat_buffer_is_refused_where_it_is_another_rule():
    rows = rows_of(
        "clip_by_norm(momentum, max_norm=0.1)",
        layouts=(shapes.uniform(SIZE, 3),),
        implementations=("flat", "xla_in_place"),
    )
    assert [row.status for row in rows] == ["skipped", "measured"]
    assert "each tensor by itself" in rows[0].detail


def test_what_cannot_compile_is_a_sentence_and_the_others_go_on():
    rows = rows_of("broken.py:Broken", "momentum", implementations=("eager", "xla_in_place"))
    assert [(row.optimizer[:6], row.status) for row in rows] == [
        ("broken", "measured"),
        ("broken", "failed"),
        ("moment", "measured"),
        ("moment", "measured"),
    ]
    assert rows[1].detail.startswith("XLA cannot compile it: there is no PyFunc on XLA_CPU_JIT")
    assert rows[1].update_seconds is None


def test_matrix_products_are_set_against_their_peak():
    layout = shapes.Layout("matrix", ((300, 200),))
    (row,) = rows_of("matrix.py:Whitened", layouts=(layout,))
    assert row.status == "measured", row.detail
    assert row.product_flops == 2 * 2 * 300 * 200 * 200
    assert row.matmul_share == pytest.approx(
        row.product_flops / row.update_seconds / 1e9 / row.matmul_gigaflops_per_second
    )
    assert "of the peak of one large product" in verdict(
        {**vars(row), "bytes_moved": 1e9, "update_seconds": 1.0}
    )
    (plain,) = rows_of("momentum")
    assert plain.product_flops == 0 and plain.matmul_share is None


def test_what_does_not_fit_into_memory_is_a_sentence(monkeypatch):
    monkeypatch.setattr(device, "memory_bytes", lambda: 2_000_000)
    layouts = (shapes.uniform(10_000, 1), shapes.uniform(10_000_000, 1))
    rows = rows_of("adam", layouts=layouts, implementations=("xla_in_place", "flat"))
    assert [row.status for row in rows] == ["measured", "measured", "skipped", "skipped"]
    assert "choose smaller --sizes" in rows[2].detail


def test_an_unknown_device_is_a_sentence():
    with pytest.raises(UsageError, match="no device 'GPU:7' here: TensorFlow sees 'CPU:0'"):
        device.find("GPU:7")


def test_noise_sees_spread_and_drift():
    still = np.full(20, 0.01)
    assert measure.noise([still]) == 0
    drifting = np.concatenate([still[:10], 1.2 * still[10:]])
    assert measure.noise([drifting]) > 0.15
    assert measure.noise([still, 1.2 * still]) > 0.15  # each sitting by itself is steady
    spread = 0.01 * (1 + 0.3 * np.array([(-1) ** i for i in range(20)]))
    assert measure.noise([spread]) > 0.1
    assert measure.noise([[1.0, 1.0, 1.0, 1.0, 1.4]]) == pytest.approx(0.4)  # of five, all of the range


def test_what_slows_the_whole_machine_cancels_in_copies():
    def timed(*sittings):
        return measure.Timed(cases.Prepared(lambda: None, lambda: None), seconds=[list(s) for s in sittings])

    slowing = timed([1.0, 1.0, 1.0], [1.5, 1.5, 1.5])
    copied = timed([0.5, 0.5, 0.5, 0.5], [0.75, 0.75, 0.75, 0.75])
    assert measure.summary(slowing).noise > 0.3
    assert measure.shared_noise(slowing, copied) == 0


def test_windows_are_shared_out_over_sittings():
    each = measure.Timed(cases.Prepared(lambda: None, lambda: None), rounds=5)
    for sitting in range(2):
        measure.take_turns([each], sitting, 2)
    assert [len(part) for part in each.seconds] == [3, 2]


def test_a_step_is_split():
    (workload,) = parse_workload("digits_logistic")
    (optimizer,) = parse_optimizer("adam")
    rows = list(steps.profile_step(workload, optimizer, device.find("CPU:0"), BRIEF))
    assert {row.part for row in rows} == {*steps.PARTS, "whole step"}
    shares = {row.part: row.share for row in rows}
    assert sum(shares[p] for p in ("forward and backward", "update", "batch")) == pytest.approx(1)
    big = replace(next(row for row in rows if row.part == "update"), share=0.3)
    assert "more than 10%" in steps.sentence([big])
    assert "more than" not in steps.sentence([replace(big, share=0.05)])


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    line = [sys.executable, "-c", "from harness.cli import main; main()", "profile", *arguments]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_command_measures_traces_and_compares(tmp_path):
    """A change of an optimizer's file that adds a pass ends a comparison with exit code 3."""
    mine = tmp_path / "mine.py"
    options = ["mine.py:Planted", "--sizes", "5e4", "--windows", "5", "--implementations", "xla_in_place"]
    mine.write_text((PLUGINS / "one_pass.py").read_text())
    first = command(*options, "--out", "old", "--json", "--trace", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert [row["implementation"] for row in document["kernels"]] == ["xla_in_place"]
    assert (tmp_path / "old" / "report" / "index.html").is_file()
    assert list((tmp_path / "old" / "trace").rglob("*.xplane.pb"))
    (perfetto,) = (tmp_path / "old" / "trace").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]
    assert any(e["ph"] == "X" and e["dur"] > 0 and "fusion" in e["name"] for e in events)
    mine.write_text((PLUGINS / "two_passes.py").read_text())
    second = command(*options, "--out", "new", folder=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "mine.py:Planted" in second.stdout
    worse = command("--compare", "old", "new", folder=tmp_path)
    assert worse.returncode == 3, worse.stdout + worse.stderr
    better = command("--compare", "new", "old", "--json", folder=tmp_path)
    assert better.returncode == 0
    assert len(json.loads(better.stdout)["gains"]) == 1


def test_one_pass_is_one_kernel_in_a_process_that_profiles(tmp_path):
    options = ["adam", "rmsprop", "--sizes", "1e5", "--windows", "5", "--json"]
    done = command(*options, "--implementations", "one_pass,flat_one_pass", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["kernels"]:
        assert row["status"] == "measured", row["detail"]
        assert row["passes"] == pytest.approx(1, abs=0.01)
        assert row["traffic_bytes"] == pytest.approx(row["bytes_moved"], rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["adm"], "did you mean"),
        (["--sizes", "many"], "is no number"),
        (["--dtypes", "float31"], "unknown dtype"),
        (["--implementations", "magic"], "unknown implementation"),
        (["--compare", "here", "there"], "holds no profile"),
        (["--sizes", "10", "--tensors", "100"], "more --tensors than parameters"),
    ],
)
def test_mistakes_are_sentences(arguments, said, tmp_path, monkeypatch, capsys):
    from harness.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["profile", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_study_profiles_its_optimizers(tmp_path, monkeypatch):
    from harness.kernels import study as of_study
    from harness.study import Study

    monkeypatch.setattr(of_study, "SIZES", "1e3")
    plugin = f"{PLUGINS / 'one_pass.py'}:Planted"
    fields = {"workloads": ["quadratic"], "optimizers": [plugin], "learning_rates": [0.01], "seeds": 1}
    results = Study(**fields, steps=20, profile=True).run(out=tmp_path / "out")
    kernels = results.kernels()
    assert set(kernels["optimizer"]) == {"one_pass.py:Planted"}
    assert set(kernels["status"]) == {"measured"}
    page = results.report().read_text()
    assert "kernels-implementations" in page


def test_a_plugin_in_a_transform_is_named_by_its_path():
    from harness.kernels.study import expression

    (component,) = parse_optimizer("clip_by_norm(one_pass.py:Planted, max_norm=2.0)", PLUGINS)
    (again,) = parse_optimizer(expression(component))
    assert again == component


@pytest.mark.parametrize(("size", "numbers"), [(1, 1), (4 * 100, 100), (4 * 40_000_001, 39_997_440)])
def test_the_copy_has_whole_blocks(size, numbers):
    assert measure.copy_bytes(size) == 2 * 4 * numbers
