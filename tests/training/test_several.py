"""Regression on the means at several cuts is scikit-learn's on the joined means; training images choose the cuts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from training.test_logistic import made, task
from training.trials import equal, numbers, run, saved, spec

from tuner.backbones.architecture import architecture
from tuner.features import sets
from tuner.spec.configuration import LOGISTIC, SEVERAL_CUTS
from tuner.training import logistic, several, trial
from tuner.training.subset import SPLIT, Subset

SETS = (("pooled",), ("pooled", "high"), ("pooled", "high", "low"))
FOLD = Subset("fold", folds=3, repeat=0, fold=1)


def blocks(n: int, classes: int, widths: tuple[int, int, int], signal: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Cuts of different scales and offsets, of which one tells the classes apart."""
    draw = np.random.default_rng(1)
    found = {}
    for i, (cut, width) in enumerate(zip(SETS[-1], widths, strict=True)):
        x, y = made(n, width, classes, seed=i)
        x = x if cut == signal else draw.normal(size=x.shape).astype(np.float32)
        found[cut] = (10.0**i * x + i).astype(np.float32)
    return found, y


def fit(means: dict[str, np.ndarray], y: np.ndarray, classes: int, **options: Any) -> several.Fit:
    return several.fit(means, SETS, task(y, classes, **options))


