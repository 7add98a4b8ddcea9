"""Figures of real studies: drawn, the same every time, and left out with a reason when there is nothing to draw."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from made_study import (
    FINISHED,
    INTERRUPTED,
    MANY,
    NO_TRIAL_YET,
    SIX_CLASSES,
    THREE_CLASSES,
    UNTRAINED,
    Made,
    make_study,
)
from matplotlib.figure import Figure
from PIL import Image

from tuner.evidence.results import Results
from tuner.report import figures, style
from tuner.report.landscape import spread
from tuner.report.parallel import parallel

NAMES = {"learning_curves", "depth", "rate_by_depth", "parallel_coordinates", "brackets", "confusion"}
"""What a search alone has to draw; reliability needs a confirmation (tests/evidence/test_confirmed.py)."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results.open(make_study(tmp_path_factory.mktemp("finished")))


def test_every_figure_is_written_as_png_and_svg_with_the_same_bytes_each_time(
    finished: Results, tmp_path: Path
) -> None:
    before = dict(mpl.rcParams)
    first, second = figures.draw_all(finished, tmp_path / "a"), figures.draw_all(finished, tmp_path / "b")
    assert dict(mpl.rcParams) == before, "the style leaks"
    assert first.left_out == {"reliability": "the winner is not confirmed yet"}
    assert {path.name for path in first.files} == {f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {path.name for path in first.files}
    for a, b in zip(first.files, second.files, strict=True):
        assert a.read_bytes() == b.read_bytes()
        if a.suffix == ".png":
            with Image.open(a) as image:
                colours = image.convert("RGB").getcolors(1 << 24)
                assert colours is not None and len(colours) > 20
        else:
            assert "dc:date" not in a.read_text()


ODD = {
    "interrupted": INTERRUPTED,
    "many": MANY,
    "three": THREE_CLASSES,
    "six": SIX_CLASSES,
    "one value": replace(FINISHED, space={"learning_rate": 1e-3, "unfrozen_layers": 10, "head_width": 0}),
    "every depth": replace(MANY, space={"unfrozen_layers": {"min": 0, "max": 175}, "learning_rate": [1e-4, 1e-3]}),
    "wide": replace(
        FINISHED,
        space={k: {"min": 0.0, "max": 0.5} for k in ("dropout", "label_smoothing")}
        | {"head_init": ["random", "linear_probe"], "augmentation": ["none", "light", "strong"]},
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_studies_draw_and_no_text_leaves_the_figure(tmp_path: Path, name: str) -> None:
    found = Results.open(make_study(tmp_path, ODD[name]))
    for title in NAMES:
        draw = figures.FIGURES[title]
        if name == "one value" and title == "parallel_coordinates":
            continue  # nothing is searched: left out with a reason
        with style.applied():
            made = draw(found)
            made.draw_without_rendering()
        assert texts_outside(made) == []
        assert labels_that_touch(made) == []


def texts_outside(made: Figure) -> list[str]:
    """The texts that the figure's edge would cut. Ticks beyond an axis's limits are not drawn and do not count."""
    found = [*made.texts, *(text for legend in made.legends for text in legend.get_texts())]
    for ax in made.axes:
        found += [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label]
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    edge = made.bbox.padded(2)
    boxes = [(text.get_text(), text.get_window_extent()) for text in found if text.get_text() and text.get_visible()]
    return [text for text, box in boxes if box.x0 < edge.x0 or box.x1 > edge.x1 or box.y0 < edge.y0 or box.y1 > edge.y1]


def labels_that_touch(made: Figure) -> list[tuple[str, str]]:
    """Neighbouring tick labels of one axis that cover each other; slanted ones may lie in each other's boxes."""
    touching = []
    for ax in made.axes:
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            flat = [label for label in labels if label.get_visible() and label.get_text() and not label.get_rotation()]
            for a, b in pairwise(flat):
                if a.get_window_extent().overlaps(b.get_window_extent()):
                    touching.append((a.get_text(), b.get_text()))
    return touching


def test_what_cannot_be_drawn_yet_is_left_out_with_its_reason_and_no_old_file(tmp_path: Path) -> None:
    for name in ("depth.png", "depth.svg", "mine.txt"):
        (tmp_path / name).write_text("old")
    drawn = figures.draw_all(Results.open(make_study(tmp_path / "study", NO_TRIAL_YET)), tmp_path)
    assert drawn.files == []
    assert set(drawn.left_out) == {*NAMES, "reliability"}
    assert all("finished" in reason or "confirmed" in reason for reason in drawn.left_out.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "study"]


def test_only_a_baseline_still_gives_its_curves_and_matrix(tmp_path: Path) -> None:
    drawn = figures.draw_all(
        Results.open(make_study(tmp_path / "study", Made(trials=10, outcome=None))), tmp_path / "out"
    )
    assert {path.stem for path in drawn.files} == {"learning_curves", "confusion"}


"""What a search alone has to draw; reliability needs a confirmation (tests/evidence/test_confirmed.py)."""


def test_every_figure_says_no_pretraining_and_the_state(tmp_path: Path) -> None:
    found = Results.open(make_study(tmp_path, UNTRAINED), running=True)
    with style.applied():
        for name in NAMES:
            assert figures.FIGURES[name](found).get_suptitle().endswith("\nno pretraining, running")


@pytest.mark.parametrize(
    "name", ["$x$", "\\$", "$$", "$\\frac{", "a$b", "_hidden", "[/x] <script>", "\x1b[31m", "東京"]
)
def test_a_class_name_is_shown_as_it_is_and_never_read_as_a_formula(tmp_path: Path, name: str) -> None:
    found = Results.open(make_study(tmp_path, Made(classes=(name, "other"))))
    with style.applied():
        made = figures.confusion(found)
    assert len(figures.rendered(made, "svg")) > 1000
    label = made.axes[0].get_yticklabels()[0]
    shown, is_formula = label._preprocess_math(label.get_text())  # type: ignore[attr-defined]
    assert not is_formula
    assert shown == name.replace("\x1b", "\\x1b")


def test_points_are_shifted_sideways_only_as_far_as_needed() -> None:
    shifted = spread([0, 0, 0, 1, 1], [17, 17, 12, 17, 16], near=0.5)
    assert shifted[0] == 0 and shifted[2] == 0 and shifted[3:] == [1, 1]
    assert 0 < abs(shifted[1]) < 0.5
    crowd = spread([0] * 100, [1.0] * 100, near=0.5)
    assert max(map(abs, crowd)) < 0.5, "a crowd stays at its own depth"


def test_reading_and_drawing_load_no_keras_and_the_live_display_no_pandas() -> None:
    heavy = "import tuner.report.tables, tuner.report.figures; unwanted = ('keras', 'keras_tuner', 'tensorflow', 'jax')"
    light = "import tuner.report.live; unwanted = ('pandas', 'matplotlib', 'numpy', 'keras', 'tensorflow', 'jax')"
    for code in (heavy, light, "import tuner.report.figures; unwanted = ('matplotlib.pyplot',)"):
        found = subprocess.run(
            [sys.executable, "-c", f"import sys; {code}; print([m for m in unwanted if m in sys.modules])"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["many", "three", "wide"])
def test_no_line_leaves_the_axes_of_parallel_coordinates(tmp_path: Path, name: str) -> None:
    """The best frozen head's neither, when logistic regression is the baseline and the head's rate is beyond all."""
    database = make_study(tmp_path, ODD[name])
    rate = "json_set(hyperparameters, '$.learning_rate', 9.0)"
    with sqlite3.connect(database) as rows:
        first = Results.open(database).frozen_head()
        assert first is not None
        rows.execute("UPDATE configurations SET kind = 'logistic' WHERE id = ?", [first["id"]])
        rows.execute(f"UPDATE configurations SET hyperparameters = {rate} WHERE kind = 'baseline'")
    rows.close()
    ax = Figure().subplots()
    parallel(Results.open(database), ax)
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    assert len(heights) and heights.min() >= 0 and heights.max() <= 1
