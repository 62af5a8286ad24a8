"""Colours, markers and dashes: one look per optimizer, the same in every figure and in both themes.

A figure is drawn once, with the colours of `PAGE`: stand-ins, one per role, which `svg` replaces with CSS
variables, so that one drawing serves the light and the dark page. `LIGHT` and `DARK` hold real colours, for
notebooks and slides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

# Eight hues that stay apart for deuteranopes, protanopes and most tritanopes, checked in OKLab after
# Machado's simulation; contrast with the page is at least 3:1 in both themes.
_LIGHT_HUES = ("#3a4bc8", "#d4700a", "#009c94", "#9a2a62", "#6d6a05", "#2484b8", "#d4567f", "#8f7bf0")
_DARK_HUES = ("#7d8bff", "#f39a35", "#35dccb", "#d568a0", "#e3d95f", "#45b6ec", "#ffaabf", "#cdc8ff")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "*", "<", ">", "h")
DASHES: tuple[tuple[float, ...] | None, ...] = (
    None,
    (4.2, 1.5),
    (5.6, 1.3, 1.3, 1.3),
    (1.3, 1.1),
    (8.0, 2.0),
    (3.0, 1.2),
    (6.0, 1.5, 1.4, 1.5, 1.4, 1.5),
    (2.6, 2.6),
)
LEVELS = 12  # steps of a sequential ramp


@dataclass(frozen=True)
class Theme:
    """The colours of one theme, by role.

    Args:
        ink, muted, faint: text; labels and ticks; hairlines and grids.
        paper: what lies behind a figure.
        alarm, good: diverged or failed; reached.
        hues: optimizers, in order.
        ramp: sequential, from next to the paper to far from it [LEVELS].
        alarms: sequential, from next to the paper to alarm [LEVELS].
        terrain: contour bands, from the lowest ground to the highest [LEVELS].
        on_ramp, on_alarms: text that reads best on each colour of `ramp` and `alarms` [LEVELS].
    """

    name: str
    ink: str
    muted: str
    faint: str
    paper: str
    alarm: str
    good: str
    hues: tuple[str, ...]
    ramp: tuple[str, ...]
    alarms: tuple[str, ...]
    terrain: tuple[str, ...]
    on_ramp: tuple[str, ...] = ()
    on_alarms: tuple[str, ...] = ()

    def variables(self) -> dict[str, str]:
        """CSS variable name -> colour, every role of the theme."""
        out: dict[str, str] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                out.update({f"--{item.name}-{i}": colour for i, colour in enumerate(value)})
            elif item.name != "name":
                out[f"--{item.name}"] = value
        return out


def _blend(stops: Sequence[str], count: int = LEVELS) -> tuple[str, ...]:
    """`count` colours evenly along straight lines between the stops (sRGB)."""
    rgb = [tuple(int(stop[i : i + 2], 16) for i in (1, 3, 5)) for stop in stops]
    out = []
    for k in range(count):
        place = k * (len(rgb) - 1) / (count - 1)
        low = min(int(place), len(rgb) - 2)
        share = place - low
        mixed = (round(a + (b - a) * share) for a, b in zip(rgb[low], rgb[low + 1], strict=True))
        out.append("#{:02x}{:02x}{:02x}".format(*mixed))
    return tuple(out)


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _with_texts(theme: Theme) -> Theme:
    """The theme with the better of black and white for every colour of its ramps: at least 4.5 to 1."""

    def texts(ramp: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(max(("#000000", "#ffffff"), key=lambda text: contrast(text, c)) for c in ramp)

    return replace(theme, on_ramp=texts(theme.ramp), on_alarms=texts(theme.alarms))


LIGHT = Theme(
    name="light",
    ink="#1d2027",
    muted="#5b616e",
    faint="#dfe1e7",
    paper="#ffffff",
    alarm="#c3272b",
    good="#1a7f4b",
    hues=_LIGHT_HUES,
    ramp=_blend(("#eef3fb", "#b5cdf0", "#6f9ede", "#3a63bd", "#1f2f77")),
    alarms=_blend(("#fbf1ee", "#f3bfae", "#e0806c", "#b93a35", "#6f1520")),
    terrain=_blend(("#9fbad8", "#c4d6e8", "#e2ebf4", "#f6f9fc")),
)
DARK = Theme(
    name="dark",
    ink="#e8eaf0",
    muted="#a3a9b8",
    faint="#323743",
    paper="#16181d",
    alarm="#ff7a70",
    good="#5fd19a",
    hues=_DARK_HUES,
    ramp=_blend(("#20252f", "#2b4170", "#416cb8", "#74a0ea", "#bcd5ff")),
    alarms=_blend(("#2a2224", "#5e2a2a", "#98403a", "#cf6052", "#f0917d")),
    terrain=_blend(("#46648c", "#2f4462", "#222c3d", "#1a1e26")),
)


LIGHT, DARK = _with_texts(LIGHT), _with_texts(DARK)


def _stand_ins() -> Theme:
    """A theme of colours that nothing else uses: `#f<role><index>` in hexadecimal."""
    values: dict[str, str | tuple[str, ...]] = {}
    for role, item in enumerate(fields(Theme)):
        template = getattr(LIGHT, item.name)
        if isinstance(template, tuple):
            values[item.name] = tuple(f"#f7{role:02x}{i:02x}" for i in range(len(template)))
        else:
            values[item.name] = f"#f6{role:02x}f6"
    return Theme(**{**values, "name": "page"})  # type: ignore[arg-type]


PAGE = _stand_ins()
THEMES = {theme.name: theme for theme in (LIGHT, DARK, PAGE)}
_ROLES = {colour: name for name, colour in PAGE.variables().items()}


def role(colour: str) -> str | None:
    """CSS variable that a stand-in colour of `PAGE` means; None for any other colour."""
    return _ROLES.get(colour.lower())


@dataclass(frozen=True)
class Look:
    """How one optimizer looks, everywhere: `hue` is a position in `Theme.hues`."""

    hue: int
    marker: str
    dash: tuple[float, ...] | None

    def colour(self, theme: Theme) -> str:
        return theme.hues[self.hue]


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """A look per label, in the order given: hue, marker and dash together never repeat within 96 labels."""
    out = {}
    for i, label in enumerate(labels):
        turn = i // len(_LIGHT_HUES)  # with every turn through the hues the dashes move on by three
        dash = DASHES[(i + 3 * turn) % len(DASHES)]
        out[label] = Look(i % len(_LIGHT_HUES), MARKERS[i % len(MARKERS)], dash)
    return out


def plainer(label: str) -> str:
    """A label without what says least: a plug-in's folder, the `.0` of whole numbers, `=True`."""
    name = label[label[: label.find(".py:") + 1].rfind("/") + 1 :] if ".py:" in label else label
    return re.sub(r"(?<=\d)\.0(?=[,)\]])", "", name).replace("=True", "")


def shorten(labels: Sequence[str], width: int) -> dict[str, str]:
    """Label -> at most `width` characters, cut in the middle; numbered where two would look alike."""
    out: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        name = plainer(label)
        short = name
        if len(name) > width:
            head = (width - 1) * 3 // 5
            short = name[:head] + "…" + name[len(name) - (width - 1 - head) :]
        number = 2
        while short in taken:
            mark = f"…{number}"
            short = name[: width - len(mark)] + mark
            number += 1
        taken.add(short)
        out[label] = short
    return out
