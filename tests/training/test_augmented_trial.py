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
from tuner.features import sets as cut_sets
from tuner.images.views import View
from tuner.spec.configuration import LOGISTIC, REFERENCE, SEVERAL_CUTS, Configuration
from tuner.training import logistic, several, trial
from tuner.training.network import averaged, log_loss
from tuner.training.subset import SPLIT, Subset
from tuner.training.trial import EpochFinished

LIGHT = replace(REFERENCE, augmentation="light", unfrozen_layers=4)
CUTS = ("conv5_block2", "pooled")


@pytest.fixture
def context(context_of: Callable[..., Any], backbone: Any, squares: np.ndarray, cache: Path, tmp_path: Path) -> Any:
    """26 images to train on with two views each: upside down, and that mirrored."""
    return augmented(context_of(tmp_path), backbone, squares[:26], cache)


def augmented(
    plain: Any, backbone: Any, squares: np.ndarray, cache: Path, cuts: tuple[str, ...] = CUTS, **options: Any
) -> Any:
    made = [squares[:, ::-1], squares[:, ::-1, ::-1]]
    sets = [View("light", k, len(array), f"turned {k} {len(array)}", 0, 0, array) for k, array in enumerate(made, 1)]
    found = bank.with_views(plain.features, backbone, sets, wanted=cuts, cache=cache, **options)
    return replace(plain, features=found)


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


@pytest.mark.parametrize("depth", [0, 4])
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
    stored, below = (augmented(plain, backbone, squares[:26], cache, c) for c in (cuts, ("conv5_block1", "pooled")))
    values = replace(LIGHT, head_width=8)
    assert (stored.start(values), below.start(values)) == ("conv5_block2", "conv5_block1")
    assert below.start(replace(values, augmentation="none")) == "conv5_block2"
    (one,), (other,) = (run(spec(augmentation="light", last_epoch=1), c)[1] for c in (stored, below))
    assert np.allclose(figures(one.row)[1:5], figures(other.row)[1:5], rtol=1e-4)


# ---- logistic regression ----


@pytest.fixture
def regressed(context_of: Callable[..., Any], backbone: Any, squares: np.ndarray, cache: Path, tmp_path: Path) -> Any:
    """The same images, each with its mirror image, and the means of all at every cut that a regression may choose."""
    plain = context_of(tmp_path, classes=3)
    means = cut_sets.read(cut_sets.nested(backbone.architecture, len(squares)))
    options: dict[str, Any] = {"wanted": CUTS, "cache": cache, "means": means}
    both = bank.ensure(backbone, squares, "squares", mirrored=True, **options)
    return augmented(replace(plain, features=both), backbone, squares, cache, means=means)


@pytest.mark.parametrize("kind", [LOGISTIC, SEVERAL_CUTS])
@pytest.mark.parametrize(("name", "views"), [("light", {0: 0.0, 1: 0.5, 2: 0.5}), ("flip", {0: 0.5, 1: 0.5})])
@pytest.mark.parametrize("subset", [SPLIT, Subset("fold", folds=3, repeat=0, fold=1)])
def test_a_regression_sees_every_view_that_epochs_pick_among_and_is_judged_by_plain_images(
    subset: Subset, name: str, views: dict[int, float], kind: Configuration, regressed: Any
) -> None:
    values = replace(kind, augmentation=name)
    wanted = replace(spec(last_epoch=1, subset=subset), values=values)
    result, (done,) = run(wanted, regressed)
    rows, labels, features = regressed.rows(subset), regressed.labels, regressed.features
    cuts, arrays = result.cuts or ("pooled",), saved(regressed, [done], "best")[1]

    def seen(cut: str) -> np.ndarray:
        """float32 (views * rows, channels)."""
        look = {0: features, 1: features.mirror}
        return np.concatenate(
            [
                look[k].joined([cut], rows.train)
                if k == 0 or name == "flip"
                else features.mean_views("light", cut).take(rows.train, np.full(len(rows.train), k))
                for k in views
            ]
        )

    objective, seed = regressed.recipe.rule.objective, regressed.recipe.seed
    task = logistic.Task(labels[rows.train], 3, objective, False, seed, views=tuple(views.values()))
    if kind.cuts:
        fit: logistic.Fit = several.fit({cut: seen(cut) for cut in cuts}, [cuts], task)
    else:
        fit = logistic.fit(seen("pooled"), task)
    assert equal(arrays, fit.arrays())
    x, truth = np.concatenate([seen(cut) for cut in cuts], axis=1), np.tile(labels[rows.train], len(views))
    weighed = np.repeat(list(views.values()), len(rows.train)) > 0
    assert done.row.loss == pytest.approx(log_loss(fit.logits(x[weighed]), truth[weighed]), rel=1e-5)
    both = averaged([fit.logits(look.joined(cuts, rows.validation)) for look in features.views])
    assert done.row.val_loss == pytest.approx(log_loss(both, labels[rows.validation]), rel=1e-5)
    assert np.array_equal(done.probabilities, trial.predict(values, arrays, regressed, rows.validation))
    plain = run(replace(wanted, values=kind), regressed)[1][0]
    assert numbers([plain]) != numbers([done])
