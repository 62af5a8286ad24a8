from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.figures import ReportData, catalogue
from harness.report import render
from harness.report.tables import TABLES, csv, tables
from harness.results import REPORTED

from .studies import DEGENERATE, HOSTILE, Study, whole

VOID = {"meta", "link", "input", "br", "hr", "img"}
# SVG elements that browsers accept self-closed inside HTML.
CLOSED = {"path", "rect", "use", "circle", "line", "ellipse"}


class Page(HTMLParser):
    """Collects what the tests ask about, and checks that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.unnamed: list[str] = []
        self.scripts = 0
        self.text = ""
        self.headings: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        given = {key: value or "" for key, value in attrs}
        if "id" in given:
            self.ids.append(given["id"])
        self.links += [given[k] for k in ("href", "src", "srcset", "xlink:href", "action") if given.get(k)]
        if tag == "script":
            self.scripts += 1
        named = given.get("aria-label") or given.get("alt") or given.get("aria-hidden") == "true"
        if tag in ("img", "svg") and not named:
            self.unnamed.append(str(attrs))
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            assert tag in CLOSED, f"<{tag}/> is not closed in HTML"
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data


def made_report(study: Study, out: Path, **options) -> tuple[str, Page]:
    path = render(*study, out, **options)
    assert path == out / "index.html"
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    render(*whole(), out)
    return out


@pytest.fixture(scope="module")
def page(folder) -> Page:
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def test_the_page_holds_every_figure_and_table(folder, page):
    for name in catalogue():
        key = name.replace("_", "-")
        assert key in page.ids
        assert (folder / "figures" / f"{key}.svg").exists()
        assert f"figures/{key}.svg" in page.links
    for name in TABLES:
        assert f"tables/{name}.csv" in page.links


def test_every_picture_has_a_name_and_ids_are_unique(page):
    assert page.unnamed == []
    assert len(page.ids) == len(set(page.ids))


def test_every_link_stays_in_the_folder(folder, page):
    for link in page.links:
        assert not re.match(r"^(https?:)?//", link), link
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        elif not link.startswith("data:"):
            assert (folder / link).is_file(), link


def test_nothing_is_loaded_from_anywhere(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "http" not in re.sub(r'xmlns="http://www.w3.org/2000/svg"', "", text)
    assert "@import" not in text
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)
    for path in (folder / "figures").iterdir():
        drawn = path.read_text(encoding="utf-8")
        assert "http" not in drawn.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_headings_come_in_order(page):
    assert page.headings[0] == "h1"
    assert page.headings.count("h1") == 1
    for before, after in zip(page.headings, page.headings[1:], strict=False):
        assert int(after[1]) <= int(before[1]) + 1


def test_the_answer_comes_first(page):
    order = [page.ids.index(name) for name in ("answer", "claims", "figures", "provenance")]
    assert order == sorted(order)
    names = list(catalogue())
    places = [page.ids.index(n.replace("_", "-")) for n in names]
    assert places == sorted(places)


def test_standalone_figures_are_well_formed_and_follow_both_themes(folder):
    for path in sorted((folder / "figures").iterdir()):
        root = ET.parse(path).getroot()
        assert root.attrib["aria-label"]
        text = path.read_text(encoding="utf-8")
        assert "prefers-color-scheme:dark" in text
        used = set(re.findall(r"var\((--[\w-]+)\)", text))
        defined = set(re.findall(r"(--[\w-]+):", text))
        assert used <= defined, path.name


def test_every_css_variable_of_the_page_is_defined(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used <= set(re.findall(r"(--[\w-]+):", text))


def test_tables_parse_back_to_the_aggregates(folder):
    expected = tables(ReportData(*whole()))
    for name, frame in expected.items():
        path = folder / "tables" / f"{name}.csv"
        read = pd.read_csv(path, keep_default_na=False, na_values={c: [""] for c in numeric(frame)})
        assert list(read.columns) == list(frame.columns), name
        for column in frame:
            if column in numeric(frame):
                np.testing.assert_array_equal(read[column].astype(float), frame[column].astype(float))
            else:
                assert [str(v) for v in read[column]] == [str(v) for v in frame[column]], (name, column)


def numeric(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame if frame[c].dtype.kind in "fiu"]


def test_a_report_made_twice_is_the_same_to_the_byte(folder, tmp_path):
    study = whole()
    shuffled = study._replace(
        cells=study.cells.sample(frac=1, random_state=3), curves=study.curves.sample(frac=1, random_state=4)
    )
    render(*shuffled, tmp_path)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Callable[[str], tuple[Path, str, Page]]:
    """Name of an odd study -> (folder, text, page) of its report, made once."""

    @cache
    def make(name: str) -> tuple[Path, str, Page]:
        out = tmp_path_factory.mktemp("odd")
        return out, *made_report(DEGENERATE[name](), out)

    return make


@pytest.mark.parametrize("name", DEGENERATE)
def test_the_report_survives_every_odd_study(name, odd):
    folder, _, page = odd(name)
    assert page.unnamed == []
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link.startswith(("#", "data:")) or (folder / link).is_file(), link
    assert "NaN" not in page.text
    assert not re.search(r"\bnan\b", page.text)


def test_what_is_absent_is_said(odd):
    folder, _, page = odd("no curves")
    assert "No loss curves were stored with these rows." in page.text
    assert not (folder / "figures" / "loss-curves.svg").exists()


def test_an_earlier_report_leaves_nothing_behind_and_other_files_stay(tmp_path):
    study = DEGENERATE["one workload"]()
    render(*study, tmp_path)
    assert (tmp_path / "figures" / "loss-curves.svg").exists()
    (tmp_path / "tables" / "kernels.csv").write_text("of a run with the profiler\n")
    (tmp_path / "notes.txt").write_text("mine")
    render(*study._replace(curves=study.curves.iloc[:0]), tmp_path)
    assert not (tmp_path / "figures" / "loss-curves.svg").exists()
    assert not (tmp_path / "tables" / "kernels.csv").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_a_partial_run_carries_a_banner(tmp_path):
    study = DEGENERATE["one cell"]()
    text, page = made_report(study, tmp_path, total_cells=101)
    assert "Partial run: 1 of 101 cells." in page.text
    text, page = made_report(study, tmp_path, total_cells=1)
    assert "Partial run" not in page.text
    assert 'class="banner"' not in text
    _, page = made_report(study, tmp_path, complete=False)
    assert "Partial run: 1 cell so far." in page.text


def test_hostile_labels_are_text(odd):
    folder, text, page = odd("hostile labels")
    assert page.scripts == 1
    assert "<script>alert" not in text
    assert HOSTILE in page.text
    for path in (folder / "figures").iterdir():
        root = ET.parse(path).getroot()
        assert not [e for e in root.iter() if e.tag.endswith("script")]


def test_failed_rows_show_their_reason(odd):
    _, text, page = odd("all failed")
    assert "ValueError: <b>no</b>" in page.text
    assert "<b>no</b>" not in text


def test_the_headline_answers(page):
    data = ReportData(*whole())
    won = data.recommendations[np.isfinite(data.recommendations.steps_to_target)]
    best = won.optimizer.value_counts()
    assert "Fastest to the target:" in page.text
    assert re.search(rf"{best.index[0]} on {best.iloc[0]} of {len(data.workloads)} workloads", page.text)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("empty", "No run has finished yet: there is nothing to compare."),
        ("all diverged", "No optimizer brings most seeds to the target on any workload."),
        ("one optimizer", "adam brings most seeds to the target on"),
    ],
)
def test_the_headline_of_odd_studies(name, sentence, odd):
    _, _, page = odd(name)
    assert sentence in page.text


def test_csv_keeps_every_digit():
    frame = pd.DataFrame({"value": [1 / 3, np.inf, np.nan], "label": ['a,"b"', "", "c\nd"]})
    read = pd.read_csv(io.StringIO(csv(frame)), keep_default_na=False, na_values={"value": [""]})
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)


def test_two_reports_at_once_do_not_disturb_each_other(folder, tmp_path):
    study = DEGENERATE["one workload"]()
    failures = []

    def make(name: str) -> None:
        try:
            render(*study, tmp_path / name)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=make, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    one, other = ((tmp_path / n / "index.html").read_bytes() for n in ("one", "other"))
    assert one == other


def test_the_report_imports_no_tensorflow_and_no_ray():
    code = "import sys, harness.report; assert not {'tensorflow', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_report_needs_no_more_of_the_rows_than_it_reads(folder, tmp_path):
    study = whole()
    asked: list[str] = []

    def curves_of(ids):
        asked.extend(ids)
        return study.curves[study.curves.cell_id.isin(list(ids))]

    cells = study.cells[[name for name in study.cells if name in REPORTED]]
    render(cells, curves_of, *study[2:], tmp_path)
    assert 0 < len(set(asked)) < len(study.cells)
    assert (tmp_path / "index.html").read_bytes() == (folder / "index.html").read_bytes()
    for name in TABLES:
        one, other = ((f / "tables" / f"{name}.csv").read_bytes() for f in (folder, tmp_path))
        assert one == other, name
