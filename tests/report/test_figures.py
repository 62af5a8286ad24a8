from __future__ import annotations

import ast
import base64
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.colors import is_color_like

import harness.figures
from harness.figures import DARK, LIGHT, PAGE, Drawing, ReportData, catalogue, draw
from harness.figures.base import axes, svg, theme
from harness.figures.base.axes import Scale, fit_scale
from harness.figures.base.contour import paths
from tests.metrics import made

from .studies import DEGENERATE, LONG, whole

FIGURES = list(catalogue())


@pytest.fixture(scope="module")
def data() -> ReportData:
    return ReportData(*whole())


def test_the_folder_is_the_catalogue():
    files = {p.stem for p in Path(harness.figures.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(FIGURES) == files
    orders = [module.ORDER for module in catalogue().values()]
    assert orders == sorted(orders)
    for module in catalogue().values():
        assert module.ABSENT.endswith(".")
        assert module.TITLE and module.SHORT


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_on_real_runs(data, name):
    drawing = draw(name, data, PAGE)
    assert isinstance(drawing, Drawing)
    assert drawing.panels
    assert "budget" in drawing.caption
    assert "n = " in drawing.caption or "triples" in drawing.caption
    for panel in drawing.panels:
        assert len(panel.alt) > 20
        assert panel.alt.endswith(".")
        for plot in panel.figure.axes:
            assert plot.get_xlabel()


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "odd", ["empty", "one cell", "all diverged", "negative losses", "points at infinity"]
)
def test_every_figure_survives_odd_studies(name, odd):
    """The whole list of odd studies goes through `render` in test_report; these draw figure by figure."""
    drawing = draw(name, ReportData(*DEGENERATE[odd]()), PAGE)
    for panel in drawing.panels if drawing is not None else ():
        coordinates = re.findall(r' d="([^"]*)"', svg.body(panel.figure, "k"))
        assert coordinates
        assert not [d for d in coordinates if "nan" in d or "inf" in d]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=lambda t: t.name)
def test_themes_give_real_colours(data, colours):
    drawing = draw("learning_rate", data, colours)
    assert drawing is not None
    assert {line.get_color() for line in drawing.figures[0].axes[0].lines} & set(colours.hues)


def test_an_unknown_figure_is_named(data):
    with pytest.raises(KeyError, match="no figure 'pie'"):
        draw("pie", data)


def settings() -> dict:
    """The global settings but the backend, which matplotlib resolves when it is first looked at."""
    return {k: v for k, v in matplotlib.rcParams.items() if k != "backend"}


def test_drawing_leaves_no_global_state(data):
    before = settings()
    for name in FIGURES:
        drawing = draw(name, data, PAGE)
        assert drawing is not None
        svg.body(drawing.panels[0].figure, "k")
    assert not _pylab_helpers.Gcf.figs
    assert settings() == before


def test_an_svg_has_variables_in_place_of_stand_ins(data):
    drawing = draw("learning_rate", data, PAGE)
    assert drawing is not None
    text = svg.compose(drawing, [svg.body(p.figure, f"k{i}") for i, p in enumerate(drawing.panels)])
    assert "var(--hues-0)" in text
    assert "#f7" not in text
    assert "#f603f6" not in text
    for name, colour in {**LIGHT.variables(), **DARK.variables()}.items():
        assert name in text
        assert is_color_like(colour)


def test_a_diverged_median_is_a_cross_and_never_a_point(data):
    frame = data.learning_rate_curve
    lost = frame[np.isinf(frame.value)]
    assert len(lost), "the made study has rates that diverge"
    workload = lost.workload.iloc[0]
    drawing = draw("learning_rate", data, LIGHT)
    assert drawing is not None
    plot = drawing.figures[data.workloads.index(workload)].axes[0]
    crosses = [line for line in plot.lines if line.get_marker() == "x"]
    drawn = sorted(x for line in crosses for x in np.atleast_1d(line.get_xdata()))
    assert drawn == sorted(lost[lost.workload == workload].learning_rate)


