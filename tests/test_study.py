"""The study from Python: what the command line shows, as values; searching, stopping and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import image_files
import matplotlib as mpl
import pandas as pd
import pytest
from made_study import FINISHED, INTERRUPTED, NO_TRIAL_YET, Made, make_study
from matplotlib.figure import Figure
from pandas.testing import assert_frame_equal

import tuner
from tuner import Study
from tuner.errors import DataError, Interrupted, SpecError, StudyError, TlstudyError, UsageError
from tuner.evidence.findings import Findings
from tuner.evidence.results import Results
from tuner.report.figures import FIGURES
from tuner.search.events import EpochEnded, TrialEnded
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.locate import write_study
from tuner.study import _which

TABLES = ("configurations", "trials", "epochs", "depths", "rungs", "photographs")
SMALL: dict[str, Any] = {
    "weights": "random",
    "image_size": 32,
    "unfrozen_layers": [0, 4],
    "head_width": 0,
    "max_epochs": 3,
    "batch_size": 4,
    "seeds": 2,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(root: Path, what: Made = FINISHED, name: str = "made") -> Study:
    """A study under studies/ whose results are made up."""
    folder = StudyFolder(root / "studies" / name)
    write_study(folder, Spec(), "made up")
    make_study(folder.root, what)
    return Study(folder)


# ---- light, and found like the command line's ------------------------------------------------------------------------


def test_importing_the_package_and_the_study_is_light(tmp_path: Path) -> None:
    code = (
        "import sys, tuner; first = 'tuner.study' in sys.modules; from tuner import Study; import json; "
        "watched = ('keras', 'tensorflow', 'jax', 'pandas', 'matplotlib', 'numpy', 'rich', 'typer'); "
        "print(json.dumps([first, Study.__name__, [m for m in watched if m in sys.modules]]))"
    )
    root = str(Path(__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert json.loads(ran.stdout) == [False, "Study", []]


def test_the_package_offers_the_study_and_nothing_that_is_not_there() -> None:
    assert {"Study", "__version__"} <= set(dir(tuner)) and set(tuner.__all__) == {"Study", "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'Studies'"):
        tuner.Studies  # noqa: B018


def test_a_study_is_found_as_the_command_line_finds_it(here: Path) -> None:
    made(here, name="one")
    for named in ("one", "studies/one", Path("studies/one"), here / "studies" / "one" / "study.toml", None):
        assert Study.open(named).path.resolve() == here / "studies" / "one"
    with pytest.raises(StudyError, match="Did you mean one"):
        Study.open("ona")


# ---- what came out ---------------------------------------------------------------------------------------------------


def test_every_table_is_the_command_lines(here: Path) -> None:
    study = made(here)
    results = Results.open(study.path / "study.db")
    report = json.loads(results.to_json())
    for name in TABLES:
        table = getattr(study, name)
        assert isinstance(table, pd.DataFrame) and len(table)
        by = {"photographs": "images"}.get(name, name)
        expected = results.ranking(None) if name == "configurations" else getattr(results, by)()
        assert_frame_equal(table, expected)
        if name in report:
            assert len(report[name]) == len(table) and list(report[name][0]) == list(table.columns)
    for name in ("winner", "baseline", "reference"):
        pd.testing.assert_series_equal(getattr(study, name), getattr(results, name)())
    assert (study.state, study.name, study.question) == ("finished", "made", Spec())


def test_changing_a_table_changes_nothing_in_the_study(here: Path) -> None:
    study = made(here)
    table = study.configurations
    table["val_loss"] = 0.0
    assert (study.configurations["val_loss"] != 0.0).any()


def test_predictions_have_names(here: Path) -> None:
    study = made(here)
    winner = study.winner
    assert winner is not None
    found = study.predictions(winner["id"])
    assert list(found.columns) == list(study.results.study.classes)
    assert list(found.index) == list(study.photographs["photograph"])
    assert found.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(UsageError, match=f"c999: no predictions.*{winner['id']}"):
        study.predictions("c999")


def test_what_was_read_stays_until_it_is_refreshed(here: Path) -> None:
    study = made(here, INTERRUPTED)
    before = len(study.trials)
    for end in ("", "-wal", "-shm"):
        (study.path / f"study.db{end}").unlink(missing_ok=True)
    make_study(study.path, FINISHED)
    assert (len(study.trials), study.state) == (before, "interrupted")
    assert len(study.refresh().trials) > before
    assert study.state == "finished"


def test_the_verdict_is_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = made(here)
    found = Findings("gain", "A gain <b>of</b> 12 points.", ("Seen on 40 images.",), "test", 40, 5, 0.02)
    assert isinstance(study.verdict, Findings) and study.verdict == study.results.findings()
    monkeypatch.setattr(Results, "findings", lambda self: found)
    assert study.verdict == found
    assert "<p>A gain &lt;b&gt;of&lt;/b&gt; 12 points.</p><p>Seen on 40 images.</p>" in study._repr_html_()


def test_without_results_every_question_says_what_to_run(here: Path) -> None:
    study = Study.open("demo")
    assert study.state == "not started"
    asked = (lambda: study.trials, lambda: study.verdict, lambda: study.figure("depth"), lambda: study.plot)
    for ask in (*asked, study.confirm):
        with pytest.raises(StudyError, match=r"no results yet. Run: study.search\(\)"):
            ask()
    assert repr(study) == f"Study({str(here / 'studies' / 'demo')!r}, no results yet)"
    assert "no results yet" in study._repr_html_()
    assert not (here / "studies").exists(), "looking leaves nothing behind"


def test_a_text_never_fails_and_escapes_what_it_shows(here: Path) -> None:
    study = made(here, name="<script>alert(1)")
    assert "finished: " in repr(study) and "frozen baseline" in repr(study)
    card = study._repr_html_()
    assert "<script>" not in card and "&lt;script&gt;" in card
    assert card.count("<tr>") == 7, "a heading, five configurations, the baseline"
    assert "no configuration" in made(here, NO_TRIAL_YET, "empty")._repr_html_()
    (study.path / "study.db").write_bytes(b"rubbish" * 200)
    assert "cannot be used as a study's database" in repr(study.refresh())


# ---- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*FIGURES} - {"reliability", "views"}))  # need a confirmation, augmentation
def test_every_figure_of_the_report_is_a_figure_that_a_notebook_shows(here: Path, name: str) -> None:
    before = dict(mpl.rcParams)
    figure = made(here).figure(name)
    assert isinstance(figure, Figure) and figure.axes
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert dict(mpl.rcParams) == before


PANELS: list[tuple[str, dict[str, Any]]] = [
    ("learning_curve", {}),
    ("learning_curve", {"metric": "accuracy"}),
    ("depth", {}),
    ("depth", {"metric": "accuracy"}),
    ("rate_by_depth", {}),
    ("parallel_coordinates", {}),
    ("bracket", {}),
    ("bracket", {"bracket": 0}),
    ("confusion", {}),
    ("confusion", {"of": "baseline"}),
    ("confusion", {"of": "ref"}),
]


@pytest.mark.parametrize(("name", "choice"), PANELS)
def test_every_panel_is_drawn_on_the_ax_it_is_given(here: Path, name: str, choice: dict[str, Any]) -> None:
    figure = Figure(layout="constrained")
    mine, other = figure.subplots(1, 2)
    assert getattr(made(here).plot, name)(mine, **choice) is mine
    assert mine.has_data() or mine.images
    assert not other.has_data() and not other.images and not other.texts
    figure.draw_without_rendering()


def test_a_figure_that_cannot_be_drawn_says_why(here: Path) -> None:
    study = made(here, NO_TRIAL_YET)
    ax = Figure().subplots()
    for draw in (lambda: study.figure("depth"), lambda: study.plot.depth(ax), lambda: study.plot.confusion(ax)):
        with pytest.raises(StudyError, match="has finished an epoch yet"):
            draw()
    with pytest.raises(UsageError, match=r"figure 'dept': expected one of learning_curves, depth"):
        study.figure("dept")
    with pytest.raises(UsageError, match=r"metric: found 'auc', expected one of 'loss', 'accuracy'"):
        made(here).plot.depth(ax, metric="auc")
    with pytest.raises(UsageError, match="bracket: found 9"):
        made(here, name="again").plot.bracket(ax, bracket=9)


# ---- a new study -----------------------------------------------------------------------------------------------------


def test_a_new_study_is_written_once_and_another_question_is_refused(here: Path) -> None:
    image_files.folder(here / "my photos")
    study = Study.create("my photos", max_epochs=9, unfrozen_layers=[0, 10], image_size=32)
    assert study.path == here / "studies" / "my-photos"
    question = study.question
    assert (question.search.max_epochs, question.space.unfrozen_layers) == (9, (0, 10))
    assert question.data.path == "../../my photos"
    text = (study.path / "study.toml").read_text()
    again = Study.create("my photos", max_epochs=9, unfrozen_layers=[0, 10], image_size=32)
    assert again.path == study.path and (study.path / "study.toml").read_text() == text
    with pytest.raises(UsageError, match=r"(?s)another question.*search.max_epochs: 9 -> 3.*Study.open"):
        Study.create("my photos", max_epochs=3, unfrozen_layers=[0, 10], image_size=32)
    assert (study.path / "study.toml").read_text() == text
    second = Study.create("my photos", "second", preset="quick", image_size=32)
    assert second.path == here / "studies" / "second"
    assert (second.question.search.max_epochs, second.question.data.image_size) == (9, 32)
    assert (
        Study.create("my photos", here / "elsewhere" / "third", image_size=32).question.data.path == "../../my photos"
    )
    assert Study.create("drawn:towns-and-countryside", "drawn").question.data.path == "drawn:towns-and-countryside"


def test_wrong_photographs_and_options_write_nothing(here: Path) -> None:
    image_files.folder(here / "photos")
    wrong: list[tuple[type[TlstudyError], str, str, dict[str, Any]]] = [
        (DataError, "no such folder", "nowhere", {}),
        (SpecError, "unknown key max_epoch; did you mean max_epochs", "photos", {"max_epoch": 3}),
        (SpecError, "search.max_epochs: found 0", "photos", {"max_epochs": 0}),
        (SpecError, "search.epochs", "photos", {"search.epochs": 3}),
        (SpecError, "preset: found 'quik'.*did you mean quick", "photos", {"preset": "quik"}),
    ]
    for error, message, photos, options in wrong:
        with pytest.raises(error, match=message):
            Study.create(photos, "new", **options)
    assert not (here / "studies").exists()


# ---- searching -------------------------------------------------------------------------------------------------------


def test_a_search_can_be_stopped_goes_on_and_ends_as_the_command_lines(here: Path) -> None:
    image_files.folder(here / "photos")
    study = Study.create("photos", **SMALL)
    lines: list[str] = []
    events: list[Any] = []
    before = signal.getsignal(signal.SIGINT)

    def interrupt(event: Any) -> None:
        events.append(event)
        if isinstance(event, EpochEnded) and len([e for e in events if isinstance(e, EpochEnded)]) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="Go on by calling it again"):
        study.search(progress=lines.append, listen=interrupt, seed=3)
    assert signal.getsignal(signal.SIGINT) is before
    assert any("once more to leave at once" in line for line in lines)
    assert study.state == "interrupted" and len(study.epochs) in (1, 2), "at this epoch's end or the next one's"

    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        study.search(stop=stop)

    def in_a_thread() -> None:
        study.search(progress=lines.append)  # where signals cannot be minded; the seed of the first call is kept

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert study.state == "finished"
    assert study.results.study.spec.search.seed == 3
    told = [line for line in lines if line.startswith("trial ")]
    assert len(told) == (study.trials["kind"] != "seed").sum()
    assert study.verdict.seeds == 2 and study.verdict.kind != "open"
    ended: list[Any] = []
    assert study.search(listen=ended.append) is study
    assert not any(isinstance(event, TrialEnded) for event in ended), "nothing is done twice"
    assert study.confirm() is study and study.verdict.seeds == 2
    with pytest.raises(StudyError, match="search.seed: 3 -> 4"):
        study.search(seed=4)


def test_what_is_exported_is_what_is_recommended_or_asked_for(tmp_path: Path) -> None:
    study = made(tmp_path, FINISHED)
    use = study.recommendation
    assert use is not None and use == study.results.recommendation()
    assert _which("recommended", False, use) == use.which
    assert [_which(which, False, use) for which in ("winner", "baseline")] == ["winner", "baseline"]
    assert _which("recommended", True, use) == "baseline", "as it was written before"
    with pytest.raises(UsageError, match="name two models"):
        study.export(tmp_path / "model.keras", which="winner", baseline=True)
    with pytest.raises(UsageError, match="which: found 'best', expected \"recommended\""):
        study.export(tmp_path / "model.keras", which="best")


def test_a_leader_whose_weights_were_let_go_is_not_exported_and_going_on_is_the_advice(tmp_path: Path) -> None:
    """By the last epoch a leader can fall behind one that was behind it and was let go."""
    with pytest.raises(UsageError, match="c001 was behind others .* Go on with: tlstudy search"):
        made(tmp_path, INTERRUPTED).export(tmp_path / "model.keras")
