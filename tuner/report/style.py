"""One look for every figure: palette, fonts, sizes, and figures that belong to no global state (never pyplot)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from tuner.report import words

# Okabe and Ito's palette, told apart with any colour vision; marker and line differ too, for print without colour.
WINNER, BASELINE, REFERENCE = "#D55E00", "#0072B2", "#009E73"
OTHER, INK = "#8C8C8C", "#222222"
ROLES = {"best": (WINNER, "*"), "baseline": (BASELINE, "s"), "reference": (REFERENCE, "D")}

ON_DARK = {"best": "#FF8C42", "base": "#56B4E9", "reference": "#2cc295"}
"""The same three, lighter, for the page on a dark ground."""

DASHED = (0, (4, 2))

FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans",
)


def settings() -> dict[str, Any]:
    """Matplotlib's settings for every figure; names only fonts that this machine has, or it would complain."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return {
        "font.family": ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)],
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "figure.titlesize": 11,
        "figure.titleweight": "bold",
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.edgecolor": "#777777",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E6E6E6",
        "grid.linewidth": 0.8,
        "lines.linewidth": 1.8,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        # A fixed salt names the same things the same way, so equal data give equal bytes.
        "svg.hashsalt": "tlstudy",
        "svg.fonttype": "path",
        "path.simplify": False,
    }


@contextmanager
def applied() -> Iterator[None]:
    """Inside, figures are made and saved in this style; outside, matplotlib is as it was."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, settings()))  # its stub lists the keys of one matplotlib version
        yield


class ShownFigure(Figure):
    """A figure that a notebook shows by itself, though pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with applied():
            self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def handle(label: str, color: str = INK, *, line: Any = "-", **settings: Any) -> Line2D:
    """An entry of a legend; `line`: its line style, "" for a marker alone."""
    return Line2D([], [], label=label, color=color, linestyle=line, **settings)


def figure(width: float, height: float, title: str) -> Figure:
    """An empty figure, sizes in inches, that lays itself out."""
    made = ShownFigure(
        figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.06)
    )
    made.suptitle(title, x=0.01, ha="left")
    return made


def label(text: object, width: int = 40) -> str:
    """A name from outside as matplotlib text: visible, not too long, and with no `$` that would start a formula."""
    return words.shortened(words.visible(text), width).replace("$", r"\$")


WIDE = 10.0
"""A range of losses whose ends are further apart than this factor is drawn on a logarithmic scale."""


def log_axis(axis: Any, plain: bool = False) -> None:
    """Ticks such as 1e-4 and 3e-4, or 0.3 and 1 when `plain`; matplotlib's own would be formulas and crowd a range."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=log_subs(low, high), numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if plain else words.rate(value)))


def log_subs(low: float, high: float) -> tuple[float, ...]:
    """Which multiples of a power of ten get a tick."""
    return (1.0,) if high / low > 3e4 else (1.0, 3.0) if high / low > 30 else (1.0, 2.0, 5.0)


def loss_colours(low: float, high: float) -> ScalarMappable:
    """Colours for losses, dark is high; logarithmic when they spread over more than a factor of five."""
    wide = low > 0 and high / low > 5
    norm = LogNorm(low, high) if wide else Normalize(low, high if high > low else low + 1e-9)
    return ScalarMappable(norm, "viridis_r")  # even in lightness, so it survives greyscale


def loss_bar(colours: ScalarMappable, ax: Axes) -> None:
    """The colour bar of losses beside an ax."""
    bar = cast(Figure, ax.get_figure()).colorbar(colours, ax=ax, label="validation loss", pad=0.02)
    if isinstance(bar.norm, LogNorm):
        log_axis(bar.ax.yaxis, plain=True)


def count_ticks(ax: Axes, low: int, high: int, n: int) -> None:
    """Ticks of a k-of-n axis at whole numbers of images: "18/20 (90%)"."""
    step = next(s for s in (10**e * m for e in range(9) for m in (1, 2, 5)) if (high - low) / s <= 7)
    ticks = [k for k in range(low, high + 1) if (n - k) % step == 0]
    ax.set_yticks(ticks, [f"{k}/{n} ({words.percent(k / n)})" for k in ticks])