def test_a_missing_cell_stays_empty_in_the_map():
    study = whole()
    here = (study.cells.workload == "sphere") & (study.cells.optimizer == "adam")
    gone = here & (study.cells.learning_rate == study.cells.learning_rate[here].min())
    counts = []
    for cells in (study.cells, study.cells[~gone]):
        data = ReportData(cells, study.curves, study.contours, study.study)
        drawing = draw("steps_heatmap", data, LIGHT)
        assert drawing is not None
        plot = drawing.figures[data.optimizers.index("adam")].axes[0]
        counts.append(len(plot.texts))
    assert counts[1] == counts[0] - 1


def test_one_optimizer_keeps_its_look_when_others_are_missing():
    study = whole()
    all_there = ReportData(*study)
    some = ReportData(study.cells[study.cells.optimizer != "adam"], study.curves, study.contours, study.study)
    for optimizer in some.optimizers:
        assert some.looks[optimizer] == all_there.looks[optimizer]


def test_forty_optimizers_have_forty_looks():
    looks = theme.looks([f"o{i}" for i in range(96)])
    assert len(set(looks.values())) == 96
    hues = [looks[f"o{i}"].hue for i in range(8)]
    assert sorted(hues) == list(range(8))


@pytest.mark.parametrize(("paper", "hues"), [(LIGHT.paper, LIGHT.hues), (DARK.paper, DARK.hues)])
def test_hues_stand_out_from_the_page_and_from_each_other(paper, hues):
    def linear(colour: str) -> np.ndarray:
        value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)

    for hue in hues:
        assert theme.contrast(hue, paper) >= 3.0, hue
    # Deuteranopia after Machado et al. (2009), severity 1; distances in OKLab.
    eye = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    )
    to_lms = np.array(
        [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]
    )  # fmt: skip
    to_lab = np.array(
        [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
         [0.0259040371, 0.7827717662, -0.808675766]]
    )  # fmt: skip
    for see in (np.eye(3), eye):
        lab = [to_lab @ np.cbrt(to_lms @ np.clip(see @ linear(hue), 0, 1)) for hue in hues[:3]]
        gaps = [np.linalg.norm(lab[i] - lab[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        assert min(gaps) > 0.1


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=lambda t: t.name)
def test_words_can_be_read_on_every_colour(colours):
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21)
    for ramp, texts in ((colours.ramp, colours.on_ramp), (colours.alarms, colours.on_alarms)):
        assert min(theme.contrast(c, t) for c, t in zip(ramp, texts, strict=True)) >= 4.5
    assert theme.contrast(colours.ink, colours.paper) >= 12
    assert theme.contrast(colours.muted, colours.paper) >= 4.5


def test_short_labels_stay_apart():
    labels = [LONG, LONG[:-2] + "6)", LONG.replace("alpha=0.5", "alpha=0.7"), "adam"]
    short = theme.shorten(labels, 30)
    assert len(set(short.values())) == 4
    assert all(len(s) <= 30 for s in short.values())
    assert short["adam"] == "adam"
    assert theme.plainer("quadratic(condition=1000.0, rotated=True)") == "quadratic(condition=1000, rotated)"
    assert theme.plainer("momentum(momentum=0.05)") == "momentum(momentum=0.05)"


def test_a_scale_is_not_stretched_by_one_extreme_value():
    scale = fit_scale([1e-30, 1e-3, 1.0, 1e30], floor=1e-6, ceiling=1e2)
    assert scale.log
    assert scale.low > 1e-7
    assert scale.high < 1e3
    assert list(scale.clip([0.0, 1e40, np.nan])[:2]) == [scale.low, scale.high]
    assert np.isnan(scale.clip([np.nan])[0])
    assert fit_scale([-1.0, 2.0]).log is False
    assert fit_scale([2.0]) == Scale(0.2, 20.0, True)
    assert fit_scale([]) == Scale(0.0, 1.0, False)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (1e-5, 1.0, ["10⁻⁴", "10⁻²", "10⁰"]),
        (1.0, 30.0, ["1", "2", "5", "10", "20"]),
        (0.095, 0.13, ["0.1", "0.11", "0.12", "0.13"]),
    ],
)
def test_log_ticks_are_few_and_inside(low, high, texts):
    places, names = axes.log_ticks(low, high, 5)
    assert names == texts
    assert all(low <= p * 1.0001 and p <= high * 1.0001 for p in places)


