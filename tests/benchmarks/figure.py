"""The README's figure from what bench.py --json wrote: seconds, memory and disk of the three, and the floor.

    python tests/benchmarks/figure.py RESULTS.json FIGURE.png

Readable at 800 pixels' width. Bars are medians; a thin line spans the runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tuner.report import style  # noqa: E402

NAMES = {"tlstudy": "tlstudy", "informed": "KerasTuner,\nfeatures cached by hand", "plain": "KerasTuner"}
COLOURS = {"tlstudy": style.WINNER, "informed": style.BASELINE, "plain": style.OTHER}
PANELS = (("wall", "Time, s", 1.0), ("memory", "Peak memory, GB", 1e3), ("study", "Study folder, GB", 1e3))
PIXELS = 800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("figure", type=Path)
    o = parser.parse_args()
    found = json.loads(o.results.read_text(encoding="utf-8"))["peers"]
    with style.applied():
        # Drawn at twice the pixels it is shown at, so that text stays sharp.
        draw(found).savefig(o.figure, dpi=2 * PIXELS / 8.0, metadata={"Software": None})


def draw(found: dict[str, Any]) -> Any:
    """One wide panel for time with the floor, two narrow ones for memory and disk; all share the rows."""
    runs = found["runs"]
    names = [n for n in NAMES if n in runs]
    figure = style.figure(8.0, 2.6, title(found))
    axes = figure.subplots(1, 3, sharey=True, width_ratios=(2.0, 1.0, 1.0))
    for ax, (key, label, unit) in zip(axes, PANELS, strict=True):
        bars(ax, names, [[r[key] / unit for r in runs[n]] for n in names])
        ax.set_title(label)
    floors = [f["work"] / f["rate"] for f in runs["floor"]]
    lowest = statistics.median(floors)
    axes[0].axvline(lowest, color=style.INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axes[0].annotate(
        f"floor by arithmetic: {number(lowest)} s",
        (lowest, len(names) - 0.55),
        xytext=(5, 0),
        textcoords="offset points",
        fontsize=8.5,
        va="center",
    )
    axes[0].set_ylim(len(names) - 0.3, -0.55)
    axes[0].set_yticks(range(len(names)), [NAMES[n] for n in names])
    return figure


def title(found: dict[str, Any]) -> str:
    """What was measured, in one line."""
    trials = found["runs"]["tlstudy"][0]["trials"]
    epochs = sum(t["trained_epochs"] for t in trials)
    options = found["options"]
    return (
        f"The same {len(trials)} trials, {epochs} epochs: ResNet-50 at {options['image_size']} px, "
        f"{found['machine']['cores']} cores"
    )


def bars(ax: Any, names: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    """A bar a row with its number behind it, and how often as much as tlstudy's."""
    middles = [statistics.median(v) for v in values]
    ax.barh(range(len(names)), middles, height=0.62, color=[COLOURS[n] for n in names])
    for at, (each, middle) in enumerate(zip(values, middles, strict=True)):
        if len(each) > 1:
            ax.hlines(at, min(each), max(each), color=style.INK, linewidth=1.0)
        times = "" if at == 0 else f"  {ratio(middle / middles[0])}×"
        ax.annotate(
            f"{number(middle)}{times}",
            (max(*each, middle), at),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold" if at == 0 else "normal",
        )
    ax.set_xlim(0, max(max(v) for v in values) * 1.45)
    ax.grid(False)
    ax.tick_params(axis="both", length=0, labelbottom=False)
    ax.spines["bottom"].set_visible(False)


def number(value: float) -> str:
    """Two digits that count: 0.031, 0.45, 3.0, 338."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2g}"


def ratio(value: float) -> str:
    """With its tenths where 14 in place of 13.6 would flatter."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


if __name__ == "__main__":
    main()
