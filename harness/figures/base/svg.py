"""Figures as small SVG: stand-in colours become CSS variables, panels and legends become one drawing.

Panels go into the page one by one, so that a phone shows them under one another at a readable size; the
file beside the page holds them all in one grid, with the variables of both themes inside it.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Sequence
from html import escape

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from .drawing import Drawing, Item, Panel
from .theme import DARK, LEVELS, LIGHT, PAGE, THEMES, Theme, role

FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"
# `savefig` reads two settings from matplotlib's global ones; they are changed one thread at a time.
_SETTINGS = threading.Lock()
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
_PROLOGUE = re.compile(r"^.*?<svg[^>]*>|</svg>\s*$|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_STYLE = re.compile(r"<defs>\s*<style type=\"text/css\">.*?</style>\s*</defs>", re.DOTALL)
_LABEL = re.compile(r"(?<=>)[^<]+(?=</text>)")
_BETWEEN = re.compile(r">\s+<")
_FAMILY = re.compile(r" font-family: [^;\"]*;")
_DIGITS = re.compile(r"(?<=\.\d\d)\d+")
_LONG = re.compile(r' d="([MLz\d\s.\-]{1500,})"')
_COLOUR = re.compile(r"(?<=: )#f[67][0-9a-f]{4}")
_STYLES = re.compile(r' style="[^"]*"')
_STILL = re.compile(r' transform="rotate\(-0 [^"]*\)"')
_ID = re.compile(r' id="([^"]*)"')
_USED = re.compile(r'url\(#([^)]*)\)|href="#([^"]*)"')
_REPEATED = re.compile(
    r'<use href="([^"]*)" x="[^"]*" y="[^"]*" style="([^"]*)"/>'
    r'(?:<use href="\1" x="[^"]*" y="[^"]*" style="\2"/>)+'
)
_EMPTY = re.compile(r"<g\b[^>]*/>|<g>\s*</g>|<defs>\s*</defs>")


def body(figure: Figure, key: str) -> str:
    """What is inside the `<svg>` of a figure drawn with `PAGE`: variables for colours, ids of its own."""
    buffer = io.StringIO()
    # The salt makes ids, and so the file, the same in every process.
    with _SETTINGS, matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_METADATA)
    return tidy(buffer.getvalue(), key)


def tidy(text: str, key: str) -> str:
    """Matplotlib's SVG text without prologue, fonts, idle ids and idle digits; labels stay as they are."""
    text = _STYLE.sub("", _PROLOGUE.sub("", text))
    labels = _LABEL.findall(text)
    text = _LABEL.sub("\0", text)
    text = _FAMILY.sub("", text).replace("xlink:href", "href")
    text = _LONG.sub(lambda m: f' d="{shrink(m[1])}"', _STILL.sub("", text))
    text = _DIGITS.sub("", text)
    text = _COLOUR.sub(_variable, text)
    used = {a or b for a, b in _USED.findall(text)}
    names = {name: f"{key}-{i:x}" for i, name in enumerate(sorted(used))}
    text = _ID.sub(lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", text)
    text = _USED.sub(lambda m: m[0].replace(m[1] or m[2], names[m[1] or m[2]]), text)
    text = _BETWEEN.sub("><", text)
    for long, short in ((" \nL ", "L"), (" \nC ", "C"), (" \nz", "z"), ("\n", " "), ('"M ', '"M')):
        text = text.replace(long, short)
    text = _STYLES.sub(lambda m: m[0].replace(": ", ":").replace("; ", ";"), text)
    text = _REPEATED.sub(_hoisted, text)
    previous = None
    while previous != text:
        previous, text = text, _EMPTY.sub("", text)
    kept = iter(labels)
    return re.sub("\0", lambda _: next(kept), text).strip()


def _hoisted(match: re.Match[str]) -> str:
    """Equal signs in a row, their style said once."""
    style = f' style="{match[2]}"'
    return f"<g{style}>{match[0].replace(style, '')}</g>"


def shrink(data: str) -> str:
    """A long path of straight lines, in tenths of a point and relative to the point before."""
    out = []
    for part in data.split("M")[1:]:
        closed = "z" in part
        numbers = np.array(part.replace("L", " ").replace("z", " ").split(), dtype=float)
        spots = np.rint(numbers.reshape(-1, 2) * 10).astype(int)
        steps = np.diff(spots, axis=0)
        steps = steps[steps.any(1)]
        if len(steps):
            moves = " ".join(f"{x / 10:g} {y / 10:g}" for x, y in steps.tolist()).replace(" -", "-")
            out.append(f"M{spots[0, 0] / 10:g} {spots[0, 1] / 10:g}l{moves}" + "z" * closed)
    return "".join(out)


def _variable(match: re.Match[str]) -> str:
    name = role(match[0])
    return f"var({name})" if name else match[0]


def paint(colour: str) -> str:
    """A colour for CSS: the variable where it is a stand-in, else itself."""
    name = role(colour)
    return f"var({name})" if name else colour


def variables(theme: Theme) -> str:
    """CSS declarations of every colour of a theme."""
    return ";".join(f"{name}:{colour}" for name, colour in theme.variables().items())


def inline(panel: Panel, inside: str) -> str:
    """A panel, drawn by `body`, as an `<svg>` element for the page, named for screen readers."""
    width, height = (72 * side for side in panel.figure.get_size_inches())
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(panel.alt)}" '
        f'style="--width:{width:g}">{inside}{panel.overlay}</svg>'
    )


