"""What the store holds becomes the verdict that `paired.compare` and `verdict` give; what is not whole gives none."""

from __future__ import annotations

import json
import sys
from html import unescape
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from made_study import FINISHED, make_study
from rich.console import Console

from tuner.evidence.findings import OPEN
from tuner.evidence.paired import compare, corrected_resampled
from tuner.evidence.results import Results
from tuner.evidence.verdict import verdict
from tuner.report import cell, figures, page, style, tables
from tuner.report.verdict import ground
from tuner.report.verdict import sides as tables_of
from tuner.store import held_out
from tuner.store.store import Confirms, EpochRow, Store, TrialRow

TEST = 200
TRUTH = np.arange(TEST) % 2


def right(share: float, seeds: int, draw: np.random.Generator) -> np.ndarray:
    """bool (seeds, images): each seed right on about this share."""
    return draw.random((seeds, TEST)) < share


def chances(correct: np.ndarray) -> np.ndarray:
    """float32 (images, 2): sure of the class it says."""
    said = np.where(correct, TRUTH, 1 - TRUTH)
    return np.eye(2, dtype=np.float32)[said] * 0.8 + np.float32(0.1)


def confirm(
    database: Path,
    sides: dict[str, np.ndarray],
    failed: int = 0,
    opened: int = 1,
    epochs: str = "fixed",
    failing: str = "",
) -> None:
    """Records fresh seeds of the study's winner and baseline as the search does, on a test set of its own. `failed`
    more of them failed, of all sides or of the one that is `failing`.
    """
    results = Results.open(database)
    sources = {"winner": results.winner(), "baseline": results.baseline()}
    sources["other baseline"] = results.ranking("baseline").iloc[1]
    with Store(database) as store, store.transaction():
        number = len(store.rows("SELECT 1 FROM images"))
        for i, label in enumerate(TRUTH):
            query = "INSERT INTO images VALUES (?, ?, 'test', ?, ?, 9, 9)"
            store.write(query, number + i, f"test/{i}.jpg", int(label), str(i))
        planned = []
        for side, correct in sides.items():
            row = sources[side]
            assert row is not None
            planned.append({"name": side, "source": row["id"], "kind": row["kind"], "epochs": 3})
            for seed in range(len(correct) + (failed if failing in ("", side) else 0)):
                id = f"{row['id']}-s{seed + 1:02d}"
                before = len(store.rows("SELECT 1 FROM configurations WHERE kind = 'seed'"))
                store.add_configuration(id, "seed", before, dict(results.hyperparameters(row["id"])), "pooled", 1)
                held_out.confirms(store, id, Confirms(str(row["id"]), side, seed + 1))
                store.begin_trial(TrialRow(id, id, None, None, None, 0, 3, None))
                store.record_epoch(id, id, EpochRow(3, 0.1, 1.0, 0.2, 0.9, 0.1, 92), None, ())
                store.end_trial(id, "FAILED" if seed >= len(correct) else "COMPLETED", 0.2, 3, None, 1.0)
        store.set_meta(confirmation={"seeds": 5, "sides": planned, "epochs": epochs}, test_seal="seal")
        for _ in range(opened):
            opening = held_out.open_test(store, "now", planned[0]["source"], planned[1]["source"])
        for side, (_, correct) in zip(planned, sides.items(), strict=True):
            for seed, one in enumerate(correct):
                rows = number + np.arange(TEST)
                held_out.record(store, f"{side['source']}-s{seed + 1:02d}", opening, rows, chances(one))


def test_a_gain_has_to_hold_against_both_baselines(tmp_path: Path) -> None:
    """Whichever of the two the validation images took for the better one."""
    draw = np.random.default_rng(3)
    sides = {"winner": right(0.95, 5, draw), "baseline": right(0.7, 5, draw)}
    for name, share, kind in (("weak", 0.7, "gain"), ("strong", 0.95, "too few images")):
        database = make_study(tmp_path / name, FINISHED)
        other = np.repeat(right(share, 1, np.random.default_rng(5)), 5, axis=0)
        confirm(database, sides | {"other baseline": other}, epochs="chosen")
        found = Results.open(database).findings()
        assert found.kind == kind and found.compared is not None and found.compared.low > 0.02
        assert found.compared_other is not None and (found.compared_other.low > 0.02) == (kind == "gain")
        assert ("than the other baseline" in found.sentence) == (kind != "gain")
        results = Results.open(database)
        use, baselines = results.recommendation(), [str(results.baseline()["id"]), found.other_baseline.configuration]
        assert use is not None and use.baseline is not None
        # Of the two baselines the one that is more accurate on the test images is the one to set against the winner.
        assert use.baseline.configuration == baselines[found.compared_other.difference < found.compared.difference]
        assert use.difference == min(found.compared.difference, found.compared_other.difference)


