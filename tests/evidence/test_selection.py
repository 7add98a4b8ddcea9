"""What selection cost: the choice by the study's rule, the correction's bias, and the expected best of n."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from evidence.fake_trainer import World, hyperband, search

from tuner.evidence.metrics import score, weighted
from tuner.evidence.selection import Candidates, Looks, Rungs, expected_best, once, selection_cost
from tuner.store.losses import packed, signed
from tuner.store.ranking import SCORED, metric_key


def alone(right: np.ndarray) -> Candidates:
    """A baseline that was not chosen."""
    return once(np.ones((1, len(right))), right[None], lambda bags: np.ones((len(bags), 1, 1)))


@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy"])
def test_the_winner_is_the_one_the_study_would_choose(objective: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        loss, right = rng.integers(1, 4, (6, 8)).astype(float), rng.random((6, 8)) < 0.5
        keys = [metric_key(objective, x.sum(), r.sum()) for x, r in zip(loss, right, strict=True)]
        found = selection_cost(once(loss, right), alone(right[0]), objective, rng, draws=5)
        assert found.winner == min(range(6), key=lambda row: (keys[row], row))
        assert found.accuracy_said == pytest.approx(right[found.winner].mean())


@pytest.mark.parametrize("objective", SCORED)
def test_by_another_objective_too(objective: str) -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        chances = rng.integers(1, 4, (5, 12, 3)).astype(np.float64)
        chances /= chances.sum(axis=2, keepdims=True)
        labels = np.arange(12) % 3
        loss, right = -np.log(chances[:, np.arange(12), labels]), chances.argmax(axis=2) == labels

        def scores(bags: np.ndarray, chances: np.ndarray = chances, labels: np.ndarray = labels) -> np.ndarray:
            return np.stack([weighted(objective, one, labels, bags) for one in chances], axis=1)[..., None]

        found = selection_cost(once(loss, right, scores), alone(right[0]), objective, rng, draws=20)
        keys = [
            metric_key(objective, x.mean(), r.mean(), score(objective, c, labels))
            for x, r, c in zip(loss, right, chances, strict=True)
        ]
        assert keys[found.winner][0] == min(keys)[0]
        assert keys[found.winner][1] == pytest.approx(min(keys)[1])
        assert found.accuracy_said == pytest.approx(right[found.winner].mean())


def test_one_configuration_was_not_chosen_and_costs_nothing() -> None:
    rng = np.random.default_rng(1)
    right, baseline = rng.random((1, 200)) < 0.8, rng.random(200) < 0.7
    found = selection_cost(once(rng.random((1, 200)), right), alone(baseline), "val_loss", rng)
    assert found.accuracy == pytest.approx(found.accuracy_said, abs=0.005)
    assert found.difference == pytest.approx(found.difference_said, abs=0.005)
    assert found.difference_low < found.difference < found.difference_high
    assert found.accuracy_low < found.accuracy < found.accuracy_high


@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy"])
def test_the_lead_of_the_best_among_equals_is_taken_back(objective: str) -> None:
    rng, said, corrected = np.random.default_rng(2), [], []
    for _ in range(60):
        # epochs=1: the rows are all that was looked at; the baseline was not chosen
        study = search(rng, World(0.4, 0.4), validation=60, epochs=1, baselines=1)
        found = selection_cost(
            once(study.stored_loss, study.stored), alone(study.stored_baseline), objective, rng, draws=300
        )
        said.append(found.difference_said)
        corrected.append(found.difference)
    error = np.std(corrected) / math.sqrt(60)
    assert np.mean(said) > 4 * error, "the winner looks better than it is"
    assert abs(np.mean(corrected)) < 3 * error


def test_images_of_a_group_are_drawn_together() -> None:
    """Left out beside others of their group they are no new images: the lead of the best among equals stays."""
    rng, group, found = np.random.default_rng(7), np.repeat(np.arange(12), 5), []
    for _ in range(60):
        margin = rng.normal(size=(20, 12))[:, group] + 0.5 * rng.normal(size=(20, 60)) + 0.7
        sides = once(np.logaddexp(0, -margin), margin > 0), alone(margin[rng.integers(20)] > 0)
        by = [selection_cost(*sides, "val_loss", rng, draws=60, groups=of) for of in (None, group)]
        found.append([by[0].difference_said, by[0].difference, by[1].difference])
    said, by_image, by_group = np.mean(found, axis=0)
    assert said > by_image > 0.6 * said
    assert abs(by_group) < 4 * np.std([f[2] for f in found]) / math.sqrt(60)
    with pytest.raises(ValueError, match="found 60 images of one group, expected two or more"):
        selection_cost(*sides, "val_loss", rng, groups=np.zeros(60, np.int64))


def test_a_true_lead_stays() -> None:
    rng = np.random.default_rng(3)
    right = rng.random((20, 300)) < 0.6
    right[7] = rng.random(300) < 0.9
    loss = np.where(right, 0.2, 1.5)
    found = selection_cost(once(loss, right), alone(rng.random(300) < 0.6), "val_loss", rng)
    assert found.winner == 7
    assert found.difference == pytest.approx(found.difference_said, abs=0.01)


def test_draws_come_from_the_generator_and_failed_rows_never_win() -> None:
    rng = np.random.default_rng(4)
    loss, right = rng.random((3, 40)), rng.random((3, 40)) < 0.7
    loss[0, 0] = math.nan
    right[0] = True
    for objective in ("val_loss", "val_accuracy"):
        first = selection_cost(once(loss, right), alone(right[1]), objective, np.random.default_rng(5))
        assert first == selection_cost(once(loss, right), alone(right[1]), objective, np.random.default_rng(5))
        assert first.winner != 0 and first.accuracy < 1


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_the_whole_choice_on_all_images_is_the_studys_own(checkpoint: str) -> None:
    """Epochs, rungs and the best of those that got to the end."""
    rng = np.random.default_rng(8)
    for _ in range(20):
        study = hyperband(rng, World(0.4, 0.4), validation=40, checkpoint=checkpoint)
        found = selection_cost(study.winner, study.baseline, "val_loss", rng, draws=5, checkpoint=checkpoint)
        assert found.winner == study.chosen[0]
        assert found.difference_said == pytest.approx(study.said)


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_a_bag_on_which_the_objective_has_no_value_is_chosen_on_by_loss(checkpoint: str) -> None:
    """As AUC where one of two classes is missing: on every second bag."""
    rng = np.random.default_rng(12)
    study = hyperband(rng, World(0.4, 0.4), validation=30, checkpoint=checkpoint)
    undefined = [
        replace(side, scores=lambda bags: np.where(bags[:, :1, None] > 0, 0.5, np.nan))
        for side in (study.winner, study.baseline)
    ]
    by_loss = selection_cost(*undefined, "val_auc", rng, draws=100, checkpoint=checkpoint)
    assert by_loss.winner == study.chosen[0], "all equal, loss decides"
    assert np.isfinite([by_loss.difference, by_loss.difference_low, by_loss.difference_high]).all()


@pytest.mark.parametrize("heads", [9, 0])
def test_with_rungs_epochs_and_a_chosen_baseline_equals_come_out_as_equals(heads: int) -> None:
    """Against the best of nine heads and logistic regression, and against that alone, which nothing flatters."""
    rng, said, corrected, one_sided = np.random.default_rng(9), [], [], []
    for _ in range(100):
        study = hyperband(rng, World(0.4, 0.4), validation=100, heads=heads)
        found = selection_cost(study.winner, study.baseline, "val_loss", rng, draws=200)
        said.append(study.said - study.true)
        corrected.append(found.difference - study.true)
        # as it was: among those that reached the end, at the epoch that counted, against the baseline that was chosen
        full = once(study.full_loss, study.full_right)
        one_sided.append(selection_cost(full, alone(study.baseline_right), "val_loss", rng, draws=200).difference)
    error = 1.96 * np.std(corrected) / math.sqrt(100)
    assert error < 0.01
    assert abs(np.mean(corrected)) < 0.003 + error
    assert abs(np.mean(one_sided) - np.mean(corrected)) > 0.015


def test_stored_looks_say_what_unpacked_ones_do_and_a_sure_right_answer_is_right() -> None:
    """Of an answer that is certain and right the stored loss is -0, which is no wrong answer."""
    rng, n = np.random.default_rng(13), 60
    truth = rng.integers(3, size=n)
    chances = rng.dirichlet(np.full(3, 0.3), (6, 1, n)).astype(np.float32)
    chances[:, :, :10] = np.eye(3, dtype=np.float32)[truth[:10]]
    said = [signed(packed(one[0], truth)) for one in chances]
    assert np.signbit(said[0][:10]).all()
    stored = Looks(said, np.arange(6)[:, None], np.zeros((2, 6)))
    loss = np.abs(np.array(said, np.float64))
    plain = once(loss, chances[:, 0].argmax(axis=2) == truth)
    for objective in ("val_loss", "val_accuracy"):
        found, wanted = (
            selection_cost(one, alone(np.ones(n, bool)), objective, np.random.default_rng(1), draws=200)
            for one in (replace(plain, looks=stored), plain)
        )
        assert found.winner == wanted.winner and found.difference == pytest.approx(wanted.difference)


def test_epochs_that_do_not_exist_take_no_memory() -> None:
    """Of 200 configurations most are stopped after one of 30 epochs: 240 MB, were all of them there."""
    rng, n = np.random.default_rng(14), 5000
    said = list(rng.normal(1, 0.5, (200 + 29, n)).astype(np.float16))
    place = np.full((200, 30), -1)
    place[:, 0], place[0, 1:] = np.arange(200), np.arange(200, 229)
    ended = [1] + [0] * 199
    many = Candidates(Looks(said, place, np.zeros((2, 229))), [Rungs(range(200), ended, [1, 30], [200, 1])])
    tracemalloc.start()
    selection_cost(many, alone(rng.random(n) < 0.5), "val_loss", rng, draws=10)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 60e6


def test_what_cannot_be_drawn_is_refused() -> None:
    rng = np.random.default_rng(0)
    one = once(np.ones((2, 3)), np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="left out"):
        selection_cost(*[once(np.ones((2, 1)), np.ones((2, 1), dtype=bool))] * 2, "val_loss", rng)
    with pytest.raises(ValueError, match="expected"):
        selection_cost(one, alone(np.ones(2, dtype=bool)), "val_loss", rng)
    with pytest.raises(ValueError, match="expected"):
        once(np.ones((2, 3)), np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="objective"):
        selection_cost(one, one, "loss", rng)


def test_the_expected_best_is_the_mean_over_all_subsets() -> None:
    scores = [0.5, 0.9, 0.2, 0.7, 0.7, 0.4]
    for smaller, best in ((True, min), (False, max)):
        found = expected_best(scores, smaller=smaller)
        for n in range(1, 7):
            subsets = [best(s) for s in itertools.combinations(scores, n)]
            assert found[n - 1] == pytest.approx(sum(subsets) / len(subsets))


def test_failed_trials_count_as_the_worst_of_those_that_did_not_fail() -> None:
    assert expected_best([0.1, math.nan, 0.5]).tolist() == expected_best([0.1, 0.5, 0.5]).tolist()
    assert expected_best([0.9, math.inf], smaller=False).tolist() == [0.9, 0.9]
    assert np.isnan(expected_best([math.nan])).all()
    assert expected_best([]).size == 0
    many = expected_best(np.random.default_rng(0).random(2000))
    assert np.isfinite(many).all() and (np.diff(many) <= 1e-12).all()