def outline(marker: str, size: float) -> str:
    """SVG path data of a matplotlib marker, centred at the origin, `size` points wide."""
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    letters = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C"}
    parts = []
    for points, code in path.iter_segments(simplify=False, curves=True):
        if code == Outline.CLOSEPOLY:
            parts.append("Z")
            continue
        numbers = " ".join(f"{v * size * (-1) ** i:.2f}" for i, v in enumerate(points))
        parts.append(letters[code] + numbers)
    return "".join(parts)


def swatch(item: Item) -> tuple[str, float]:
    """The sign before a legend's text, within 12 points of height, and its width in points."""
    colour = paint(item.colour)
    if item.kind == "ramp":
        step = 96 / LEVELS
        cells = "".join(
            f'<rect x="{i * step:g}" y="1.5" width="{step + 0.3:g}" height="9" fill="{paint(c)}"/>'
            for i, c in enumerate(item.ramp)
        )
        return cells, 96
    if item.kind in ("patch", "hatch"):
        edge = 'stroke="var(--muted)" stroke-width=".5"'
        fill = f'<rect x=".5" y="1.5" width="13" height="9" fill="{colour}" {edge}/>'
        if item.kind == "hatch":
            lines = 'd="M1 10L9.5 1.5M5 10.5L13.5 2M1 6L5 2" fill="none"'
            fill += f'<path {lines} stroke="var(--alarm)" stroke-width=".8"/>'
        return fill, 14
    out = ""
    if item.kind in ("line", "look"):
        dash = f' stroke-dasharray="{",".join(f"{d * 1.5:g}" for d in item.dash)}"' if item.dash else ""
        out = f'<path d="M0 6H22" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'
    if item.marker:
        centre = 11 if item.kind in ("line", "look") else 5
        hollow = item.kind == "hollow"
        fill = "var(--paper)" if hollow else colour
        line = 1.0 if hollow or item.marker in "x+|_" else 0.6
        edge = colour if hollow or item.marker in "x+|_" else "var(--paper)"
        data = outline(item.marker, 6.4)
        out += (
            f'<path transform="translate({centre} 6)" d="{data}" fill="{fill}" '
            f'stroke="{edge}" stroke-width="{line}"/>'
        )
    return out, 22 if item.kind in ("line", "look") else 10


def _legend(items: Sequence[Item], width: float, top: float) -> tuple[str, float]:
    """Legend of the composed file: rows of swatches and texts; returns it and its height."""
    x, y, parts = 8.0, top, []
    for item in items:
        sign, wide = swatch(item)
        before = 4.4 * len(item.before) + 4 if item.before else 0
        need = before + wide + 5 + 4.7 * len(item.text) + 12
        if x > 8 and x + need > width:
            x, y = 8.0, y + 14
        if before:
            parts.append(_text(x, y + 8.6, item.before, 7.5))
        parts.append(f'<g transform="translate({x + before:g} {y:g})">{sign}</g>')
        parts.append(_text(x + before + wide + 5, y + 8.6, item.text, 7.5))
        x += need
    return "".join(parts), (y - top + 18) if items else 0.0


def _text(x: float, y: float, text: str, size: float, weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" style="font-size:{size:g}px;font-weight:{weight};'
        f'fill:var(--ink)">{escape(text)}</text>'
    )


def compose(drawing: Drawing, drawn: Sequence[str]) -> str:
    """All panels of a drawing in one standalone SVG document, title and legend above them.

    Args:
        drawing: the words and sizes.
        drawn: what `body` gave for each panel.
    """
    sizes = [tuple(72 * float(s) for s in p.figure.get_size_inches()) for p in drawing.panels]
    columns = min(drawing.columns, len(sizes)) or 1
    cell = max((w for w, _ in sizes), default=240.0)
    width = max(columns * cell + (columns - 1) * 14, 16 + 7.4 * len(drawing.title))
    head = _text(8, 16, drawing.title, 11, 700)
    legend, tall = _legend(drawing.legend, width, 26)
    y = 28 + tall
    parts = []
    for start in range(0, len(sizes), columns):
        row = range(start, min(start + columns, len(sizes)))
        for column, i in enumerate(row):
            w, h = sizes[i]
            x = column * (cell + 14)
            parts.append(
                f'<svg x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" viewBox="0 0 {w:g} {h:g}">'
                f"{drawn[i]}{drawing.panels[i].overlay}</svg>"
            )
        y += max(sizes[i][1] for i in row) + 10
    both = f":root{{{variables(LIGHT)}}}@media (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
    own = both if drawing.theme == PAGE.name else f":root{{{variables(THEMES[drawing.theme])}}}"
    style = f"{own}svg{{font-family:{FONTS}}}*{{stroke-linejoin:round;stroke-linecap:butt}}{drawing.style}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y:g}" width="{width:g}pt" '
        f'height="{y:g}pt" role="img" aria-label="{escape(drawing.title)}"><style>{style}</style>'
        f"<title>{escape(drawing.title)}</title><desc>{escape(drawing.caption)}</desc>"
        f'<rect width="100%" height="100%" fill="var(--paper)"/>{head}{legend}{"".join(parts)}</svg>\n'
    )
