"""`--refit`: the chosen configuration trained once more, on the training and validation photographs together.

More photographs usually make a better model, and no image is left to judge it by: what was measured belongs to the
model before. The number of epochs is fixed beforehand, by the best epochs of the runs that could still be judged.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.artifacts.files import cache_root
from tuner.backbones.backbone import Backbone
from tuner.errors import ExportError
from tuner.features import bank as features
from tuner.images.dataset import Dataset
from tuner.spec.spec import Spec


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
    configuration: str,
    hyperparameters: Mapping[str, Any],
    epochs: int,
    folder: Path,
    say: Callable[[str], None],
) -> Refit:
    """Trains from the pretrained weights for `epochs` epochs; everything random is named by the study's seed and
    `configuration`-refit, so that it comes out the same again. `folder` takes checkpoints, which nobody needs later.

    Raises ExportError when the loss stops being finite, RunError when the features cannot be stored.
    """
    from tuner.training import logistic, trial
    from tuner.training.network import Networks, probabilities

    search, batch_norm = spec.search, spec.backbone.batch_norm
    cut = backbone.architecture.cut_for(int(hyperparameters["unfrozen_layers"]), batch_norm)
    stored = _features(spec, dataset, backbone, cut, say)
    networks = Networks(backbone, len(dataset.classes), batch_norm, search.optimizer, search.precision)
    validation = dataset.indices("val")
    rows = np.concatenate([dataset.indices("train"), validation])
    groups = np.array(dataset.groups, np.int64)
    workshop = trial.Workshop(stored, dataset.labels, rows, validation, networks, len(dataset.classes), groups=groups)
    tested = bool(len(dataset.indices("test")))
    if "learning_rate" not in hyperparameters:
        fit = logistic.fit_rows(workshop, search.objective, search.class_weight == "balanced", search.seed)
        said = probabilities(fit.logits(stored.arrays["pooled"][validation]))
        return Refit(0, len(rows), tested, dict(zip(logistic.NAMES, (fit.kernel, fit.bias), strict=True)), said)
    task = trial.TrialTask(
        trial="refit",
        configuration=f"{configuration}-refit",
        hyperparameters=hyperparameters,
        start=backbone.architecture.nearest(cut, stored.arrays),
        first_epoch=0,
        start_epoch=0,
        last_epoch=epochs,
        seed=search.seed,
        batch_size=search.batch_size,
        objective=search.objective,
        balanced=search.class_weight == "balanced",
        checkpoint=None,
        folder=str(folder),
        fixed=True,  # the last epoch counts, not the best: its weights are still in the network
    )
    result = trial.run(
        task, workshop, lambda done: say(f"Refit: epoch {done.row.epoch} of {epochs}"), threading.Event()
    )
    if result.status != "COMPLETED":
        raise ExportError(
            f"{configuration}: training it on all photographs failed ({result.reason}). Nothing was written."
        )
    network = networks.get(
        task.start,
        int(hyperparameters["unfrozen_layers"]),
        int(hyperparameters["head_width"]),
        hyperparameters["dropout"] > 0,
    )
    said = probabilities(trial.evaluate(network, workshop, task.start))
    return Refit(epochs, len(rows), tested, network.weights(), said)


def _features(
    spec: Spec, dataset: Dataset, backbone: Backbone, cut: str, say: Callable[[str], None]
) -> features.Features:
    """The features at the configuration's cut, which the search has stored already where its budget allowed."""
    budget = spec.search.feature_budget_gb * 1e9
    wanted = features.worth_storing({"pooled": 1, cut: 1}, len(dataset.images), backbone.architecture, budget)
    return features.ensure(
        backbone,
        dataset.images,
        dataset.key,
        wanted,
        cache_root(),
        lambda done, total: say(f"Features: {done} of {total} photographs"),
        None,
        budget,
    )
