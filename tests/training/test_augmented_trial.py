"""What an augmented trial sees: a view of each training image, by name; validation stays plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.trials import equal, figures, numbers, resumed, run, saved, spec

from tuner.features import bank
from tuner.images.views import View
from tuner.spec.configuration import REFERENCE, Configuration
from tuner.training.trial import EpochFinished

LIGHT = replace(REFERENCE, augmentation="light", unfrozen_layers=10)
CUTS = ("conv5_block2", "pooled")


@pytest.fixture
def context(context_of: Callable[..., Any], backbone: Any, squares: np.ndarray, cache: Path, tmp_path: Path) -> Any:
    """26 images to train on with two views each: upside down, and that mirrored."""
    return augmented(context_of(tmp_path), backbone, squares, cache)


def augmented(plain: Any, backbone: Any, squares: np.ndarray, cache: Path, cuts: tuple[str, ...] = CUTS) -> Any:
    made = [squares[:26, ::-1], squares[:26, ::-1, ::-1]]
    sets = [View("light", k, 26, f"turned {k}", 0, 0, array) for k, array in enumerate(made, 1)]
    return replace(plain, features=bank.with_views(plain.features, backbone, sets, wanted=cuts, cache=cache))


def seen(context: Any, values: Configuration, name: str, epoch: int) -> list[int]:
    """Which view of each training image an epoch has."""
    data, views = context.training_data(values, name, epoch), context.features.augmented["light", context.start(values)]
    taken = data.take(context.train)
    each = [views.take(context.train, np.full(26, k)) for k in (1, 2)]
    return [1 + int(np.array_equal(one, of[1])) for one, *of in zip(taken, *each, strict=True)]


def test_an_epoch_picks_a_view_of_each_image_by_name(context: Any) -> None:
    first = seen(context, LIGHT, "c000", 1)
    assert set(first) == {1, 2} and first == seen(context, LIGHT, "c000", 1)
    assert first == seen(context, replace(LIGHT, unfrozen_layers=0), "c000", 1), "at every cut the same"
    assert len({tuple(seen(context, LIGHT, name, epoch)) for name in ("c000", "c001") for epoch in (1, 2)}) == 4
    several = [seen(context, LIGHT, "c000", epoch) for epoch in range(1, 41)]
    assert 0.4 < np.mean(np.array(several) == 1) < 0.6, "all are as likely"
    plain = context.training_data(REFERENCE, "c000", 1)
    assert np.array_equal(plain.take(context.train), context.features.arrays["pooled"][context.train])


@pytest.mark.parametrize("depth", [0, 10])
def test_rungs_of_an_augmented_trial_equal_one_go_bit_for_bit(context: Any, depth: int) -> None:
    wanted = spec(unfrozen_layers=depth, augmentation="light", last_epoch=3)
    _, whole = run(wanted, context)
    _, plain = run(spec(unfrozen_layers=depth, last_epoch=3), context)
    assert numbers(plain) != numbers(whole)
    found: list[EpochFinished] = []
    for last in (1, 3):
        found += run(resumed(wanted, found, last) if found else replace(wanted, last_epoch=last), context)[1]
    assert numbers(found) == numbers(whole)
    assert equal(saved(context, found, "last")[1], saved(context, whole, "last")[1])


def test_views_that_are_recomputed_from_below_are_the_same_views(
    context_of: Callable[..., Any], backbone: Any, squares: np.ndarray, cache: Path, tmp_path: Path
) -> None:
    """Stored at the cut or at a lower one: the losses differ by rounding."""
    cuts = ("conv5_block1", *CUTS)
    plain = context_of(tmp_path, cuts=cuts)
    stored, below = (augmented(plain, backbone, squares, cache, c) for c in (cuts, ("conv5_block1", "pooled")))
    values = replace(LIGHT, head_width=8)
    assert (stored.start(values), below.start(values)) == ("conv5_block2", "conv5_block1")
    assert below.start(replace(values, augmentation="none")) == "conv5_block2"
    (one,), (other,) = (run(spec(augmentation="light", last_epoch=1), c)[1] for c in (stored, below))
    assert np.allclose(figures(one.row)[1:5], figures(other.row)[1:5], rtol=1e-4)
