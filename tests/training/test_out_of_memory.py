"""Out of memory, a trial is trained once more at half the batch with accumulated gradients, and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.trials import figures, run, spec

from tuner.backends import backend
from tuner.training import trial
from tuner.training.subset import Subset

Contexts = Callable[..., Any]


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
        ({"weight_decay": 0.01}, {}),
        ({}, {"classes": 3, "balanced": True, "optimizer": "sgd"}),
    ],
    ids=["pooled head", "suffix", "three classes"],
)
def test_it_is_trained_to_the_same_numbers_but_for_rounding(
    options: dict[str, Any], made: dict[str, Any], context_of: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, wanted = context_of(tmp_path, **made), spec(**options)
    result, whole = run(wanted, context)
    assert result.status == "COMPLETED" and result.reason is None
    calls = exhausted(context.network(wanted.values).stepper, monkeypatch)
    result, halves = run(wanted, context)
    assert result.status == "COMPLETED" and result.reason == trial.OUT_OF_MEMORY
    assert calls == [1, 1, 1] + [2] * 9
    again = halves[-3:]
    assert [d.row.epoch for d in again] == [1, 2, 3], "from its beginning"
    for one, other in zip(whole, again, strict=True):
        both = [[v for v in figures(done.row) if v is not None] for done in (one, other)]
        np.testing.assert_allclose(*both, rtol=2e-3)


def test_at_half_the_batch_too_the_trial_failed_and_says_so(
    context_of: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, wanted = context_of(tmp_path), spec()
    exhausted(context.network(wanted.values).stepper, monkeypatch, always=True)
    result, _ = run(wanted, context)
    assert result.status == "FAILED" and result.reason is not None
    assert "out of memory, at half the batch too" in result.reason and "9876543210" in result.reason


def test_what_is_evaluated_is_halved_too(context_of: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold's validation and held-out images."""
    context, wanted = context_of(tmp_path), spec(last_epoch=1, subset=Subset("fold", folds=3))
    whole, _ = run(wanted, context)
    stepper = context.network(wanted.values).stepper
    logits = stepper.logits

    def small(x: np.ndarray) -> Any:
        if len(x) > 4:
            raise full("Out of memory")
        return logits(x)

    monkeypatch.setattr(trial, "EVALUATION_BATCH", 8)
    monkeypatch.setattr(stepper, "logits", small)
    result, _ = run(wanted, context)
    assert (result.status, result.reason) == ("COMPLETED", trial.OUT_OF_MEMORY)
    np.testing.assert_allclose(result.held_out, whole.held_out, rtol=2e-3)


def test_another_error_is_not_tried_again(
    context_of: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, wanted = context_of(tmp_path), spec()
    calls: list[Any] = []

    def train(*args: Any) -> Any:
        calls.append(args)
        raise ValueError("shapes differ")

    monkeypatch.setattr(context.network(wanted.values).stepper, "train", train)
    result, _ = run(wanted, context)
    assert (result.status, result.reason, len(calls)) == ("FAILED", "ValueError: shapes differ", 1)
    assert backend.out_of_memory(MemoryError()) and not backend.out_of_memory(ValueError("memory"))
