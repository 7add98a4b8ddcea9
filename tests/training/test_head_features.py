"""Heads over the means at several cuts: where they begin, and that they are what stock Keras trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.test_trial import stock_curve
from training.trials import numbers, run, saved, spec

from tuner.features import sets
from tuner.spec.configuration import SEVERAL_CUTS
from tuner.training import trial
from tuner.training.network import log_loss
from tuner.training.subset import SPLIT

Contexts = Callable[..., Any]
SEVERAL = {"head_features": "several", "head_init": "linear_probe"}


@pytest.mark.parametrize(("width", "classes", "depth"), [(0, 2, 32), (8, 3, 10)])
def test_training_begins_where_the_regression_on_several_cuts_ends(
    backbone: Any, context_of: Contexts, tmp_path: Path, width: int, classes: int, depth: int
) -> None:
    """At a rate that moves nothing the first epoch is that fit, whatever the width and whatever is unfrozen."""
    context = context_of(tmp_path, classes=classes, cuts=(backbone.architecture.cut_for(depth, "frozen"), "pooled"))
    rows = context.rows(SPLIT)
    fit, joined = trial.fit_cuts(context, rows, SEVERAL_CUTS), context.features.joined
    sure = fit.confidence(joined(fit.cuts, rows.train), context.labels[rows.train])
    wanted = log_loss(sure * fit.logits(joined(fit.cuts, rows.validation)), context.labels[rows.validation])
    options = {"unfrozen_layers": depth, "head_width": width, "last_epoch": 1}
    still, pooled = (
        run(spec(**options, learning_rate=1e-12, **how), context)[1][0].row
        for how in (SEVERAL, SEVERAL | {"head_features": "pooled"})
    )
    assert still.val_loss == pytest.approx(wanted, abs=1e-4)
    assert abs(pooled.val_loss - wanted) > 1e-6


def test_a_trial_is_stock_keras_fit_of_the_network_that_an_export_builds(
    backbone: Any, squares: np.ndarray, context_of: Contexts, tmp_path: Path
) -> None:
    """The cut below the unfrozen layers is not stored here, so that frozen layers are recomputed; one of the means lies
    above it, in what is trained."""
    import keras

    context = context_of(tmp_path, cuts=("conv4_block6", "pooled"), head_widths=())
    wanted = spec(unfrozen_layers=20, head_width=0, learning_rate=1e-3, last_epoch=2, head_features="several")
    _, done = run(wanted, context)

    cuts = context.head_cuts(wanted.values)
    assert cuts[:3] == ("pooled", "conv5_block2", "conv5_block1") and cuts[-1].startswith("conv2")
    below = backbone.stock_prefix_with_means("conv5_block1", cuts[2:])
    above = backbone.stock_suffix("conv5_block1", 20, "frozen", "float32", ["conv5_block2"])
    at, means = below(squares)
    inputs = keras.Input(at.shape[1:]), keras.Input(means.shape[1:])
    logits = keras.layers.Dense(1)
    model = keras.Model(list(inputs), logits(keras.layers.Concatenate()([*above(inputs[0]), inputs[1]])))
    network = context.network(wanted.values)
    network.reset(0, "c000")
    logits.set_weights([network.weights()[name] for name in ("head_logits/kernel", "head_logits/bias")])

    class Both:
        """Two arrays, rows taken out of both."""

        def __getitem__(self, rows: np.ndarray) -> list[np.ndarray]:
            return [np.asarray(at)[rows], np.asarray(means)[rows]]

    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    theirs = stock_curve(model, Both(), context, wanted, loss, keras.optimizers.Adam(1e-3))  # type: ignore[arg-type]
    assert [d.row.loss for d in done] == pytest.approx(theirs, rel=1e-3)


def test_a_frozen_head_reads_the_pooled_features(context_of: Contexts, tmp_path: Path) -> None:
    """What it could read at several cuts is logistic regression's."""
    one, other = (
        run(spec(unfrozen_layers=0, head_features=of, last_epoch=1), context_of(tmp_path))[1]
        for of in ("pooled", "several")
    )
    assert numbers(one) == numbers(other)


def test_a_checkpoint_says_which_cuts_its_head_reads(backbone: Any, context_of: Contexts, tmp_path: Path) -> None:
    of = backbone.architecture
    for how, many in (("pooled", 0), ("several", 37)):
        context = context_of(tmp_path)
        wanted = spec(head_features=how, last_epoch=1)
        _, done = run(wanted, context)
        arrays = saved(context, done, "best")[1]
        found = sets.of_width(of, len(arrays["head_hidden/kernel"]))
        assert found == context.head_cuts(wanted.values) == (sets.widest(of, many) if many else ("pooled",))
        again = trial.predict(wanted.values, arrays, context, context.validation)
        assert np.array_equal(again, done[0].probabilities)
    assert sets.of_width(of, 2048 + 1024) == sets.widest(of, sets.MANY + 1)
    with pytest.raises(ValueError, match="no head over cuts of resnet50 reads 2049 features"):
        sets.of_width(of, 2049)
