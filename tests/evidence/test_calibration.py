"""Calibration: bins that hold every image once, an error set against luck, and a reason where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.evidence.calibration import COLUMNS, calibration


def said(rng: np.random.Generator, n: int, sharpened: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three classes and labels drawn from them; `sharpened` above 1 makes the model overconfident."""
    logits = 1.5 * rng.standard_normal((n, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    claimed = np.exp(sharpened * logits)
    return claimed / claimed.sum(axis=1, keepdims=True), labels


def test_a_calibrated_model_errs_as_luck_does_and_an_overconfident_one_more() -> None:
    rng = np.random.default_rng(0)
    good, bad = (calibration(*said(rng, 600, sharpened), rng) for sharpened in (1.0, 3.0))
    assert good.error is not None and good.error_by_luck is not None and good.p is not None
    assert bad.error is not None and bad.error_by_luck is not None and bad.p is not None
    assert good.p > 0.05 and good.error < 2 * good.error_by_luck
    assert bad.p < 0.01 and bad.error > 3 * bad.error_by_luck
    assert (bad.bins["confidence"] > bad.bins["accuracy"]).iloc[1:].all()


def test_calibrated_models_are_called_out_at_most_as_often_as_p_says() -> None:
    rng = np.random.default_rng(1)
    found = [calibration(*said(rng, 100, 1.0), rng).p for _ in range(200)]
    assert sum(p is not None and p <= 0.05 for p in found) <= 20


def test_bins_hold_every_image_once_and_equal_confidences_together() -> None:
    rng = np.random.default_rng(2)
    probabilities, labels = said(rng, 237, 1.0)
    found = calibration(probabilities, labels, rng)
    assert found.reason is None and list(found.bins.columns) == list(COLUMNS)
    assert found.bins["images"].sum() == found.n == 237 and len(found.bins) == 10
    assert found.bins["correct"].sum() == (probabilities.argmax(axis=1) == labels).sum()
    assert found.bins["confidence"].is_monotonic_increasing
    assert ((found.bins["low"] <= found.bins["accuracy"]) & (found.bins["accuracy"] <= found.bins["high"])).all()
    gaps = (found.bins["accuracy"] - found.bins["confidence"]).abs() * found.bins["images"]
    assert found.error == pytest.approx(gaps.sum() / 237)
    sure = np.tile([1.0, 0.0], (150, 1))
    one = calibration(sure, np.array([0] * 120 + [1] * 30), rng)
    assert len(one.bins) == 1 and one.error == pytest.approx(0.2)


def test_where_there_is_none_it_says_why() -> None:
    rng = np.random.default_rng(3)
    few = calibration(*said(rng, 99, 1.0), rng)
    assert few.error is None and few.bins.empty and few.reason == "calibration needs 100 images or more, these are 99"
    broken = calibration(np.full((100, 2), np.nan), np.zeros(100, dtype=np.int64), rng)
    assert broken.error is None and broken.reason is not None and "not finite" in broken.reason
    with pytest.raises(ValueError, match="shape"):
        calibration(np.ones((100, 2)), np.zeros(99, dtype=np.int64), rng)