def test_no_gain_is_claimed_while_too_few_seeds_of_the_other_baseline_ended(tmp_path: Path) -> None:
    draw, database = np.random.default_rng(3), make_study(tmp_path, FINISHED)
    sides = {"winner": right(0.95, 5, draw), "baseline": right(0.7, 5, draw), "other baseline": right(0.7, 1, draw)}
    confirm(database, sides, failed=4, epochs="chosen", failing="other baseline")
    found = Results.open(database).findings()
    assert found.kind == "too few seeds" and "of the other baseline's 5 fresh seeds 4 failed" in found.sentence
    assert found.compared is not None and found.compared.low > 0.02 and found.compared_other is None


@pytest.mark.parametrize(("winner", "baseline"), [(0.95, 0.7), (0.7, 0.95), (0.9, 0.9)])
def test_the_verdict_is_that_of_the_recorded_predictions(tmp_path: Path, winner: float, baseline: float) -> None:
    draw = np.random.default_rng(3)
    sides = {"winner": right(winner, 5, draw), "baseline": right(baseline, 5, draw)}
    database = make_study(tmp_path, FINISHED)
    confirm(database, sides)
    found, wanted = Results.open(database).findings(), compare(sides["winner"], sides["baseline"])
    assert found.kind == verdict(wanted, 0.02).kind and found.sentence == verdict(wanted, 0.02).sentence
    assert found.compared is not None and found.compared.low == wanted.low
    assert (found.images, found.seeds, found.ground, found.openings) == (TEST, 5, "test", 1)
    assert found.winner is not None and found.baseline is not None
    assert found.winner.accuracies == tuple(sides["winner"].mean(axis=1))
    assert found.baseline.confirmed is not None and found.baseline.confirmed.correct == sides["baseline"][0].sum()
    said = json.loads(Results.open(database).to_json())["verdict"]
    assert (said["kind"], said["compared"]["low"], said["images"]) == (found.kind, wanted.low, TEST)
    assert "The test set was sealed before the search and opened once." in found.evidence
    assert any("search said" in line and "over 5 seeds" in line for line in found.evidence)


