"""The objectives beside loss and accuracy are scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from tuner.evidence.metrics import METRICS, score, weighted
from tuner.spec.spec import OBJECTIVES

Drawn = tuple[np.ndarray, np.ndarray]


@st.composite
def drawn(draw: st.DrawFn, least: int = 2) -> Drawn:
    """Probabilities float32 (n, classes), with ties, and labels (n,), of which some classes may be missing."""
    classes, n = draw(st.integers(least, 4)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    levels = rng.integers(1, draw(st.sampled_from([4, 1000])), (n, classes)).astype(np.float64)
    labels = rng.integers(0, draw(st.integers(1, classes)), n)
    return (levels / levels.sum(axis=1, keepdims=True)).astype(np.float32), labels


def auc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Of scikit-learn, class by class, since it refuses labels of which a class is missing."""
    classes = probabilities.shape[1]
    chosen = [c for c in (range(classes) if classes > 2 else (1,)) if 0 < np.sum(labels == c) < len(labels)]
    found = [roc_auc_score(labels == c, probabilities[:, c]) for c in chosen]
    return float(np.mean(found)) if found else math.nan


@given(drawn())
def test_each_is_scikit_learns(found: Drawn) -> None:
    probabilities, labels = found
    said = probabilities.argmax(axis=1)
    recalls = [np.mean(said[labels == c] == c) for c in np.unique(labels)]
    squares = (probabilities.astype(np.float64) - np.eye(probabilities.shape[1])[labels]) ** 2
    wanted = {
        "val_balanced_accuracy": np.mean(recalls),
        "val_f1": f1_score(labels, said, labels=np.union1d(labels, said), average="macro"),
        "val_auc": auc(probabilities, labels),
        "val_brier": squares.sum(axis=1).mean(),
    }
    for objective, value in wanted.items():
        assert score(objective, probabilities, labels) == pytest.approx(value, rel=1e-12, nan_ok=True)
    if len(set(labels)) > 1 and set(said) <= set(labels):
        assert wanted["val_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, said))
    if probabilities.shape[1] > 2 and len(set(labels)) == probabilities.shape[1]:
        unit = probabilities.astype(np.float64) / probabilities.astype(np.float64).sum(axis=1, keepdims=True)
        whole = roc_auc_score(labels, unit, multi_class="ovr", average="macro")
        assert score("val_auc", unit, labels) == pytest.approx(whole, rel=1e-12)


@given(found=drawn(), seed=st.integers(0, 1000))
def test_an_image_that_counts_twice_is_two_images(found: Drawn, seed: int) -> None:
    probabilities, labels = found
    bag = np.random.default_rng(seed).integers(len(labels), size=len(labels))
    weights = np.bincount(bag, minlength=len(labels)).astype(np.float64)[None]
    for objective in METRICS:
        (value,) = weighted(objective, probabilities, labels, weights)
        taken = score(objective, probabilities[bag], labels[bag])
        assert value == pytest.approx(taken, rel=1e-12, nan_ok=True)


def test_it_is_known_what_is_not_defined_and_what_an_epoch_has_anyway() -> None:
    probabilities, labels = np.array([[0.7, 0.3], [0.2, 0.8]], np.float32), np.array([0, 0])
    assert set(OBJECTIVES) - set(METRICS) == {"val_loss", "val_accuracy"}
    assert score("val_loss", probabilities, labels) is score("val_accuracy", probabilities, labels) is None
    one_class = score("val_auc", probabilities, labels)
    assert one_class is not None and math.isnan(one_class)
    for objective in METRICS:
        for bad in (probabilities * np.nan, probabilities[:0]):
            value = score(objective, bad, labels[: len(bad)])
            assert value is not None and math.isnan(value)
