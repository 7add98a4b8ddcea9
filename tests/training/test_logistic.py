"""Logistic regression on pooled features is scikit-learn's, whatever the features' scale and the machine's threads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from training.trials import run

from tuner.images.folds import stratified_folds
from tuner.spec.configuration import LOGISTIC
from tuner.spec.rules import rules_of
from tuner.training import logistic
from tuner.training.network import log_loss, probabilities
from tuner.training.newton import Problem, Rows
from tuner.training.trial import TrialSpec

NEW, OLD = rules_of(4), rules_of(3)


def made(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    means = draw.normal(size=(classes, d))
    return (means[labels] + draw.normal(scale=2.0, size=(n, d))).astype(np.float32), labels


def fit(x: np.ndarray, y: np.ndarray, classes: int, **options: Any) -> logistic.Fit:
    return logistic.fit(x, task(y, classes, **{"rules": NEW} | options))


def task(y: np.ndarray, classes: int, **options: Any) -> logistic.Task:
    given: dict[str, Any] = {"objective": "val_loss", "balanced": False, "seed": 0} | options
    return logistic.Task(y, classes, **given)


def scaled(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1, dtype=np.float64)))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("n", "d", "classes"), [(40, 200, 2), (200, 30, 2), (61, 150, 3), (202, 20, 4)])
def test_it_is_scikit_learns_fit_on_all_features(n: int, d: int, classes: int, balanced: bool) -> None:
    """With fewer images than features it is solved in their span; the solution is the same."""
    x, y = made(n, d, classes)
    found = fit(x, y, classes, balanced=balanced)
    reference = LogisticRegression(
        C=found.strength, max_iter=20000, tol=1e-9, class_weight="balanced" if balanced else None
    ).fit(scaled(x).astype(np.float64), y)
    np.testing.assert_allclose(probabilities(found.logits(x)), reference.predict_proba(scaled(x)), atol=1e-3)
    assert found.folds == 5 and found.kernel.shape == (d, 1 if classes == 2 else classes)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e5])
def test_it_converges_at_every_strength_to_no_more_than_scikit_learns_objective(classes: int, strength: float) -> None:
    x, y = made(60, 20, classes)
    x = scaled(x).astype(np.float64)
    rows = Rows.of(x)
    problem = Problem(rows, y, classes, np.ones((60, 1)))
    at = problem.solve(strength, problem.begin(), 1e-9)
    assert problem.gradient(at, strength).max() <= 1e-9
    model = LogisticRegression(C=strength, max_iter=20000, tol=1e-10).fit(x, y)

    def objective(kernel: np.ndarray, bias: np.ndarray) -> float:
        logits = (x @ kernel + bias).astype(np.float64)
        return logistic.log_loss(logits, y) * len(y) + 0.5 / strength * float(np.sum(kernel**2))

    kernel, bias = rows.back(at[0][:, 0], at[1][0])
    assert objective(kernel, bias) <= objective(model.coef_.T, model.intercept_) * (1 + 1e-9)


@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy"])
def test_threads_change_nothing(objective: str) -> None:
    """Not a bit from outside; and if its own sums were another machine's, the strength would be the same."""
    x, y = made(150, 400, 3, seed=4)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(fit(x, y, 3, objective=objective))
    assert found[0].strength == found[1].strength
    assert np.array_equal(found[0].kernel, found[1].kernel) and np.array_equal(found[0].bias, found[1].bias)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(400, 400)))[0]  # the same problem, other roundings
    other = fit((x @ turned).astype(np.float32), y, 3, objective=objective)
    assert other.strength == found[0].strength
    np.testing.assert_allclose(turned @ other.kernel, found[0].kernel, atol=1e-4 * np.abs(found[0].kernel).max())


@pytest.mark.parametrize("seed", range(8))
def test_the_path_is_left_where_the_loss_is_least(seed: int) -> None:
    """By val_loss the rest of the path has nothing better."""
    draw = np.random.default_rng(seed)
    classes = int(draw.integers(2, 5))
    x, y = made(int(draw.integers(20, 90)), int(draw.integers(5, 120)), classes, seed)
    x *= np.arange(1, x.shape[1] + 1, dtype=np.float32) ** -draw.uniform(0, 1)
    parts = stratified_folds(y, None, 5, 0, "logistic folds")
    with threadpool_limits(1, user_api="blas"):
        rows, tried = Rows.of(scaled(x).astype(np.float64)), []
        asked = task(y, classes, balanced=True, on_progress=lambda done, most: tried.append((done, most)))
        early, *_ = logistic.choose(rows, asked, parts)
        whole, *_ = logistic.choose(rows, task(y, classes, balanced=True), parts, whole=True)
    assert early == whole
    assert [done for done, _ in tried] == list(range(1, len(tried) + 1)) and len(tried) <= tried[0][1]