def test_a_test_set_that_may_have_been_seen_is_called_so_wherever_the_verdict_stands(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    confirm(database, {"winner": right(0.95, 5, draw), "baseline": right(0.7, 5, draw)})
    with Store(database) as store, store.transaction():
        spec = store.meta("spec")
        store.set_meta(spec={**spec, "data": {**spec["data"], "allow_leak": True}})
    results = Results.open(database)
    found, console = results.findings(), Console(width=100, file=StringIO())
    console.print(tables.report(results, findings=found))
    assert isinstance(console.file, StringIO)
    html = page.page(results, tmp_path, findings=found)
    for text in (console.file.getvalue(), html, cell.card("made", results), results.to_json()):
        assert "allow_leak" in found.sentence and " ".join(found.sentence.split()[-6:]) in " ".join(text.split())
        assert "no trial ever saw" not in text


def test_probabilities_that_are_too_modest_are_said_to_be(tmp_path: Path) -> None:
    """Every answer is 90 % sure; the winner is right on 98 %."""
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    confirm(database, {"winner": right(0.98, 5, draw), "baseline": right(0.8, 5, draw)})
    results = Results.open(database)
    found = results.calibration()
    assert found is not None and found.n == TEST and found.error is not None and found.p is not None
    assert found.error == pytest.approx(abs(found.bins["accuracy"][0] - 0.9), abs=1e-6) and found.p < 0.01
    with style.applied():
        made = figures.reliability(results)
        made.draw_without_rendering()
    assert made.axes[0].containers, "a point and its interval for each bin"
    assert any("points on average" in line and "more than luck gives" in line for line in results.findings().evidence)


def test_the_second_outcome_stands_under_the_verdict_wherever_that_is_read(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    sides = {"winner": right(0.93, 5, draw), "baseline": right(0.8, 5, draw)}
    confirm(database, sides)
    results = Results.open(database)
    found = results.findings().probabilities
    assert found is not None and found.kind == "better probabilities"
    scores = [0.81 - 0.8 * correct.mean() for correct in sides.values()]  # 0.01 where right, 0.81 where wrong
    assert (found.winner, found.baseline) == pytest.approx(scores, abs=1e-6)
    assert json.loads(results.to_json())["verdict"]["probabilities"]["low"] == found.low < found.high < 0
    assert found.sentence in results.findings().evidence
    assert found.sentence in unescape(page.page(results, tmp_path, findings=results.findings()))
    assert results.findings().balanced is None, "the classes are of one size"


def test_classes_of_unequal_size_have_a_balanced_accuracy_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = (np.arange(TEST) < TEST // 5).astype(int)
    monkeypatch.setattr(sys.modules[__name__], "TRUTH", truth)
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    sides = {"winner": right(0.9, 5, draw), "baseline": right(0.8, 5, draw)}
    confirm(database, sides)
    found = Results.open(database).findings()
    own = [[correct[:, truth == c].mean() for c in (0, 1)] for correct in sides.values()]
    assert found.balanced is not None
    assert found.balanced.difference == pytest.approx(np.mean(own[0]) - np.mean(own[1]))
    assert any("in balanced accuracy" in line and "40 to 160 images" in line for line in found.evidence)


def test_a_seed_that_collapsed_is_named_and_where_none_did_what_that_leaves_open(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    for collapses in (False, True):
        winner = right(0.9, 5, draw)
        if collapses:
            winner[2] = right(0.5, 1, draw)[0]
        database = make_study(tmp_path / str(collapses), FINISHED)
        confirm(database, {"winner": winner, "baseline": right(0.8, 5, draw)})
        found, share = Results.open(database).findings(), f"{100 * winner[2].mean():.0f} %"
        named = f"seed 3 of the winner ended at {share}"
        assert (found.collapsed == (named,)) is collapses and (named in found.sentence) is collapses
        assert any("up to 45 in 100 further ones would" in line for line in found.evidence) is not collapses


@pytest.mark.parametrize(("epochs", "level"), [("chosen", 0.975), ("fixed", 0.95)])
def test_a_second_opening_is_counted_said_and_asked_more_of(tmp_path: Path, epochs: str, level: float) -> None:
    """Confirmed by an earlier version's rule it keeps that one's interval."""
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    sides = {"winner": right(0.9, 5, draw), "baseline": right(0.8, 5, draw)}
    confirm(database, sides, opened=2, epochs=epochs)
    found, wanted = Results.open(database).findings(), compare(sides["winner"], sides["baseline"], level)
    assert found.openings == 2 and found.compared is not None and found.probabilities is not None
    assert (found.compared.low, found.compared.confidence) == (wanted.low, level)
    assert found.probabilities.confidence == level and f"{100 * level:.3g} % interval" in found.sentence
    assert any("opened 2 times: each further look makes it less of a test" in line for line in found.evidence)
    assert any("of 97.5 %: 5 % of error by the number of looks" in line for line in found.evidence) is (level > 0.95)


def test_failed_seeds_are_counted_and_missing_ones_leave_it_open(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    (tmp_path / "a").mkdir()
    database = make_study(tmp_path / "a", FINISHED)
    confirm(database, {"winner": right(0.9, 4, draw), "baseline": right(0.8, 4, draw)}, failed=1)
    found = Results.open(database).findings()
    assert found.kind != "open" and found.winner is not None and found.winner.failed == 1
    assert any("1 seed failed and counted as 50 %" in line for line in found.evidence)
    (tmp_path / "b").mkdir()
    database = make_study(tmp_path / "b", FINISHED)
    confirm(database, {"winner": right(0.9, 4, draw), "baseline": right(0.8, 5, draw)})
    assert Results.open(database).findings().kind == "open"


def test_a_failed_seed_counts_as_chance_and_what_ended_stands_beside(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    sides = {"winner": right(0.9, 3, draw), "baseline": right(0.85, 5, draw)}
    confirm(database, sides, failed=2)
    results = Results.open(database)
    found, wanted = results.findings(), compare(sides["winner"], sides["baseline"], failed=(2, 2), chance=0.5)
    ended = sides["winner"].mean()
    assert found.compared is not None and found.winner is not None and found.winner.mean is not None
    assert found.winner.mean == pytest.approx((3 * ended + 2 * 0.5) / 5)
    assert (found.compared.difference, found.compared.low) == (wanted.difference, wanted.low)
    assert "failed and counted as chance" in found.sentence
    said = next(side.seeds for side in tables_of(results, found) if side.role == "winner")
    assert f"mean {100 * found.winner.mean:.1f}% with 2 failed" in said and f"{100 * ended:.1f}% without" in said


@pytest.mark.parametrize(("ended", "failed"), [(0, 5), (1, 4)])
def test_where_hardly_a_seed_ended_nothing_is_concluded(tmp_path: Path, ended: int, failed: int) -> None:
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    confirm(database, {"winner": right(0.99, ended, draw), "baseline": right(0.6, 5, draw)}, failed=failed)
    results = Results.open(database)
    found = results.findings()
    assert (found.kind, found.compared, found.mcnemar, found.images) == ("too few seeds", None, None, TEST)
    assert f"of the winner's 5 fresh seeds {failed} failed" in found.sentence
    assert any(f"{failed} seeds failed" in line for line in found.evidence)
    out = StringIO()
    Console(file=out, width=200).print(tables.report(results, findings=found))
    assert "Too few seeds to tell: of the winner's" in out.getvalue()
    assert "Too few seeds to tell" in page.page(results, tmp_path, findings=found)


def test_seeds_too_many_on_one_side_do_not_stand_for_those_that_the_other_lacks(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    confirm(database, {"winner": right(0.9, 6, draw), "baseline": right(0.8, 4, draw)})
    found = Results.open(database).findings()
    assert (found.kind, found.sentence, found.seeds) == ("open", OPEN, 4)


def test_what_the_verdict_stands_for_is_said_and_under_a_leak_not_that_no_trial_saw_an_image(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    for leak in (False, True):
        database = make_study(tmp_path / str(leak), FINISHED)
        confirm(database, {"winner": right(0.9, 5, draw), "baseline": right(0.8, 5, draw)})
        with Store(database) as store, store.transaction():
            spec = FINISHED.spec().override({"data.allow_leak": leak})
            store.set_meta(spec=spec.to_dict())
        said = ground(Results.open(database).findings())
        assert ("no trial ever saw" in said) is not leak and ("may have seen" in said) is leak
        assert "for this training set and this search" in said


def test_the_expected_best_counts_failed_trials_and_names_its_epochs(tmp_path: Path) -> None:
    results = Results.open(make_study(tmp_path, FINISHED))
    found, trials = results.findings().selection, results.trials()
    assert found is not None
    first = trials[(trials["rung"] == 0) & (trials["bracket"] == trials["bracket"].max())]
    assert (first["status"] == "failed").any(), "the made study has one"
    assert len(found.expected_best) == len(first) and found.expected_after == first["last_epoch"].max()


def test_a_study_without_confirmation_is_open_and_says_what_choosing_cost(tmp_path: Path) -> None:
    found = Results.open(make_study(tmp_path, FINISHED)).findings()
    assert found.kind == "open" and "`tlstudy confirm`" in found.sentence
    assert found.selection is not None and found.selection.draws > 1900
    assert found.selection.corrected.difference <= found.selection.searched + 0.05
    numbers, best = zip(*found.selection.expected_best, strict=True)
    assert np.diff(best).min() > -1e-9 and list(numbers) == list(range(1, len(best) + 1))


def test_folds_share_their_training_images_so_their_interval_is_wider_than_a_plain_one() -> None:
    differences = np.array([0.02, 0.05, -0.01, 0.03, 0.04, 0.0, 0.02, 0.03, 0.01, 0.05])
    found = corrected_resampled(differences, np.full(10, 20.0), np.full(10, 80.0))
    spread = differences.std(ddof=1)
    assert found.high - found.difference == pytest.approx(2.2622 * spread * np.sqrt(1 / 10 + 20 / 80), rel=1e-3)
    assert corrected_resampled(differences[:1], np.ones(1), np.ones(1)).low == -1.0
