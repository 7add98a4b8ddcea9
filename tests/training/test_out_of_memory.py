"""Out of memory, a trial is trained once more at half the batch with accumulated gradients, and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.trials import figures, run, task

from tuner.backends import backend
from tuner.training import trial

Workshops = Callable[..., Any]


def full(error: str) -> Exception:
    """What the backend raises when it cannot allocate."""
    if backend.start() == "tensorflow":
        import tensorflow as tf

        return tf.errors.ResourceExhaustedError(None, None, error)  # type: ignore[no-any-return]
    import jax

    return jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {error}")


def exhausted(stepper: Any, monkeypatch: pytest.MonkeyPatch, *, always: bool = False) -> list[int]:
    """From the third step on the whole batch does not fit, nor with `always` a half; gives the parts of each call."""
    calls: list[int] = []
    step = stepper.train

    def train(*args: Any) -> Any:
        calls.append(args[5])
        if len(calls) >= 3 and (always or args[5] == 1):
            raise full("Out of memory while trying to allocate 9876543210 bytes.")
        return step(*args)

    monkeypatch.setattr(stepper, "train", train)
    return calls


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({"unfrozen_layers": 0}, {}),
        ({"unfrozen_layers": 10, "weight_decay": 0.01}, {}),
        ({"unfrozen_layers": 10, "balanced": True, "optimizer": "sgd"}, {"classes": 3}),
    ],
    ids=["pooled head", "suffix", "three classes"],
)
def test_it_is_trained_to_the_same_numbers_but_for_rounding(
    options: dict[str, Any], made: dict[str, Any], workshop: Workshops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made | ({"optimizer": options.pop("optimizer")} if "optimizer" in options else {})
    shop = workshop(**made)
    wanted = task(shop, tmp_path, **options)
    result, whole = run(wanted, shop)
    assert result.status == "COMPLETED" and result.reason is None
    network = shop.networks.get(wanted.start, options["unfrozen_layers"], 8, False)
    calls = exhausted(network.stepper, monkeypatch)
    result, halves = run(wanted, shop)
    assert result.status == "COMPLETED" and result.reason == trial.OUT_OF_MEMORY
    assert calls == [1, 1, 1] + [2] * 9
    again = halves[-3:]
    assert [d.row.epoch for d in again] == [1, 2, 3], "from its beginning"
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_allclose(figures(one.row), figures(other.row), rtol=2e-3)


def test_at_half_the_batch_too_the_trial_failed_and_says_so(
    workshop: Workshops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = workshop()
    wanted = task(shop, tmp_path)
    exhausted(shop.networks.get(wanted.start, 10, 8, False).stepper, monkeypatch, always=True)
    result, _ = run(wanted, shop)
    assert result.status == "FAILED" and result.reason is not None
    assert "out of memory, at half the batch too" in result.reason and "9876543210" in result.reason


def test_another_error_is_not_tried_again(workshop: Workshops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop()
    wanted = task(shop, tmp_path)
    calls: list[Any] = []

    def train(*args: Any) -> Any:
        calls.append(args)
        raise ValueError("shapes differ")

    monkeypatch.setattr(shop.networks.get(wanted.start, 10, 8, False).stepper, "train", train)
    result, _ = run(wanted, shop)
    assert (result.status, result.reason, len(calls)) == ("FAILED", "ValueError: shapes differ", 1)
    assert backend.out_of_memory(MemoryError()) and not backend.out_of_memory(ValueError("memory"))