def test_a_loss_that_rises_before_anything_is_learnt_does_not_end_the_path() -> None:
    """Few images, and what tells the classes apart varies less than what does not, as in real features."""
    draw, y = np.random.default_rng(0), np.arange(58) % 2
    noise, small = draw.normal(scale=1.5, size=(58, 20)), draw.normal(scale=0.05, size=(58, 100))
    x = np.concatenate([noise, small + 0.05 * (2 * y[:, None] - 1)], axis=1).astype(np.float32)
    chance = np.log(2)
    found = {rules: fit(x[:40], y[:40], 2, rules=rules) for rules in (rules_of(4), rules_of(5))}
    losses = {rules: logistic.log_loss(f.logits(x[40:]), y[40:]) for rules, f in found.items()}
    assert losses[rules_of(5)] < 0.9 * chance < losses[rules_of(4)]


def test_a_stop_ends_it_between_steps_and_nothing_is_written(context_of: Any, tmp_path: Path) -> None:
    x, y = made(40, 60, 2)
    answers = iter([False] * 5 + [True])
    with pytest.raises(logistic.FitStopped):
        fit(x, y, 2, should_stop=lambda: next(answers))
    assert not list(answers), "asked until it said so"
    answers = iter([False] * 5 + [True])
    wanted = TrialSpec("0000", "log", LOGISTIC, 1)
    result, done = run(wanted, context_of(tmp_path), lambda: next(answers))
    assert (result.status, result.best, done, list(tmp_path.iterdir())) == ("STOPPED", None, [], [])
    assert not list(answers)


@pytest.mark.parametrize(
    ("n", "d", "classes", "objective", "balanced", "strength", "sums"),
    [
        (40, 200, 2, "val_loss", False, 1e5, [-0.459402, 11.727102, -0.753878]),
        (200, 30, 2, "val_accuracy", True, 46.41588833612773, [1.652725, 8.443773, -0.826797]),
        (60, 150, 3, "val_loss", True, 1e5, [0.0, 20.864124, 0.39511, -0.055057, -0.340053]),
    ],
)
def test_a_study_that_began_before_goes_on_with_its_numbers(
    n: int, d: int, classes: int, objective: str, balanced: bool, strength: float, sums: list[float]
) -> None:
    """Those of the code before numerics 4: the kernel's sum, its absolute sum, the bias."""
    x, y = made(n, d, classes)
    found = fit(x, y, classes, objective=objective, balanced=balanced, rules=OLD)
    assert found.strength == strength
    numbers = [found.kernel.sum(), np.abs(found.kernel).sum(), *found.bias]
    np.testing.assert_allclose(np.array(numbers, float), sums, atol=2e-5)


def test_a_fold_that_lacks_a_class_still_has_an_end() -> None:
    """All of a class look like images of another one, so that they are left out together."""
    x, y = made(30, 10, 3)
    groups = np.arange(30)
    groups[y == 2], groups[y == 1] = groups[y == 0], np.where(np.arange(30)[y == 1] < 15, 1000, 1001)
    for classes, labels in ((3, y), (2, np.minimum(y, 1))):
        found = fit(x, labels, classes, groups=groups, balanced=True)
        assert np.isfinite(found.kernel).all() and np.isfinite(found.bias).all()
    nothing = fit(np.ones((20, 4), np.float32), np.arange(20) % 2, 2)
    assert nothing.strength == 10.0 ** logistic.EXPONENTS[0], "what makes no difference is penalised most"


def test_the_features_scale_does_not_matter() -> None:
    x, y = made(50, 100, 2)
    one, other = (fit(x * s, y, 2) for s in (1.0, 1000.0))
    assert one.strength == other.strength
    np.testing.assert_allclose(one.logits(x), other.logits(x * 1000.0), atol=1e-3)


def test_noise_gets_a_strong_penalty_and_signal_a_weak_one() -> None:
    x, y = made(100, 50, 2)
    noise = np.random.default_rng(1).permutation(y)
    assert fit(x, noise, 2).strength < fit(x, y, 2).strength


@pytest.mark.parametrize("rules", [NEW, OLD])
def test_one_image_of_a_class_has_no_folds_to_choose_by(rules: Any) -> None:
    x, y = made(6, 10, 2)
    y[:] = 0
    y[0] = 1
    found = fit(x, y, 2, rules=rules)
    assert (found.folds, found.strength) == (1, 1.0)


@pytest.mark.parametrize("rules", [NEW, OLD])
def test_a_class_that_is_not_there_never_wins(rules: Any) -> None:
    x, y = made(30, 10, 2)
    found = fit(x, y, 3, objective="val_accuracy", balanced=True, rules=rules)
    chances = probabilities(found.logits(x))
    assert chances.shape == (30, 3) and chances[:, 2].max() < 1e-6 and (chances.argmax(axis=1) == y).mean() > 0.8


