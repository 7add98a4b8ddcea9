"""Epochs are ranked by the objective, then by the other metric; of equals the earlier one is best."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuner.store.ranking import best_of, metric_key
from tuner.store.store import EpochRow

rows = st.builds(
    EpochRow,
    epoch=st.integers(1, 30),
    loss=st.just(0.5),
    accuracy=st.just(0.5),
    val_loss=st.sampled_from([0.1, 0.2, 0.3]),
    val_accuracy=st.sampled_from([0.5, 0.6]),
    seconds=st.just(0.1),
    images=st.just(10),
)


@given(st.lists(rows, max_size=8, unique_by=lambda r: r.epoch))
def test_the_best_epoch_is_the_earlier_of_equals(found: list[EpochRow]) -> None:
    by_loss, by_accuracy = (best_of(found, objective) for objective in ("val_loss", "val_accuracy"))
    assert by_loss == min(found, key=lambda r: (r.val_loss, -r.val_accuracy, r.epoch), default=None)
    assert by_accuracy == min(found, key=lambda r: (-r.val_accuracy, r.val_loss, r.epoch), default=None)


def test_accuracy_ties_are_broken_by_loss_and_loss_ties_by_accuracy() -> None:
    assert metric_key("val_accuracy", 0.4, 0.9) < metric_key("val_accuracy", 0.5, 0.9)
    assert metric_key("val_accuracy", 0.9, 0.9) < metric_key("val_accuracy", 0.1, 0.8)
    assert metric_key("val_loss", 0.4, 0.9) < metric_key("val_loss", 0.4, 0.8)
