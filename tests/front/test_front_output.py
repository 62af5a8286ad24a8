"""What commands print: progress, tables, numbers; signals."""

import io
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import cli
from harness.cli import _output, _progress, _recommend, _signals
from harness.types import Progress

ROOT = Path(cli.__file__).resolve().parents[2]


# --- progress ------------------------------------------------------------------------------------


def test_speed_is_taken_over_the_last_seconds():
    speed = _progress.Speed()
    assert speed.steps_per_second == 0.0
    for second in range(100):
        speed.add(Progress(1000, cells_done=second, steps_done=second**2), float(second))
    window = _progress.WINDOW
    start = 99 - window
    assert speed.steps_per_second == pytest.approx((99**2 - start**2) / window)


def test_time_left_does_not_count_what_an_earlier_run_did():
    speed = _progress.Speed()
    resumed = Progress(cells_total=1000, cells_done=900)
    speed.add(resumed, 50.0)
    assert speed.seconds_left(resumed, 60.0) is None
    later = Progress(cells_total=1000, cells_done=925)
    speed.add(later, 75.0)
    assert speed.seconds_left(later, 75.0) == pytest.approx(75.0)
    assert speed.seconds_left(later, 100.0) == pytest.approx(150.0)


def test_details_say_what_there_is_to_say():
    counts = {"converged": 1200, "diverged": 3, "budget": 7}
    speed = _progress.Speed()
    assert _progress.details(Progress(10, 0), speed, 0.0) == ["at target 0", "diverged 0"]
    speed.add(Progress(2000, 0), 0.0)
    done = Progress(2000, 1210, counts, steps_done=5_000_000)
    speed.add(done, 10.0)
    assert _progress.details(done, speed, 10.0) == [
        "at target 1,200",
        "diverged 3",
        "121 cells/s",
        "500,000 cell-steps/s",
        "7 s left",
    ]
    busy = Progress(2000, 2000, {"failed": 2}, compiling=3, retries=1, message="halved a tile")
    parts = _progress.details(busy, speed, 10.0)
    assert {"failed 2", "compiling 3", "retried 1", "halved a tile"} <= set(parts)
    assert not any("left" in part for part in parts)
    assert not any("tile" in part and "halved" not in part for part in parts)
    spread = Progress(2000, 1210, tiles_total=1_200, tiles_done=900, workers=64, steps_done=5_000_000)
    assert {"900/1,200 tiles", "64 workers"} <= set(_progress.details(spread, speed, 10.0))


def test_plain_lines_come_at_intervals_and_at_the_end(capsys):
    with _progress.PlainView("s", interval=0.05) as view:
        view(Progress(100, 10))
        time.sleep(0.4)
        first = capsys.readouterr().err
        view(Progress(100, 100, {"converged": 100}))
    last = capsys.readouterr().err
    assert first == "s: 10/100 cells (10%), at target 0, diverged 0\n"  # once: nothing changed since
    assert last.startswith("s: 100/100 cells (100%), at target 100")
    assert last.count("\n") == 1


def test_nothing_reported_prints_nothing(capsys):
    with _progress.PlainView("s"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", [_progress.PlainView, _progress.LiveView])
def test_reports_may_come_from_many_threads(kind, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    errors = []

    def report(view, offset):
        try:
            for i in range(200):
                view(Progress(1000, offset + i, {"diverged": i}, steps_done=i))
        except Exception as error:
            errors.append(error)

    with kind("s") as view:
        threads = [threading.Thread(target=report, args=(view, 200 * t)) for t in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors


def test_a_terminal_gets_a_bar_and_a_log_gets_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with _progress.view("race") as view:
        view(Progress(2000, 500, {"converged": 42, "diverged": 8}, compiling=1))
    assert isinstance(view, _progress.LiveView)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "race" in text
    assert "500/2000 cells" in text
    assert "25%" in text
    assert "at target 42 · diverged 8 · compiling 1" in text
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(_progress.view("race"), _progress.PlainView)


# --- numbers and tables --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (130, "2 min 10 s"),
        (3600, "1 h"),
        (11100, "3 h 5 min"),
    ],
)
def test_durations(seconds, text):
    assert _output.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (3400, "3.4 kB"), (2.5e9, "2.5 GB"), (1e15, "1,000.0 TB")]
)
def test_sizes(count, text):
    assert _output.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (1234567, "1,234,567"),
        (1000.0, "1,000"),
        (0.00012345, "0.0001234"),
        (math.inf, "inf"),
        (True, "yes"),
        ("a", "a"),
        ([1.5, 2], "1.5, 2"),
    ],
)
def test_values_in_tables(value, text):
    assert _output.shown(value) == text


