"""Tables on real studies, drawn at the widths people have."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

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
from rich.console import Console

from tuner.evidence.results import Results
from tuner.report import tables
from tuner.report.facts import headline
from tuner.report.tables import best_table, hyperparameter_table
from tuner.store.store import Store

VARIANTS = {
    "finished": FINISHED,
    "interrupted": INTERRUPTED,
    "none": NO_TRIAL_YET,
    "six": SIX_CLASSES,
    "three": THREE_CLASSES,
    "many": MANY,
    "untrained": UNTRAINED,
}


def drawn(found: Results, width: int, *, colour: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=colour, color_system="truecolor" if colour else None).print(
        tables.report(found)
    )
    return out.getvalue()


@pytest.mark.parametrize("width", [100, 80])
@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_is_wider_than_the_terminal_and_no_value_is_cut(tmp_path: Path, name: str, width: int) -> None:
    text = drawn(Results.open(make_study(tmp_path, VARIANTS[name])), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


@pytest.mark.parametrize("width", [100, 80])
def test_the_best_stand_once_with_counts_interval_loss_and_difference(tmp_path: Path, width: int) -> None:
    found = Results.open(make_study(tmp_path))
    text = drawn(found, width)
    winner = found.winner()
    assert winner is not None
    rows = re.findall(rf"(?m)^{winner['id']} .*$", text)
    assert len(rows) == 1
    for value in (
        f"{winner['correct']}/{winner['validation']}",
        f"{winner['val_loss']:.3f}",
        f"{winner['loss_over_baseline']:+.3f}",
        "525 k",
    ):
        assert value in rows[0]
    assert re.search(r"(?m)^baseline .*17/20", text)
    assert re.search(r"(?m)^reference .*17/20", text)


def test_the_sentence_on_top_claims_no_more_than_the_images_show(tmp_path: Path) -> None:
    said = headline(Results.open(make_study(tmp_path)))
    assert "best configuration c001 (backbone frozen): 17/20 (85%, interval 64 to 95%)" in said.replace("Best", "best")
    assert "a difference below 6 images cannot be told from luck" in said
    assert "cannot show a gain" in said
    assert "looks better here than it is" in said
    few = headline(Results.open(make_study(tmp_path / "few", replace(FINISHED, validation=4))))
    assert "With only 4 validation images no difference can be told from luck." in few


def test_an_unfinished_study_says_so(tmp_path: Path) -> None:
    cut = headline(Results.open(make_study(tmp_path / "cut", INTERRUPTED)))
    assert cut.startswith("Interrupted: best configuration c001 (backbone frozen) after 3 of 9 epochs")
    database = make_study(tmp_path / "none", NO_TRIAL_YET)
    assert headline(Results.open(database, running=True)).startswith("Still running: no configuration has finished")
    Store(tmp_path / "study.db").close()
    empty = Results.open(tmp_path / "study.db")
    assert headline(empty).startswith("Not started")
    assert "not started" in drawn(empty, 80)


def test_a_best_that_is_worse_than_the_baseline_is_called_so(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    with Store(database) as store, store.transaction():
        store._db.execute("UPDATE epochs SET val_loss = val_loss + 5 WHERE configuration LIKE 'c%'")
        store._db.execute("DELETE FROM predictions")  # they would say otherwise
    results = Results.open(database)
    assert results.beats_baseline() is False
    assert "By validation loss nothing that was searched is ahead of the frozen baseline" in headline(results)
    with Store(database) as store, store.transaction():
        store._db.execute("UPDATE epochs SET val_loss = 0.001 WHERE configuration LIKE 'c%'")
    results = Results.open(database)
    assert results.beats_baseline() is True
    assert "nothing that was searched" not in headline(results)


def test_a_depth_without_a_full_trial_is_named_and_one_without_any_too(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    results = Results.open(database)
    depths = results.depths()
    assert list(depths["unfrozen_layers"]) == sorted(results.study.spec.space.unfrozen_layers)
    assert depths["tried"].sum() == len(results.ranking())
    assert depths["finished"].sum() == results.ranking()["full"].sum()
    short = int(depths[depths["tried"] > 0]["unfrozen_layers"].iloc[-1])
    with Store(database) as store, store.transaction():
        store._db.execute(
            "DELETE FROM epochs WHERE epoch > 1 AND configuration IN (SELECT id FROM configurations "
            "WHERE kind = 'search' AND json_extract(hyperparameters, '$.unfrozen_layers') = ?)",
            (short,),
        )
        spec = store.meta("spec")
        spec["space"]["unfrozen_layers"].append(94)
        store.set_meta(spec=spec)
    said = headline(Results.open(database))
    assert f"No configuration with {short} unfrozen layers was trained for all 9 epochs" in said
    assert "Depth 94 was never tried" in said


def test_the_wrong_photographs_are_named(tmp_path: Path) -> None:
    results = Results.open(make_study(tmp_path))
    said, baseline = results.images(), results.baseline()
    assert baseline is not None
    assert said["baseline_right"].sum() == baseline["correct"]
    wrong = said[~said["baseline_right"]]["photograph"]
    text = drawn(results, 100)
    assert len(wrong) and all(name in text for name in wrong)


def test_trials_that_ended_early_are_said_and_show_the_epochs_they_were_trained_for(tmp_path: Path) -> None:
    found = Results.open(make_study(tmp_path, replace(FINISHED, patience=1)))
    ranking = found.ranking()
    full = ranking[ranking["full"]]
    assert len(full) == sum(bracket.sizes[-1] for bracket in found.study.plan) and (full["epochs"] < 9).any()
    text = " ".join(drawn(found, 100).split())
    assert f"the {len(full)} that reached 9 epochs, or ended early on their way there, come first" in text
    assert "at most 9 epochs, factor 3, batch 24, seed 0, patience 1 epoch" in text


def test_what_was_trained_otherwise_is_a_warning(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    with Store(database) as store, store.transaction():
        store._db.execute("UPDATE trials SET reason = 'out of memory; halved' WHERE configuration = 'c001'")
    assert "c001: out of memory; halved" in drawn(Results.open(database), 100)


def test_no_pretraining_stands_on_every_table(tmp_path: Path) -> None:
    text = drawn(Results.open(make_study(tmp_path, UNTRAINED)), 100)
    for title in ("Study", "Best configurations against the frozen baseline", "Brackets and rungs"):
        assert f"{title} (no pretraining)" in text
    assert "no pretraining" not in drawn(Results.open(make_study(tmp_path / "other")), 100)


NASTY: tuple[str, ...] = ("[/x] <script>alert(1)</script>", "[bold red]\x1b[31m\x1b]0;t\x07", "\u202egnp.exe")


@pytest.mark.parametrize("colour", [False, True])
def test_names_from_outside_are_text_and_steer_nothing(tmp_path: Path, colour: bool) -> None:
    made = Made(classes=NASTY, warnings=("[/x] and \x1b[2J",), reason="[/red] \x1b]8;;http://x\x07")
    text = drawn(Results.open(make_study(tmp_path, made)), 100, colour=colour)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "[/x] <script>alert(1)</script>" in plain
    assert "[bold red]\\x1b[31m" in plain
    assert not set("\x1b\x07\u202e") & set(plain)


def test_searched_extras_have_their_own_table_and_usual_ones_none(tmp_path: Path) -> None:
    assert hyperparameter_table(Results.open(make_study(tmp_path / "six", SIX_CLASSES))) is not None
    assert hyperparameter_table(Results.open(make_study(tmp_path / "two"))) is None


@pytest.mark.parametrize("width", [34, 40, 52, 60])
@pytest.mark.parametrize("name", ["finished", "interrupted", "many"])
def test_a_narrow_table_of_the_best_drops_columns_and_cuts_no_number(tmp_path: Path, name: str, width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width).print(best_table(Results.open(make_study(tmp_path, VARIANTS[name]))))
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert "…" not in out.getvalue()
    assert "right" in out.getvalue() and "loss" in out.getvalue()
