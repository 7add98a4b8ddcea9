"""What was taken for what, and how often the winner is right when it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tuner.report import style, words

MOST_NUMBERS = 14  # classes beyond which numbers in the cells could not be read


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], ax: Axes, *, rows: bool = True) -> Axes:
    """Counts with their share of the true class (row percent), which also gives the shade. `rows`: name the rows."""
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    many = len(classes)
    if many <= MOST_NUMBERS:
        size = 11 if many <= 3 else 9 if many <= 6 else 6.5
        for i, j in np.ndindex(counts.shape):
            text = f"{counts[i, j]}\n{words.percent(float(share[i, j]))}" if counts[i, j] else "0"
            colour = "white" if share[i, j] > 0.55 else style.INK
            ax.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    names = [style.label(name, 22) for name in classes]
    steep = many > 3 or max(map(len, names)) > 12
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if steep else {}
    ax.set_xticks(range(many), names, **turned)
    ax.set_yticks(range(many), names if rows else [""] * many)
    ax.set_xlabel("predicted")
    if rows:
        ax.set_ylabel("true")
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def reliability(bins: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy (with Wilson's interval) against confidence by bins of equally many images; on the line both agree."""
    low = max(0.0, min(bins["low"].min(), bins["confidence"].min()) - 0.05)
    ax.plot([low, 1], [low, 1], color=style.OTHER, linewidth=1.2, linestyle=style.DASHED)
    ends = [bins["accuracy"] - bins["low"], bins["high"] - bins["accuracy"]]
    ax.errorbar(bins["confidence"], bins["accuracy"], yerr=ends, color=style.WINNER, marker="o", capsize=3, linewidth=1)
    ax.set_xlim(low, 1.02)
    ax.set_ylim(low, 1.02)
    ax.set_xlabel("probability of the class it chose, mean of a bin")
    ax.set_ylabel("share of these images that are right")
    ax.annotate("surer than right", (0.97, 0.06), xycoords="axes fraction", ha="right", color=style.INK, fontsize=8)
    ax.annotate("righter than sure", (0.03, 0.94), xycoords="axes fraction", ha="left", va="top", fontsize=8)
    return ax
