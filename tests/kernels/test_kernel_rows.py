"""Rows, shapes, verdicts and comparisons: no TensorFlow."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.profile import draw
from harness.kernels import shapes, store, words
from harness.kernels.compare import LEAST, compare
from harness.kernels.schema import Row, StepRow, frame
from harness.records import KERNELS
from harness.types import UsageError

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(**changes) -> Row:
    """A measured row of Adam at 1e7 parameters that moves 28 B each in 10 ms."""
    base = Row(
        optimizer="adam",
        optimizer_params="{}",
        implementation="xla_in_place",
        device="CPU:0",
        device_name="made",
        dtype="float32",
        layout="uniform",
        parameters=10_000_000,
        tensors=1,
        compile_seconds=0.2,
        update_seconds=0.010,
        update_seconds_low=0.0099,
        update_seconds_high=0.0101,
        windows=21,
        calls=1,
        noise=0.01,
        copy_noise=0.01,
        nanoseconds_per_parameter=1.0,
        bytes_moved=280_000_000,
        flops=120_000_000,
        gigabytes_per_second=28.0,
        gigaflops_per_second=12.0,
        copy_gigabytes_per_second=30.0,
        copy_share=28 / 30,
        traffic_bytes=400_000_000,
        temporary_bytes=0,
        state_bytes=80_000_000,
        state_bytes_per_parameter=8.0,
        kernels=3,
        fusions=3,
        passes=1.0,
        kernel_names=["fusion"],
        threads=2,
        measured_at=START,
    )
    return replace(base, **changes)


def timed(seconds: float, **changes) -> Row:
    low, high = seconds * 0.99, seconds * 1.01
    if "noise" in changes:
        changes.setdefault("copy_noise", changes["noise"])
    return row(update_seconds=seconds, update_seconds_low=low, update_seconds_high=high, **changes)


def verdict_of(old: Row, new: Row) -> str:
    found = compare(frame([old]), frame([new]))
    return str(found.table["verdict"].iloc[0])


def test_rows_keep_the_explicit_schema(tmp_path):
    writer = store.Writer(tmp_path, {"device": "CPU:0"})
    skipped = row(implementation="flat", status="skipped", detail="why", update_seconds=None, passes=None)
    for each in (row(), skipped):
        writer.add(each)
    writer.finish([StepRow("w", "adam", "CPU:0", "float32", 10, "update", 1.0, 0.9, 1.1, 5, 0.5)])
    back = store.read(str(tmp_path))
    assert list(back.columns) == KERNELS.names
    assert back["update_seconds"].tolist()[0] == 0.010
    assert np.isnan(back["update_seconds"].tolist()[1])
    assert list(back["kernel_names"][0]) == ["fusion"]
    assert (tmp_path / "steps").is_dir()
    one = next((tmp_path / "kernels").glob("*.parquet"))
    assert len(store.read(str(one))) == 2


def test_an_earlier_profile_without_newer_columns_is_compared(tmp_path):
    writer = store.Writer(tmp_path, {"device": "CPU:0"})
    writer.add(timed(0.010, noise=0.02))
    writer.finish([])
    (file,) = (tmp_path / "kernels").glob("*.parquet")
    table = pq.read_table(file).drop_columns(["copy_noise", "matmul_share"])
    pq.write_table(table, file)
    found = compare(store.read(str(tmp_path)), frame([timed(0.020)]))
    assert found.table["verdict"].tolist() == ["slower"]
    assert found.table["noise"].tolist() == [LEAST]


def test_a_folder_without_rows_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="holds no profile"):
        store.read(str(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (0.010, 0.0104, "same"),
        (0.010, 0.013, "slower"),
        (0.013, 0.010, "faster"),
    ],
)
def test_time_is_compared_beyond_noise(old, new, expected):
    assert verdict_of(timed(old), timed(new)) == expected


def test_noise_of_both_runs_hides_a_change():
    assert verdict_of(timed(0.010, noise=0.2), timed(0.013, noise=0.2)) == "same"


def test_a_machine_that_is_slower_as_a_whole_is_no_regression():
    assert verdict_of(timed(0.010), timed(0.020, copy_gigabytes_per_second=15.0)) == "same"
    assert verdict_of(timed(0.010), timed(0.010, copy_gigabytes_per_second=60.0)) == "slower"


@pytest.mark.parametrize("seconds", [0.004, 0.010, 0.030])
@pytest.mark.parametrize("doubt", [{"noise": 0.2}, {"copy_noise": 0.2}, {"windows": 5}])
def test_passes_are_judged_whatever_a_noisy_time_says(seconds, doubt):
    one, three = timed(0.010, **doubt), timed(seconds, passes=3.0)
    assert verdict_of(one, three) == "more passes"
    assert verdict_of(three, one) == "fewer passes"


def test_on_quiet_machines_time_decides():
    one, three = timed(0.010), timed(0.004, passes=3.0)
    assert verdict_of(one, three) == "faster"
    assert verdict_of(three, one) == "slower"
    assert verdict_of(one, timed(0.010, passes=3.0)) == "more passes"


def test_comparison_takes_the_latest_and_counts_what_is_missing():
    old = frame([timed(0.020), timed(0.010, measured_at=START + timedelta(hours=1))])
    new = frame([timed(0.010), row(optimizer="lion"), row(implementation="flat", status="failed")])
    found = compare(old, new)
    assert found.table["verdict"].tolist() == ["same"]
    assert (found.only_old, found.only_new) == (0, 1)


@settings(deadline=None)
@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_comparison_is_antisymmetric(a, b):
    mirrored = {"slower": "faster", "faster": "slower", "same": "same"}
    assert verdict_of(timed(a), timed(b)) == mirrored[verdict_of(timed(b), timed(a))]


def test_verdicts_say_what_limits_an_update():
    said = words.verdict(vars(row()))
    assert said == "memory-bound at 93% of copy"
    named = ["a_fusion", "b_fusion", "c_fusion"]
    said = words.verdict(vars(row(copy_share=0.6, passes=3.0, kernel_names=named)))
    assert said == "3 passes where 1 would do (60% of copy): a_fusion, b_fusion, c_fusion"
    assert words.verdict(vars(row(status="skipped", detail="no memory"))) == "no memory"
    assert "one pass at 50% of copy" in words.verdict(vars(row(copy_share=0.5)))
    assert "not known" in words.verdict(vars(row(copy_share=0.5, passes=None)))
    assert "not compiled" in words.verdict(vars(row(implementation="eager", copy_share=0.1, passes=None)))
    assert "too small" in words.verdict(vars(row(update_seconds=1e-5)))
    assert "too small" in words.verdict(vars(row(bytes_moved=28_000)))


def test_noise_is_said():
    assert words.noisy(frame([row(noise=0.01)])) == ""
    assert "20%" in words.noisy(frame([row(noise=0.2)]))


def test_best_paths_set_ours_against_the_fastest_peer():
    rows = [
        timed(0.010),
        timed(0.008, implementation="flat"),
        timed(0.020, implementation="keras_jit"),
        timed(0.016, implementation="optax"),
    ]
    best = words.best_paths(frame(rows)).iloc[0]
    assert best["ours"] == words.WORDS["flat"]
    assert best["peer"] == words.WORDS["optax"]
    assert best["speed_up"] == pytest.approx(2.0)


@settings(deadline=None)
@given(st.integers(1, 10**7), st.integers(1, 200))
def test_layouts_have_the_tensors_and_about_the_parameters(parameters, tensors):
    if tensors > parameters:
        return
    for layout in (shapes.uniform(parameters, tensors), shapes.network(parameters, tensors)):
        assert layout.tensors == tensors
        assert abs(layout.parameters - parameters) <= tensors


def test_a_network_has_few_large_and_many_small_tensors():
    sizes = [shape[0] for shape in shapes.network(1_000_000, 50).shapes]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes[:10]) > 0.7 * sum(sizes)


def test_shapes_come_from_files(tmp_path):
    (tmp_path / "net.json").write_text(json.dumps([[784, 32], [32], []]))
    layout = shapes.from_file(tmp_path / "net.json")
    assert layout.shapes == ((784, 32), (32,), ())
    assert layout.parameters == 784 * 32 + 32 + 1
    (tmp_path / "net.yaml").write_text("kernel: [3, 3]\nbias: [3]\n")
    assert shapes.from_file(tmp_path / "net.yaml").parameters == 12
    (tmp_path / "bad.json").write_text('["a"]')
    with pytest.raises(UsageError, match="list of shapes"):
        shapes.from_file(tmp_path / "bad.json")
    with pytest.raises(UsageError, match="cannot read"):
        shapes.from_file(tmp_path / "none.json")


def test_a_page_is_drawn_from_rows_alone(tmp_path):
    rows = [
        replace(row(), implementation=name, parameters=size, tensors=tensors)
        for name in ("eager", "xla_in_place", "flat", "optax")
        for size in (10_000, 10_000_000)
        for tensors in (1, 100)
    ]
    writer = store.Writer(tmp_path, {"device": "CPU:0", "device_name": "made", "threads": 2, "versions": {}})
    for each in [*rows, row(implementation="keras", status="failed", detail="a sentence <b>")]:
        writer.add(each)
    writer.finish([StepRow("digits_mlp", "adam", "CPU:0", "float32", 10, "update", 1e-3, 9e-4, 2e-3, 5, 0.5)])
    page = draw(tmp_path).read_text()
    assert "93% of copy" in page
    assert "a sentence &lt;b&gt;" in page
    assert "digits_mlp" in page
    for name in ("roofline", "growth", "implementations"):
        drawn = (tmp_path / "report" / "figures" / f"kernels-{name}.svg").read_text()
        assert drawn.startswith("<svg") and "</svg>" in drawn
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_each_place_has_figures_of_its_own(tmp_path):
    """A cluster's types of nodes are not mixed: not in figures, not in best paths, not in comparisons."""
    writer = store.Writer(tmp_path, {"device": "CPU:0", "device_name": "made", "threads": 2, "versions": {}})
    places = [{}, {"device": "GPU:0", "device_name": "card", "threads": 1, "update_seconds": 0.001}]
    for place in places:
        for name in ("xla_in_place", "optax"):
            writer.add(row(implementation=name, **place))
    writer.finish([])
    page = draw(tmp_path).read_text()
    assert "Roofline: CPU:0, made, 2 threads" in page
    assert "Roofline: GPU:0, card" in page
    assert (tmp_path / "report" / "figures" / "kernels-roofline-2.svg").is_file()
    rows = store.read(str(tmp_path))
    assert words.best_paths(rows)["device_name"].tolist() == ["made", "card"]
    assert len(compare(rows, rows).table) == 4