def test_json_holds_no_nan_and_reads_frames_and_numpy():
    import json

    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan], "c": ["x", None]})
    document = {
        "frame": frame,
        "inf": math.inf,
        "array": np.array([1.0, np.nan]),
        "scalar": np.int64(3),
        "na": pd.NA,
        "path": Path("x"),
    }
    made = json.loads(json.dumps(_output.jsonable(document), allow_nan=False))
    assert made == {
        "frame": [{"a": 1, "b": 0.5, "c": "x"}, {"a": 2, "b": None, "c": None}],
        "inf": None,
        "array": [1.0, None],
        "scalar": 3,
        "na": None,
        "path": "x",
    }


def test_a_table_is_never_folded_where_there_is_no_terminal(capsys):
    _output.print_table("title", ["name", "number"], [["x" * 120, 1.5], ["y", None]])
    out = capsys.readouterr().out
    assert out.startswith("title\n")
    assert "x" * 120 in out


def test_columns_are_aligned_and_lose_no_text_in_a_pipe(capsys):
    _output.print_columns([["a", "x" * 300], ["long name", "y"]], indent=2)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "  a          " + "x" * 300
    assert second == "  long name  y"


def test_recommendations_say_steps_where_the_target_is_reached_and_loss_where_not(capsys):
    import pandas as pd

    def rows(workload, optimizer, steps, loss):
        return [
            {
                "cell_id": f"{workload}{optimizer}{seed}",
                "workload": workload,
                "optimizer": optimizer,
                "learning_rate": 0.1,
                "seed": seed,
                "budget": 100,
                "status": "converged" if steps else "budget",
                "steps": 100,
                "target": 1e-3,
                "steps_to_target": float(steps + seed) if steps else math.nan,
                "steps_to_stay": float(steps + seed) if steps else math.nan,
                "best_loss": loss,
                "final_loss": loss,
                "initial_loss": 1.0,
                "metrics": {},
            }
            for seed in range(8)
        ]

    broken = rows("ackley", "adam", 0, math.nan)
    for row in broken:
        row["status"] = "failed"
    cells = pd.DataFrame(
        broken
        + rows("beale", "adam", 20, 1e-4)
        + rows("beale", "lion", 60, 1e-4)
        + rows("quartic", "adam", 0, 0.5)
        + rows("quartic", "lion", 0, 0.75)
    )
    best = _recommend.print_recommendations(cells)
    out = capsys.readouterr().out
    assert list(best["optimizer"]) == ["adam", "adam", "adam"]
    ackley, beale, quartic = (line for line in out.splitlines() if line.startswith("│ "))
    assert "every run failed" in ackley
    assert "nan" not in out
    assert "100% of 8" in beale
    assert " steps (" in beale
    assert "0% of 8" in quartic
    assert "loss 0.5" in quartic
    assert _recommend.print_recommendations(cells, show=False) is not None
    assert capsys.readouterr().out == ""


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_once(number, capfd):
    before = signal.getsignal(number)
    try:
        with pytest.raises(KeyboardInterrupt), _signals.interruptible():
            os.kill(os.getpid(), number)
            time.sleep(5)
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
        signal.signal(number, before)
    assert "what is finished is being kept" in capfd.readouterr().err


def test_without_a_signal_the_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with _signals.interruptible():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_threads_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with _signals.interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_second_signal_ends_the_process_at_once():
    code = (
        "import time\nfrom harness.cli._signals import interruptible\n"
        "with interruptible():\n"
        "    try:\n        print('ready', flush=True); time.sleep(60)\n"
        "    except KeyboardInterrupt:\n        print('stopping', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
