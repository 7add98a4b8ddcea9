"""Exports a study's best configuration or its baseline: everything is as the search had it, or it is not exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.artifacts.files import sha256_of
from tuner.backbones.backbone import Backbone
from tuner.errors import UsageError
from tuner.export import checking, refit, saving
from tuner.export.checking import Exported
from tuner.export.formats import Contents, Format, check_installed, check_target, choose
from tuner.images.dataset import Dataset
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.store import Store

if TYPE_CHECKING:
    from tuner.evidence.results import Results


@dataclass(frozen=True, eq=False)
class Chosen:
    """A configuration of a study, as its database has it. expected: float32 (validation photographs, classes)."""

    configuration: str
    hyperparameters: Mapping[str, Any]
    best_epoch: int
    checkpoint: Path
    expected: np.ndarray
    spec: Spec
    weights_key: str
    weights_kind: str
    data_key: str


def export_study(
    folder: StudyFolder,
    results: Results,
    target: Path,
    *,
    baseline: bool,
    force: bool,
    say: Callable[[str], None],
    kind: Format | None = None,
    again: bool = False,
    best_epochs: Sequence[int] = (),
) -> tuple[Any, Exported]:
    """Exports a study's best configuration (or its frozen baseline) from its best epoch; returns the Keras model and
    the check.

    kind: what the ending of `target` says unless given. again: trained once more, on training and validation
    photographs together, for the median of `best_epochs`, which are the configuration's own best epoch unless given.
    Raises UsageError when there is nothing to export, the photographs changed, `target` is taken or something is not
    installed; ExportError when the saved file does not agree with the trial.
    """
    from tuner.backends import backend

    kind = kind or choose(target)
    check_target(target, kind, force)
    check_installed(kind, kind.writes)
    chosen = _chosen(folder, results, baseline)
    backend.start()
    saving.check_backend(kind)
    say("Reading the photographs")
    dataset, backbone = _as_searched(folder, chosen)
    trained: refit.Refit | None = None
    if again:
        epochs = refit.median_epoch(best_epochs or [chosen.best_epoch])
        with saving.beside(target) as passing:
            trained = refit.train(
                chosen.spec, dataset, backbone, chosen.configuration, chosen.hyperparameters, epochs, passing, say
            )
    say("Building the model")
    model = _build(chosen, dataset, backbone, kind, trained)
    rows = dataset.indices("val")
    say(f"Saving as {kind.name}, loading again and checking")
    return model, checking.export(
        model,
        target,
        kind,
        Contents(dataset.classes, chosen.spec.data.image_size, chosen.spec.data.resize),
        squares=dataset.images[rows],
        photographs=[dataset.root / dataset.photographs[row].path for row in rows],
        expected=chosen.expected if trained is None else trained.expected,
        labels=dataset.labels[rows],
        force=force,
        configuration=chosen.configuration,
        coarse=chosen.spec.search.precision != "float32" or backend.on_gpu(),
        refit=trained,
        on_progress=lambda done, total: say(f"Checking on raw photographs: {done} of {total}"),
    )


def _build(chosen: Chosen, dataset: Dataset, backbone: Backbone, kind: Format, trained: refit.Refit | None) -> Any:
    from tuner.export.model import build

    if trained is None:
        with np.load(chosen.checkpoint, allow_pickle=False) as arrays:
            weights = dict(arrays)
    else:
        weights = dict(trained.weights)
    return build(
        backbone,
        weights,
        unfrozen_layers=int(chosen.hyperparameters["unfrozen_layers"]),
        head_width=int(chosen.hyperparameters["head_width"]),
        batch_norm=chosen.spec.backbone.batch_norm,
        # The converters to ONNX and LiteRT take float32 alone; the weights are float32 whatever the precision.
        precision="float32" if kind.squares else chosen.spec.search.precision,
        resize=chosen.spec.data.resize,
        classes=dataset.classes,
        squares=kind.squares,
    )


def _chosen(folder: StudyFolder, results: Results, baseline: bool) -> Chosen:
    """The configuration to export, its weights whole. Raises UsageError."""
    row = results.baseline() if baseline else results.winner()
    if row is None:
        raise UsageError(
            f"{folder.root}: no configuration has been trained yet, so there is no model. Run: tlstudy search "
            f"{folder.root}"
        )
    configuration = str(row["id"])
    expected = results.predictions(configuration)
    if expected is None:
        raise UsageError(f"{folder.root}: {configuration} has no stored predictions to check an export against.")
    with Store(folder.database, readonly=True) as store:
        return Chosen(
            configuration,
            results.hyperparameters(configuration),
            int(row["best_epoch"]),
            _checkpoint(folder, store, row),
            expected,
            Spec.from_dict(store.meta("spec")),
            store.meta("weights_key"),
            store.meta("weights_kind"),
            store.meta("data_key"),
        )


def _as_searched(folder: StudyFolder, chosen: Chosen) -> tuple[Dataset, Backbone]:
    """The photographs and the backbone the search had. Raises UsageError when either changed."""
    from tuner.backbones import weights
    from tuner.search.session import images, load_backbone, wanted_weights

    spec = chosen.spec
    dataset = images(spec, folder)
    if dataset.key != chosen.data_key:
        raise UsageError(
            f"{folder.root}: the photographs changed since the search, so the export cannot be checked. Put them back."
        )
    wanted = wanted_weights(spec, chosen.weights_kind)
    found, _ = weights.find(wanted, folder.root, spec.search.seed, dataset.key)
    if found.key != chosen.weights_key:
        raise UsageError(
            f"{folder.root}: {found.name} holds other numbers than the weights the search used. Put that file back."
        )
    return dataset, load_backbone(spec, dataset, found)


def _checkpoint(folder: StudyFolder, store: Store, row: Any) -> Path:
    """The file with the weights of a configuration's best epoch, whole. Raises UsageError."""
    configuration, saved = str(row["id"]), store.checkpoints().get((str(row["id"]), "best"))
    if row["status"] in ("running", "interrupted") and (saved is None or saved.epoch != row["best_epoch"]):
        raise UsageError(
            f"{folder.root}: {configuration} was cut off after its best epoch, before the weights of that epoch were "
            f"kept. Go on with: tlstudy search {folder.root}"
        )
    path = folder.checkpoints / saved.file if saved else None
    if saved is None or path is None or not path.is_file() or sha256_of(path) != saved.sha256:
        raise UsageError(
            f"{folder.root}: the weights of {configuration} are missing or damaged ({path or 'no file'}). "
            "Search again: tlstudy search --fresh"
        )
    return path
