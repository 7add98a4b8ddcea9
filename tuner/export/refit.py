"""`--refit`: the chosen configuration trained once more, on the training and validation photographs together.

More photographs usually make a better model, and no image is left to judge it by: what was measured belongs to the
model before. The number of epochs is fixed beforehand, by the best epochs of the runs that could still be judged.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tuner.artifacts.files import cache_root
from tuner.backbones.backbone import Backbone
from tuner.errors import ExportError
from tuner.features import bank as features
from tuner.features import sets
from tuner.images.dataset import Dataset
from tuner.spec.configuration import Configuration
from tuner.spec.rules import Rules
from tuner.spec.spec import Spec
from tuner.store import ids
from tuner.training.subset import ALL


@dataclass(frozen=True, eq=False)
class Refit:
    """weights: what training changed, by variable path. expected: float32 (validation photographs, classes), what the
    trained network itself says of them. photographs: how many it was trained on. tested: whether the data have a test
    set, which it never saw. epochs: 0 for logistic regression, which has none.
    """

    epochs: int
    photographs: int
    tested: bool
    weights: Mapping[str, np.ndarray] = field(repr=False)
    expected: np.ndarray = field(repr=False)

    def sentence(self) -> str:
        """What was done, and what can no longer be said."""
        left = "only the test photographs are" if self.tested else "no image is"
        how = f" for {self.epochs} epoch{'s' * (self.epochs != 1)}" if self.epochs else ""
        return (
            f"Trained again on all {self.photographs} training and validation photographs{how}: {left} left to judge "
            "it by. The validation figures shown are those of the configuration before this."
        )


def median_epoch(best_epochs: Sequence[int]) -> int:
    """How long to train: the median of the runs' best epochs, the earlier of two in the middle."""
    return max(1, int(statistics.median_low(best_epochs)))


def train(
    spec: Spec,
    dataset: Dataset,
    backbone: Backbone,
    *,
    configuration: str,
    values: Configuration,
    rules: Rules,
    epochs: int,
    folder: Path,
    say: Callable[[str], None],
) -> Refit:
    """Trains from the pretrained weights for `epochs` epochs; everything random is named by the study's seed and
    `configuration`-refit, so that it comes out the same again. `folder` takes checkpoints, which nobody needs later.

    Raises ExportError when the loss stops being finite, RunError when the features cannot be stored.
    """
    from tuner.search import setup
    from tuner.training import trial
    from tuner.training.network import Networks, probabilities

    search, batch_norm = spec.search, spec.backbone.batch_norm
    stored = _features(spec, dataset, backbone, values, say)
    train, validation = dataset.indices("train"), dataset.indices("val")
    networks = Networks(
        backbone,
        len(dataset.classes),
        batch_norm,
        search.optimizer,
        search.precision,
        layered=values.layer_decay != 1.0,
        averaged=search.ema > 0,
    )
    context = setup.context(spec, rules, dataset, networks=networks, stored=stored, checkpoints=folder)
    images, tested = len(train) + len(validation), bool(len(dataset.indices("test")))
    if values.learning_rate is None:
        arrays = trial.linear(context, ALL, values).arrays()
        return Refit(0, images, tested, arrays, trial.predict(values, arrays, context, validation))
    name = ids.refit(configuration)
    # Fixed: the last epoch counts, not the best; its weights are still in the network.
    training = trial.train(trial.TrialSpec(name, name, values, epochs, subset=ALL, fixed=True), context)
    while True:
        try:
            say(f"Refit: epoch {next(training).row.epoch} of {epochs}")
        except StopIteration as end:
            result: trial.TrialResult = end.value
            break
    if result.status != "COMPLETED":
        raise ExportError(
            f"{configuration}: training it on all photographs failed ({result.reason}). Nothing was written."
        )
    trained = context.network(values)
    with trained.ema_weights():
        said = probabilities(trial.logits_of(trained, context.looks(values), validation))
    return Refit(epochs, images, tested, trained.weights(), said)


def _features(
    spec: Spec, dataset: Dataset, backbone: Backbone, values: Configuration, say: Callable[[str], None]
) -> features.Features:
    """The features at the configuration's cut, of the views that it trains on too, or the means at its cuts; the search
    has stored them already where its budget allowed.
    """
    from tuner.search import setup

    def progress(done: int, total: int) -> None:
        say(f"Features: {done} of {total} photographs")

    network, images, budget = backbone.architecture, len(dataset.images), spec.search.feature_budget_gb * 1e9
    seen = (values.augmentation,)
    mirrored = setup.mirrored(spec, seen)
    needed = {"pooled": 1, network.cut_for(values.unfrozen_layers, spec.backbone.batch_norm): 1}
    wanted = features.worth_storing(needed, images * (1 + mirrored), network, budget)
    means = sets.read(
        sets.nested(network, images) if values.reads_several else sets.asked(values.cuts, network, images)
    )
    found = features.ensure(
        backbone,
        dataset.images,
        dataset.key,
        wanted=wanted,
        cache=cache_root(),
        means=means,
        mirrored=mirrored,
        on_progress=progress,
        said=say,
    )
    views = setup.needed_views(spec, network, dataset, seen, needed, wanted, means=means, splits=("train", "val"))
    return setup.with_views(found, spec, backbone, dataset, views, on_progress=progress, said=say)