@pytest.mark.parametrize(
    ("places", "texts"),
    [
        ([0.0, 0.025, 0.05], ["0.000", "0.025", "0.050"]),
        ([-4.0, -2.0, 0.0], ["−4", "−2", "0"]),
        ([0.0, 250000.0, 500000.0], ["0", "250,000", "500,000"]),
        ([-0.1, 0.0, 0.1], ["−0.1", "0.0", "0.1"]),
    ],
)
def test_ticks_have_the_decimals_that_tell_them_apart(places, texts):
    assert axes.tick_texts(places) == texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00316227766, "0.00316"),
        (1e-5, "1e−5"),
        (12400.0, "12,400"),
        (15.5, "15.5"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
        (-0.5, "−0.5"),
        (3.0, "3"),
        (2.5e7, "2.5e7"),
    ],
)
def test_numbers_are_short(value, text):
    assert axes.number(value) == text


def test_labels_with_decimals_are_not_cut(data):
    """Coordinates are written with two decimals, labels as they are."""
    figure, plot = axes.panel(PAGE, "rate 0.00316 and 12.34567")
    plot.set_xlabel("3.14159")
    text = svg.body(figure, "k")
    assert "rate 0.00316 and 12.34567" in text
    assert "3.14159" in text


def test_long_paths_keep_their_shape():
    rng = np.random.default_rng(0)
    points = np.cumsum(rng.normal(size=(400, 2)), 0)
    data = "M " + "\nL ".join(f"{x:.6f} {y:.6f}" for x, y in points) + " z"
    short = svg.shrink(data)
    assert len(short) < len(data) / 2
    head, tail = short.removeprefix("M").removesuffix("z").split("l")
    start = np.array(head.split(), dtype=float)
    steps = np.array(tail.replace("-", " -").split(), dtype=float).reshape(-1, 2)
    walked = start + np.cumsum(np.vstack([[0.0, 0.0], steps]), 0)
    spots = np.rint(points * 10) / 10
    kept = spots[np.r_[True, np.diff(spots, axis=0).any(1)]]
    np.testing.assert_allclose(walked, kept, atol=1e-6)


def test_a_path_on_the_ground_ends_where_the_target_is_reached(data):
    rows = data.cells.set_index(["workload", "optimizer", "learning_rate", "seed"])
    found = paths(data, "sphere", 2)
    assert found
    for run in found:
        reached = rows.reached[("sphere", run.optimizer, run.learning_rate, run.seed)]
        last = run.step[-1]
        assert last <= reached + made.STRIDE if np.isfinite(reached) else last == made.BUDGET


def test_figures_import_no_tensorflow_and_touch_no_pyplot():
    for path in Path(harness.figures.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not [n for n in names if n.split(".")[0] in ("tensorflow", "ray") or "pyplot" in n], path


@pytest.mark.parametrize("colours", [PAGE, LIGHT, DARK], ids=lambda t: t.name)
def test_the_notebook_view_is_one_picture_in_the_theme_asked_for(data, colours):
    drawing = draw("stability", data, colours)
    assert drawing is not None
    view = drawing._repr_html_()
    name, _, encoded = view.partition("base64,")
    assert 'alt="Parameter stability"' in name
    text = base64.b64decode(encoded.removesuffix('">')).decode()
    assert ET.fromstring(text).tag.endswith("svg")
    papers = {t.name: f"--paper:{t.paper}" in text for t in (LIGHT, DARK)}
    assert papers == {t.name: colours in (PAGE, t) for t in (LIGHT, DARK)}