def joined(means: dict[str, np.ndarray], cuts: tuple[str, ...]) -> np.ndarray:
    """As the fit scales them: each channel to the same spread, nearly, every cut to the same mean squared norm."""
    spreads = {cut: means[cut].std(axis=0, dtype=np.float64) for cut in cuts}
    centred = [(means[cut] - means[cut].mean(axis=0)) / (s + 1e-3 * s.mean()) for cut, s in spreads.items()]
    return np.concatenate([x / np.sqrt(len(cuts) * np.mean(np.sum(x**2, axis=1))) for x in centred], axis=1)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(
    ("n", "classes", "widths"),
    [
        (40, 2, (50, 60, 70)),
        (61, 3, (40, 30, 90)),
        (200, 2, (20, 30, 40)),
        (90, 4, (20, 30, 40)),
    ],
)
def test_it_is_scikit_learns_fit_on_the_joined_means(
    n: int, classes: int, widths: tuple[int, int, int], balanced: bool
) -> None:
    """With fewer images than channels, and with more."""
    means, y = blocks(n, classes, widths, "low")
    y[::6] = 0
    found = fit(means, y, classes, balanced=balanced)
    assert found.cuts == SETS[2] and found.widths == widths and found.folds == 5
    x = joined(means, found.cuts)
    reference = LogisticRegression(
        C=found.strength, max_iter=50000, tol=1e-10, class_weight="balanced" if balanced else None
    ).fit(x, y)
    logits = found.logits(np.concatenate([means[cut] for cut in found.cuts], axis=1))
    theirs = reference.decision_function(x).reshape(n, -1)
    theirs, logits = (z - z.mean(axis=1, keepdims=True) * (classes > 2) for z in (theirs, logits))
    np.testing.assert_allclose(logits, theirs, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.parametrize(("signal", "chosen"), [("pooled", 0), ("high", 1), ("low", 2)])
def test_no_more_cuts_are_taken_than_tell_the_classes_apart(signal: str, chosen: int) -> None:
    means, y = blocks(200, 2, (20, 60, 60), signal)
    found = fit(means, y, 2)
    assert found.cuts == SETS[chosen]
    if not chosen:
        alone = logistic.fit(means["pooled"], task(y, 2))
        assert np.array_equal(found.kernel, alone.kernel) and np.array_equal(found.bias, alone.bias)
        assert (found.strength, found.folds) == (alone.strength, alone.folds)


@pytest.mark.parametrize(("n", "widths"), [(30, (50, 60, 70)), (90, (20, 30, 40))])
def test_of_views_it_is_scikit_learns_weighted_fit(n: int, widths: tuple[int, int, int]) -> None:
    """With fewer rows than channels, and with more; the images themselves weigh nothing."""
    means, y = blocks(n, 2, widths, "low")
    y[::6] = 0
    draw = np.random.default_rng(3)
    every = {
        cut: np.concatenate([x, *(x + x.std() * draw.normal(size=(3, *x.shape)))]).astype(np.float32)
        for cut, x in means.items()
    }
    found = fit(every, y, 2, views=(0.0, 1 / 3, 1 / 3, 1 / 3))
    assert found.cuts == SETS[2]
    x = joined({cut: rows[n:] for cut, rows in every.items()}, found.cuts)
    reference = LogisticRegression(C=found.strength, max_iter=50000, tol=1e-10)
    reference.fit(x, np.tile(y, 3), sample_weight=np.full(3 * n, 1 / 3))
    theirs = reference.decision_function(x)
    logits = found.logits(np.concatenate([every[cut][n:] for cut in found.cuts], axis=1))[:, 0]
    np.testing.assert_allclose(logits, theirs, atol=1e-3 * np.abs(theirs).max())


def test_a_cuts_scale_does_not_matter_and_what_says_nothing_does_no_harm() -> None:
    means, y = blocks(60, 2, (40, 40, 40), "low")
    one = fit(means, y, 2)
    other = fit(means | {"low": means["low"] * 100.0}, y, 2)
    assert (one.cuts, one.strength) == (other.cuts, other.strength)
    x = np.concatenate([means[cut] for cut in one.cuts], axis=1)
    scaled = np.concatenate([means["pooled"], means["high"], means["low"] * 100.0], axis=1)
    np.testing.assert_allclose(one.logits(x), other.logits(scaled), atol=1e-3)
    constant = dict.fromkeys(SETS[-1], np.ones((20, 4), np.float32))
    assert fit(constant, np.arange(20) % 2, 2).cuts == ("pooled",)


def test_a_class_of_one_image_leaves_nothing_to_choose_by() -> None:
    means, y = blocks(6, 2, (10, 10, 10), "low")
    y[:] = 0
    y[0] = 1
    found = fit(means, y, 2)
    assert (found.cuts, found.strength, found.folds) == (("pooled",), 1.0, 1)
    asked = several.fit(means, SETS[1:2], task(y, 2))
    assert (asked.cuts, asked.strength, asked.folds) == (SETS[1], 1.0, 1)


def test_a_stop_ends_it() -> None:
    means, y = blocks(40, 2, (30, 30, 30), "low")
    answers = iter([False] * 40 + [True])
    with pytest.raises(logistic.FitStopped):
        fit(means, y, 2, should_stop=lambda: next(answers))
    assert not list(answers)


# ---- which cuts there are ----


def test_the_sets_are_nested_from_the_top_and_few_and_of_a_few_channels_where_images_are_many() -> None:
    of = architecture(image_size=224)
    found = sets.nested(of, 300)
    assert (
        len(found) == sets.SETS and found[0] == ("pooled",) and found[1] == ("pooled", "conv5_block2", "conv5_block1")
    )
    assert all(
        more[: len(less)] == less and len(more) > len(less) for less, more in zip(found, found[1:], strict=False)
    )
    assert sets.nested(of, 10_000) == (("pooled",), ("pooled", "conv4_block6"))
    assert sets.read(found) == found[-1][1:] and "stem" not in sets.read(found)
    assert sets.asked("", of, 300) == () and sets.asked("several", of, 300) == found
    assert sets.asked(", ".join(found[1]), of, 300) == (found[1],)


@given(images=st.integers(1, 20_000), drawn=st.integers(1, 64), several=st.booleans())
def test_views_are_the_first_ones_as_many_as_there_is_time_for(images: int, drawn: int, several: bool) -> None:
    assert sets.views([0], images, several=several) == {0: 1.0}
    assert sets.views([0, 1], images, several=several) == {0: 0.5, 1: 0.5}
    found = sets.views(range(1, drawn + 1), images, several=several)
    first, *rest = found.items()
    assert first == (0, 0.0) and [number for number, _ in rest] == list(range(1, len(rest) + 1))
    assert {share for _, share in rest} == {1 / len(rest)}
    most = sets.MANY if several else sets.ROWS
    assert len(rest) == min(drawn, 2) or images * len(found) <= most
    assert len(rest) == drawn or images * (len(found) + 1) > most


# ---- as a trial ----


@pytest.fixture
def context(context_of: Any, tmp_path: Path) -> Any:
    return context_of(tmp_path, classes=3)


@pytest.mark.parametrize("subset", [SPLIT, FOLD])
def test_it_is_a_trial_of_one_epoch(subset: Subset, context: Any) -> None:
    wanted = replace(spec(last_epoch=1, subset=subset), values=SEVERAL_CUTS)
    result, (done,) = run(wanted, context)
    rows, arrays = context.rows(subset), saved(context, [done], "best")[1]
    found = trial.fit_cuts(context, rows, SEVERAL_CUTS)
    assert equal(arrays, found.arrays()) and result.cuts == found.cuts and result.best == done.row
    assert result.trained_parameters == found.kernel.size + found.bias.size
    for chances, where in ((done.probabilities, rows.validation), (result.held_out, rows.held_out)):
        if len(where):
            assert np.array_equal(chances, trial.predict(SEVERAL_CUTS, arrays, context, where))
        else:
            assert chances is None
    chosen = replace(SEVERAL_CUTS, cuts=", ".join(found.cuts))
    assert equal(trial.fit_cuts(context, rows, chosen).arrays(), arrays), "the same cuts, not chosen again"
    assert run(replace(wanted, values=LOGISTIC, subset=subset), context)[0].cuts == ()


def test_training_images_alone_decide(context: Any) -> None:
    """Whatever the others are, the fit is the same to the last bit; and a fold chooses by its own training images."""
    wanted = replace(spec(last_epoch=1), values=SEVERAL_CUTS)
    before = run(wanted, context)[1]

    def others(array: np.ndarray) -> np.ndarray:
        changed = np.array(array)
        changed[context.validation] = np.random.default_rng(3).normal(size=changed[context.validation].shape)
        return changed

    features = context.features
    arrays = {cut: others(array) if cut == "pooled" else array for cut, array in features.arrays.items()}
    means = {cut: others(array) for cut, array in features.means.items()}
    labels = context.labels.copy()
    labels[context.validation] = (labels[context.validation] + 1) % 3
    changed = replace(context, features=replace(features, arrays=arrays, means=means), labels=labels)
    after = run(wanted, changed)[1]
    assert equal(saved(context, before, "best")[1], saved(changed, after, "best")[1])
    assert numbers(before) != numbers(after), "but what it says of them is not"


def test_a_stop_leaves_nothing(context: Any, tmp_path: Path) -> None:
    answers = iter([False] * 5 + [True])
    result, done = run(replace(spec(last_epoch=1), values=SEVERAL_CUTS), context, lambda: next(answers))
    assert (result.status, result.best, done, list(tmp_path.glob("*.npz"))) == ("STOPPED", None, [], [])
