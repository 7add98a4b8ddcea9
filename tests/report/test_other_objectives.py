"""Reports of studies that rank by another objective than loss and accuracy, or by the last epoch, say so."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_study import FINISHED, INTERRUPTED, NO_TRIAL_YET, SIX_CLASSES, Made, make_study, simulate
from rich.console import Console

from tuner.evidence.results import Results
from tuner.report import cell, figures, page, plots, sections, tables, tensorboard, words
from tuner.report.facts import headline, study_lines
from tuner.report.live import Live, PlainLines
from tuner.spec.spec import OBJECTIVES
from tuner.store.ranking import SCORED


def printed(results: Results, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(tables.report(results, findings=results.findings()))
    return out.getvalue()


@pytest.mark.parametrize(
    ("objective", "checkpoint"), [*((o, "best") for o in OBJECTIVES), ("val_loss", "last"), ("val_auc", "last")]
)
def test_every_report_is_made_and_names_what_was_ranked_by(tmp_path: Path, objective: str, checkpoint: str) -> None:
    made = replace(SIX_CLASSES, objective=objective, checkpoint=checkpoint)
    results = Results.open(make_study(tmp_path / "study", made))
    winner, baseline = results.winner(), results.baseline()
    assert winner is not None and baseline is not None and results.beats_baseline() is not None
    texts = {width: printed(results, width) for width in (80, 160)}
    assert max(map(len, texts[80].splitlines())) <= 80 and "…" not in texts[80]
    html = page.page(results, tmp_path, findings=results.findings(), importance=results.importance())
    by = f"Hyperband by {words.NAMES[objective]}" + (" of the last epoch" if checkpoint == "last" else "")
    for text in (*texts.values(), html):
        assert by in " ".join(text.split()) and f"at the {checkpoint} epoch" in text
        assert ("the verdict is about accuracy" in " ".join(text.split())) == (objective in SCORED)
    assert tensorboard.export(results, "made", tmp_path / "logs") == len(results.configurations())
    runs = {run.id: run for run in results.runs().runs}
    assert runs[winner["id"]].best[f"best_{objective}"] == winner[objective]
    if objective in SCORED:
        value = words.cell(winner, objective)
        assert f"{words.OBJECTIVES[objective]} {value}" in headline(results)
        assert value in cell.card("made", results)
        assert objective in results.to_csv().splitlines()[0] and objective in results.to_csv("epochs").splitlines()[0]
        assert json.loads(results.to_json())["configurations"][0][objective] == winner[objective]
        shown = sections.configurations(results)
        assert words.OBJECTIVES[objective] in [header for header, _ in shown.headers]
        assert words.OBJECTIVES[objective] in sections.depths(results).headers
        assert [len(found) for found in (plots.of_depth(results), plots.of_learning(results))] == [3, 3]
        assert all(words.NAMES[objective] in panel.about for panel in plots.of_rungs(results))
    else:
        assert not set(SCORED) & {*results.configurations(), *results.epochs()}
    assert "score" not in results.epochs()


@pytest.mark.parametrize("objective", ["val_auc", "val_brier"])
def test_every_figure_is_drawn(tmp_path: Path, objective: str) -> None:
    results = Results.open(make_study(tmp_path, replace(FINISHED, objective=objective, checkpoint="last")))
    if objective == "val_auc":  # the files differ in a label alone
        drawn = figures.draw_all(results, tmp_path / "figures")
        assert set(drawn.left_out) == {"reliability"} and drawn.files
    with figures.style.applied():
        brackets = figures.brackets(results)
    assert brackets.axes[0].get_ylabel() == words.NAMES[objective]


@pytest.mark.parametrize("made", [INTERRUPTED, NO_TRIAL_YET], ids=["interrupted", "none"])
def test_an_unfinished_study_is_shown_too(tmp_path: Path, made: Made) -> None:
    results = Results.open(make_study(tmp_path, replace(made, objective="val_f1", checkpoint="last")))
    assert "validation F1 of the last epoch" in dict(study_lines(results))["search"]
    assert printed(results, 80) and page.page(results, tmp_path)
    finished = Results.open(make_study(tmp_path / "finished", replace(FINISHED, objective="val_f1")))
    assert list(results.configurations()) == list(finished.configurations())
    assert list(results.epochs()) == list(finished.epochs())


def test_one_class_has_no_auc_and_loss_decides(tmp_path: Path) -> None:
    """All validation images of one class: no pair to rank."""
    made = replace(FINISHED, objective="val_auc", validation=1)
    results = Results.open(make_study(tmp_path, made))
    table = results.ranking().query("full and status == 'completed'")
    assert table["val_auc"].isna().all() and table["val_loss"].is_monotonic_increasing
    assert printed(results, 80) and page.page(results, tmp_path)
    assert figures.draw_all(results, tmp_path / "figures").files


@pytest.mark.parametrize("checkpoint", ["best", "last"])
@pytest.mark.parametrize("objective", ["val_auc", "val_brier", "val_accuracy"])
def test_the_live_display_has_the_reports_best_and_its_value(tmp_path: Path, objective: str, checkpoint: str) -> None:
    made = replace(FINISHED, objective=objective, checkpoint=checkpoint)
    results, live, plain = Results.open(make_study(tmp_path, made)), Live(), PlainLines()
    lines = []
    for event, _ in simulate(made):
        live.on(event)
        lines.append(plain.on(event))
    for kind, row in (("search", results.winner()), ("baseline", results.frozen_head())):
        held = live.state.best(kind)
        assert held is not None and row is not None and held.start.configuration == row["id"]
        assert held.row.epoch == row["best_epoch"]
        if objective in SCORED:
            out = io.StringIO()
            Console(file=out, width=120, height=40).print(live)
            shown = words.scored(row.to_dict(), before="")
            assert shown and shown in out.getvalue() and any(shown in line for line in lines if line)
