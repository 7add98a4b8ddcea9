"""Which model to use: always answered, by a rule whose cost against knowing the truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evidence import fake_trainer as fake
from evidence.simulate_recommendation import regret, unconfirmed
from evidence.test_confirmed import confirm, right
from made_findings import KINDS, findings
from made_study import FINISHED, INTERRUPTED, MANY, NO_TRIAL_YET, UNTRAINED, Made, make_study

from tuner.evidence.paired import compare
from tuner.evidence.recommendation import PRIOR, caveats, exported, posterior, searched
from tuner.evidence.results import Results


def test_the_chance_is_that_of_a_normal_truth_and_a_normal_error() -> None:
    rng, error = np.random.default_rng(0), 0.04
    truth = rng.normal(0, PRIOR, 400_000)
    seen = truth + rng.normal(0, error, truth.size)
    for difference in (-0.05, 0.0, 0.03, 0.1):
        near = truth[abs(seen - difference) < 0.003]
        p, mean = posterior(difference, error)
        assert p == pytest.approx((near > 0).mean(), abs=0.02)
        assert mean == pytest.approx(near.mean(), abs=0.002)
    assert posterior(0.0, 0.0) == (0.5, 0.0) and posterior(0.01, 0.0) == (1.0, 0.01)


def test_the_error_of_the_searchs_own_models_is_that_of_the_paired_interval() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 7, 60):
        winner, baseline = rng.random(n) < 0.8, rng.random(n) < 0.6
        wanted = compare(winner, baseline)
        found = searched(winner, baseline)
        assert found == pytest.approx((wanted.difference, wanted.standard_error, n))


@pytest.mark.parametrize(("n", "most"), [(20, 1.0), (50, 0.7)])
def test_it_gives_away_less_than_always_the_winner_or_the_winner_on_gain_alone(n: int, most: float) -> None:
    lost, error, said, held = regret(np.random.default_rng(n), fake.HARD["usual"], 3000, n)
    assert lost["recommended"] < most + error
    assert lost["recommended"] < 0.5 * min(lost["always the winner"], lost["winner on gain only"])
    assert held > said - 3, "the chance that is said is not too high"


def test_without_a_confirmation_it_gives_away_less_than_either_model_always() -> None:
    lost, _ = unconfirmed(np.random.default_rng(0), fake.World(0.4, 0.4), 100, 50)
    assert lost["recommended"] < 0.6 * min(lost["always the winner"], lost["always the baseline"])
    assert lost["recommended"] < lost["by accuracy"]


@pytest.mark.parametrize(("winner", "baseline"), [(0.95, 0.7), (0.7, 0.95)])
def test_on_test_images_the_better_one_there(tmp_path: Path, winner: float, baseline: float) -> None:
    draw = np.random.default_rng(3)
    sides = {"winner": right(winner, 5, draw), "baseline": right(baseline, 5, draw)}
    database = make_study(tmp_path, FINISHED)
    confirm(database, sides)
    found, wanted = Results.open(database).recommendation(), compare(sides["winner"], sides["baseline"])
    assert found is not None and found.p_better is not None and found.ground == "test"
    assert found.which == ("winner" if winner > baseline else "baseline")
    assert (found.difference, found.standard_error) == (wanted.difference, wanted.standard_error)
    assert (found.p_better, found.shrunken) == posterior(wanted.difference, wanted.standard_error)
    assert (found.p_better > 0.99) == (winner > baseline)
    said = json.loads(Results.open(database).to_json())["recommendation"]
    assert (said["which"], said["p_better"]) == (found.which, found.p_better)
    assert said[found.which]["configuration"] == found.configuration


def test_of_equals_the_baseline(tmp_path: Path) -> None:
    same, database = right(0.8, 5, np.random.default_rng(3)), make_study(tmp_path, FINISHED)
    confirm(database, {"winner": same, "baseline": same})
    use = Results.open(database).recommendation()
    assert use is not None and (use.which, use.p_better) == ("baseline", 0.5)


@pytest.mark.parametrize("kept", ["winner", "baseline"])
def test_a_side_whose_seeds_fail_is_not_used(tmp_path: Path, kept: str) -> None:
    draw = np.random.default_rng(3)
    database = make_study(tmp_path, FINISHED)
    confirm(database, {"winner": right(0.9, 5, draw), "baseline": right(0.9, 5, draw)})
    results = Results.open(database)
    found = results.findings()
    assert found.winner is not None and found.baseline is not None
    failing = replace(found.baseline if kept == "winner" else found.winner, accuracies=(0.9,), failed=4)
    found = replace(
        found, kind="too few seeds", compared=None, **{"baseline" if kept == "winner" else "winner": failing}
    )
    use = results.recommendation(found)
    assert use is not None and use.which == kept and use.p_better is None
    assert "failed" in use.sentences[1]
    for which in ("winner", "baseline"):
        assert exported(use, which, found).endswith("not shown: too many fresh seeds failed.")


@pytest.mark.parametrize("kind", [*KINDS, "looks worse", "a kind of tomorrow"])
def test_an_export_is_warned_of_by_the_verdict_alone(tmp_path: Path, kind: str) -> None:
    """Whatever the validation images say: they chose the winner."""
    results = Results.open(make_study(tmp_path, FINISHED))
    found = replace(findings(results), kind=kind, margin=0.03)
    told = {which: " ".join(caveats(found, which)) for which in ("winner", "baseline")}
    if kind in ("gain", "loss"):
        better, worse = ("winner", "baseline") if kind == "gain" else ("baseline", "winner")
        assert not told[better] and "is against it" in told[worse]
    elif kind == "no difference":
        assert told["winner"] == told["baseline"] == "By the verdict they differ by less than 3 points."
        assert "By the verdict" not in " ".join(caveats(replace(found, ground="validation"), "winner"))
    else:
        assert told["winner"] == told["baseline"] and "better is not shown: " in told["winner"]
    use = results.recommendation(found)
    assert use is not None
    for which, caveat in told.items():
        assert exported(use, which, found).endswith(caveat or "baseline." if use.which == which else caveat or "that.")
    assert ("allow_leak" in " ".join(caveats(replace(found, leaks=True), "winner"))) == (kind != "open")


def test_an_export_without_a_second_model_names_none(tmp_path: Path) -> None:
    results = Results.open(make_study(tmp_path, Made(trials=10, outcome=None)))
    use = results.recommendation()
    assert use is not None and use.winner is None and use.which == "baseline"
    told = exported(use, "baseline", results.findings())
    assert "--winner" not in told and "no winner" in told


@pytest.mark.parametrize("made", [FINISHED, INTERRUPTED, NO_TRIAL_YET, UNTRAINED, MANY, Made(trials=10, outcome=None)])
def test_before_a_confirmation_it_is_the_winner_if_ahead_by_the_objective_and_in_accuracy(
    tmp_path: Path, made: Made
) -> None:
    results = Results.open(make_study(tmp_path, made))
    use, chosen = results.recommendation(), results.findings().selection
    assert (use is None) == (results.winner() is None and results.baseline() is None)
    if use is not None and use.winner is not None:
        assert use.ground == "validation" and use.difference is not None and use.p_better is not None
        assert "Not confirmed" in use.sentences[1]
        assert (use.which == "winner") == (bool(results.beats_baseline()) and use.difference > 0)
        assert chosen is None or math.isclose(use.difference, chosen.corrected.difference, abs_tol=0.1)
    elif use is not None:
        assert use.which == "baseline" and use.p_better is None


def test_on_validation_images_what_choosing_flattered_is_taken_off(tmp_path: Path) -> None:
    results = Results.open(make_study(tmp_path, MANY))
    tested, found = findings(results), replace(findings(results), ground="validation")
    assert found.selection is not None and found.compared is not None
    flattered = found.selection.searched - found.selection.corrected.difference
    there, here = results.recommendation(tested), results.recommendation(found)
    assert there is not None and here is not None and there.difference is not None
    assert here.difference == pytest.approx(there.difference - flattered)
    assert (there.ground, here.ground) == ("test", "exploratory")
