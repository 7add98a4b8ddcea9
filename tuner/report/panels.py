"""Panels of the page's plots as plain values: what stands where, in the units of an SVG, for the template to write.

A panel is about as wide as a phone, so that its text keeps its size there; a desktop shows several side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from matplotlib.ticker import LogLocator, MaxNLocator

from tuner.report import style

WIDTH, HEIGHT = 400.0, 280.0
TOP, RIGHT, BOTTOM = 14.0, 12.0, 44.0
NAMED = 30.0  # the height of a level's name and value


@dataclass(frozen=True)
class Axis:
    """Where a value stands from 0 to 1, and the ticks as (value, text)."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str = ""
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)


def linear(values: Iterable[float], label: str = "", *, whole: bool = False, ticks: int = 5) -> Axis:
    """An axis a little longer than the values; `whole`: ticks at whole numbers only."""
    seen = list(values)
    low, high = min(seen), max(seen)
    pad = 0.06 * (high - low) or (0.5 if whole else 0.05)
    low, high = low - pad, high + pad
    found = MaxNLocator(ticks, integer=whole, min_n_ticks=1).tick_values(low, high)
    return Axis(low, high, tuple((float(v), f"{v:g}") for v in found if low <= v <= high), label)


def epochs(last: int, ends: Sequence[int] = ()) -> Axis:
    """An axis of epochs from 1; with the `ends` of rungs logarithmic, so that each rung has its room."""
    last = max(2, last)
    if ends:
        ticks = sorted({1, *ends})
        return Axis(last**-0.04, last**1.04, tuple((float(e), str(e)) for e in ticks), "epoch", log=True)
    axis = linear([1, last], "epoch", whole=True, ticks=9)
    return Axis(axis.low, axis.high, tuple(t for t in axis.ticks if 1 <= t[0] <= last), "epoch")


def shares(values: Iterable[float], label: str = "") -> Axis:
    """An axis of shares in percent, none above 100 %."""
    axis = linear(values, label)
    named = tuple((v, f"{round(100 * v, 1):g}%") for v, _ in axis.ticks if v < 1.0001)
    return Axis(axis.low, min(axis.high, 1.015), named, label)


def positive(values: Iterable[float], label: str = "") -> Axis:
    """An axis of losses: from 0, unless they all lie far above it; logarithmic when they spread far."""
    seen = list(values)
    low, high = min(seen), max(seen)
    if low > high / 3:
        return linear(seen, label)
    if not 0 < style.WIDE * low < high:
        return linear([0.0, *seen], label)
    low, high = low / 1.15, high * 1.15
    found = LogLocator(subs=style.log_subs(low, high), numticks=12).tick_values(low, high)
    return Axis(low, high, tuple((float(v), f"{v:g}") for v in found if low <= v <= high), label, log=True)


@dataclass(frozen=True)
class Mark:
    """A point with the values it shows on hover and focus, parts of `tip` set off by " · "."""

    x: float
    y: float
    shape: str  # "dot", "hollow", "star" or "square"
    css: str
    tip: str
    depth: int | None = None

    @property
    def star(self) -> str:
        """The corners of a five-pointed star around the point."""
        corners = []
        for i in range(10):
            radius, angle = (8.5 if i % 2 == 0 else 3.6), math.pi * (i / 5 - 0.5)
            corners.append(f"{self.x + radius * math.cos(angle):.1f},{self.y + radius * math.sin(angle):.1f}")
        return " ".join(corners)


@dataclass(frozen=True)
class Line:
    points: str
    css: str
    tip: str = ""
    depth: int | None = None


@dataclass(frozen=True)
class Note:
    x: float
    y: float
    text: str
    css: str
    anchor: str = "start"


@dataclass
class Panel:
    """One plot. `title` stands above it, `about` is what a screen reader says instead of it."""

    title: str
    about: str
    x: Axis
    y: Axis
    left: float = 46.0
    height: float = HEIGHT
    grid: str = "y"
    bands: list[tuple[float, float, float, float, str]] = field(default_factory=list)  # x, y, width, height, css
    lines: list[Line] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    levels: list[tuple[float, str, str]] = field(default_factory=list)  # y, name, value
    width: float = WIDTH
    room: float = RIGHT  # to the right of the plot, for the names of its levels

    @property
    def right(self) -> float:
        return self.width - self.room

    @property
    def bottom(self) -> float:
        return self.height - BOTTOM

    @property
    def top(self) -> float:
        return TOP

    def px(self, value: float) -> float:
        return round(self.left + self.x.place(value) * (self.right - self.left), 1)

    def py(self, value: float) -> float:
        return round(self.bottom - self.y.place(value) * (self.bottom - TOP), 1)

    # ---- what is drawn on it ----

    def mark(self, x: float, y: float, shape: str, css: str, tip: str, depth: int | None = None) -> None:
        self.marks.append(Mark(self.px(x), self.py(y), shape, css, tip, depth))

    def line(self, points: Sequence[tuple[float, float]], css: str, tip: str = "", depth: int | None = None) -> None:
        placed = " ".join(f"{self.px(x)},{self.py(y)}" for x, y in points)
        self.lines.append(Line(placed, css, tip, depth))

    def level(self, y: float, name: str, value: str) -> None:
        """A line across the panel, its name and value beside its right end."""
        at = self.py(y)
        self.lines.append(Line(f"{self.left},{at} {self.right},{at}", name))
        self.levels.append((at, name, value))

    @property
    def level_notes(self) -> list[Note]:
        """The names of the levels, two lines each, pushed apart where they would cover each other."""
        notes, free = [], TOP - 8
        for at, name, value in sorted(self.levels):
            at = max(at, free + NAMED / 2)
            free = at + NAMED / 2
            notes += [Note(self.right + 6, at - 2, name, name), Note(self.right + 6, at + 11, value, name)]
        return notes

    def upright(self, x: float, css: str, text: str = "") -> None:
        """A line from top to bottom, named at its top."""
        at = self.px(x)
        self.lines.append(Line(f"{at},{TOP} {at},{self.bottom}", css))
        if text:
            self.notes.append(Note(at, TOP - 3, text, css, "middle"))

    def band(self, low: float, high: float, css: str) -> None:
        """A shaded range of the vertical axis."""
        top, bottom = self.py(min(high, self.y.high)), self.py(max(low, self.y.low))
        self.bands.append((self.left, top, self.right - self.left, round(bottom - top, 1), css))