def test_each_feature_is_scaled_by_its_own_spread() -> None:
    """What tells the classes apart may vary little beside what does not: one number for all drowns it (studies of
    numerics 4 had that)."""
    draw, y = np.random.default_rng(1), np.arange(120) % 2
    large, small = draw.normal(scale=30.0, size=(120, 30)), draw.normal(size=(120, 100)) * 0.1
    x = np.concatenate([large, small + 0.06 * (2 * y[:, None] - 1), np.ones((120, 1))], axis=1).astype(np.float32)
    now, before = (fit(x[:80], y[:80], 2, rules=rules_of(numerics)) for numerics in (5, 4))
    right = [np.mean((f.logits(x[80:])[:, 0] > 0) == y[80:]) for f in (now, before)]
    assert right[0] > 0.95 > right[1]


# ---- of several views of each image ----


def seen(n: int, d: int, classes: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """(views * n, d): the images, and as many views of them, which are like them and not quite; and their labels."""
    x, y = made(n, d, classes)
    draw = np.random.default_rng(2)
    return np.concatenate([x, *(1.3 * x + draw.normal(size=(views, n, d)) + 0.5)]).astype(np.float32), y


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("weights", [(0.0, 0.25, 0.25, 0.25, 0.25), (0.5, 0.5)])
@pytest.mark.parametrize(("n", "d", "classes"), [(20, 200, 2), (61, 30, 3)])
def test_of_views_it_is_scikit_learns_weighted_fit(
    n: int, d: int, classes: int, weights: tuple[float, ...], balanced: bool
) -> None:
    """Each image weighs one in all, so that a strength means what it means for one view; with fewer rows than features
    and with more."""
    x, y = seen(n, d, classes, len(weights) - 1)
    y[::7] = 0
    found = fit(x, y, classes, balanced=balanced, rules=rules_of(6), views=weights)
    rows, labels = np.repeat(weights, n) > 0, np.tile(y, len(weights))
    share = len(y) / (classes * np.bincount(y)) if balanced else np.ones(classes)
    spread = logistic.spread(x[rows])
    reference = LogisticRegression(C=found.strength, max_iter=50000, tol=1e-10)
    reference.fit(x[rows] / spread, labels[rows], sample_weight=(np.repeat(weights, n) * share[labels])[rows])
    theirs = reference.predict_proba(x / spread)
    np.testing.assert_allclose(probabilities(found.logits(x)), theirs, atol=1e-3)


def test_the_same_image_twice_is_the_image() -> None:
    x, y = made(60, 30, 3)
    once, twice = fit(x, y, 3), fit(np.tile(x, (3, 1)), y, 3, views=(0.0, 0.5, 0.5))
    assert once.strength == twice.strength and once.folds == twice.folds
    np.testing.assert_allclose(once.logits(x), twice.logits(x), atol=1e-4)


def test_a_strength_is_judged_by_images_whose_views_no_fold_has_seen() -> None:
    """What tells one image from another, and nothing else, helps only where some of an image's views are left out."""
    draw, y = np.random.default_rng(0), np.arange(60) % 2
    own = draw.normal(size=(60, 300))
    x = np.concatenate([own, *(own + 0.1 * draw.normal(size=(4, 60, 300)))]).astype(np.float32)
    views = (0.0, 0.25, 0.25, 0.25, 0.25)
    asked = task(y, 2, views=views)
    parts = asked.folds()
    assert np.array_equal(parts, task(y, 2).folds()), "the folds are those of the images"
    with threadpool_limits(1, user_api="blas"):
        rows = Rows.of(scaled(x).astype(np.float64))
        strength, _, (loss, *_), left_out = logistic.choose(rows, asked, parts)
    assert left_out == loss > 0.9 * np.log(2) and strength <= 1e-2, "nothing is learnt of images that are left out"
    weights = asked.problem(rows, parts).weights.reshape(5, 60, 5)
    assert np.array_equal(weights[1:] > 0, np.broadcast_to(parts[:, None] != np.arange(5), (4, 60, 5)))
    assert not weights[0].any()


@given(classes=st.integers(2, 4), scale=st.floats(0.01, 20), left_out=st.floats(0.01, 3), seed=st.integers(0, 99))
def test_confidence_is_what_makes_it_as_sure_as_of_other_images(
    classes: int, scale: float, left_out: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    labels = np.arange(30) % classes
    x = (np.eye(classes)[labels] + draw.normal(0, 0.3, (30, classes))).astype(np.float32)
    kernel = (np.eye(classes) * scale)[:, :: 1 if classes > 2 else -1][:, : classes if classes > 2 else 1]
    fit = logistic.Fit(kernel.astype(np.float32), np.zeros(kernel.shape[1], np.float32), 1.0, 5, left_out)
    logits, sure = fit.logits(x), fit.confidence(x, labels)
    least = logistic.LEAST_SURE
    assert least <= sure <= 1
    if log_loss(logits, labels) >= left_out:
        assert sure == 1
    else:
        assert log_loss(sure * logits, labels) == pytest.approx(
            min(left_out, log_loss(least * logits, labels)), rel=1e-3
        )
    assert replace(fit, left_out=None).confidence(x, labels) == 1
