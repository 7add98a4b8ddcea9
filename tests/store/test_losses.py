"""What each epoch said of each image, packed: nothing that choosing again needs is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tuner.store.losses import MOST, packed, signed
from tuner.store.tables import read

GOLDEN = Path(__file__).parents[1] / "golden" / "5" / "study.db"


def test_losses_come_back_to_a_thousandth_and_answers_exactly() -> None:
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.full(3, 0.2), 500).astype(np.float32)
    labels = rng.integers(3, size=500)
    chances[0], labels[0] = (1, 0, 0), 0
    chances[1], labels[1] = (1, 0, 0), 2
    said = signed(packed(chances, labels)).astype(np.float64)
    loss, wrong = abs(said), said < 0
    np.testing.assert_array_equal(wrong, chances.argmax(axis=1) != labels)
    assert loss[0] == 0 and loss[1] == pytest.approx(MOST, rel=1e-3)
    true = chances[np.arange(2, 500), labels[2:]].astype(np.float64)
    np.testing.assert_allclose(loss[2:], np.minimum(-np.log(np.maximum(true, 1e-300)), MOST), rtol=1e-3, atol=1e-6)


def test_a_search_records_them_for_every_epoch_of_what_it_chooses_among_and_nothing_else() -> None:
    tables = read(GOLDEN)
    seen = set()
    for epoch in tables.epochs:
        kind = tables.configurations[epoch.configuration].kind
        seen.add(kind)
        assert (epoch.losses is not None) == (kind in ("search", "baseline", "logistic"))
        if epoch.losses is not None:
            said = signed(epoch.losses).astype(np.float64)
            loss, wrong = abs(said), said < 0
            assert loss.mean() == pytest.approx(epoch.val_loss, rel=1e-3)
            assert 1 - wrong.mean() == pytest.approx(epoch.val_accuracy)
    assert seen > {"search", "baseline", "logistic"}
