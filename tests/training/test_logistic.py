"""Logistic regression on pooled features is scikit-learn's, whatever the features' scale, chosen without validation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tuner.training import logistic
from tuner.training.network import probabilities


def made(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    means = draw.normal(size=(classes, d))
    return (means[labels] + draw.normal(scale=2.0, size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize(("n", "d", "classes"), [(40, 200, 2), (200, 30, 2), (60, 150, 3)])
def test_it_is_scikit_learns_fit_on_all_features(n: int, d: int, classes: int) -> None:
    """With fewer photographs than features it is solved in their span; the solution is the same."""
    x, y = made(n, d, classes)
    found = logistic.fit(x, y, None, classes, "val_loss", False, seed=0)
    scale = np.sqrt(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1)))
    wanted = LogisticRegression(C=found.strength, max_iter=5000, tol=1e-8).fit(x.astype(np.float64) / scale, y)
    np.testing.assert_allclose(probabilities(found.logits(x)), wanted.predict_proba(x / scale), atol=2e-3)
    assert found.folds == 5 and found.kernel.shape == (d, 1 if classes == 2 else classes)


def test_the_features_scale_does_not_matter() -> None:
    x, y = made(50, 100, 2)
    one, other = (logistic.fit(x * s, y, None, 2, "val_loss", False, seed=0) for s in (1.0, 1000.0))
    assert one.strength == other.strength
    np.testing.assert_allclose(one.logits(x), other.logits(x * 1000.0), atol=1e-3)


def test_noise_gets_a_strong_penalty_and_signal_a_weak_one() -> None:
    x, y = made(100, 50, 2)
    noise = np.random.default_rng(1).permutation(y)
    clear = logistic.fit(x, y, None, 2, "val_loss", False, seed=0).strength
    assert logistic.fit(x, noise, None, 2, "val_loss", False, seed=0).strength < clear


def test_one_photograph_of_a_class_has_no_folds_to_choose_by() -> None:
    x, y = made(6, 10, 2)
    y[:] = 0
    y[0] = 1
    found = logistic.fit(x, y, None, 2, "val_loss", False, seed=0)
    assert (found.folds, found.strength) == (1, 1.0)


def test_a_class_that_is_not_there_never_wins() -> None:
    x, y = made(30, 10, 2)
    found = logistic.fit(x, y, None, 3, "val_accuracy", True, seed=0)
    chances = probabilities(found.logits(x))
    assert chances.shape == (30, 3) and chances[:, 2].max() < 1e-6 and (chances.argmax(axis=1) == y).mean() > 0.8
