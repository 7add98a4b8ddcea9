"""A study's winner or its baseline as a model: everything is as the search and the confirmation had it, or there is
none. What was confirmed is what is exported: the median of its fresh seeds, see `evidence.confirmed.exported`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.artifacts.files import sha256_of
from tuner.backbones.backbone import Backbone
from tuner.errors import UsageError
from tuner.export import saving
from tuner.export.checking import Candidate
from tuner.export.formats import Contents, Format
from tuner.export.refit import median_epoch, train
from tuner.images.dataset import Dataset
from tuner.spec.configuration import Configuration
from tuner.spec.rules import Rules, rules_of
from tuner.spec.spec import Spec
from tuner.store import ids
from tuner.store.folder import StudyFolder
from tuner.store.store import Store

if TYPE_CHECKING:
    from tuner.evidence.results import Results


@dataclass(frozen=True, eq=False)
class _Chosen:
    """A model of a study, as its database has it. expected: float32 (validation photographs, classes); fitted_to_all:
    it learned from those photographs too.
    """

    configuration: str
    values: Configuration
    best_epoch: int
    checkpoint: Path
    expected: np.ndarray
    spec: Spec
    weights_key: str
    weights_kind: str
    rules: Rules
    fitted_to_all: bool


def candidate(
    folder: StudyFolder,
    results: Results,
    target: Path,
    *,
    kind: Format,
    baseline: bool = False,
    refit: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Candidate:
    """A study's best configuration (or its frozen baseline) as a model of its best epoch, to be checked as `target`.

    refit: trained once more, on training and validation images together, for the median of the best epochs of the folds
    of its cross-validation; where none was made, for its own best epoch. Raises UsageError when there is nothing to
    export, the images changed or Keras's backend does not write `kind`; ExportError when the refit fails.
    """
    from tuner.backends import backend
    from tuner.export.model import build

    chosen = _chosen(folder, results, baseline)
    backend.start()
    saving.check_backend(kind)
    say("Reading the photographs")
    dataset, backbone = _as_searched(folder, chosen, say)
    spec, trained = chosen.spec, None
    if refit:
        epochs = median_epoch(results.best_epochs_of_folds(baseline=baseline) or [chosen.best_epoch])
        with saving.beside(target) as passing:
            trained = train(
                spec,
                dataset,
                backbone,
                configuration=ids.source_of(chosen.configuration),
                values=chosen.values,
                rules=chosen.rules,
                epochs=epochs,
                folder=passing,
                say=say,
            )
    say("Building the model")
    model = build(
        backbone,
        _arrays(chosen.checkpoint) if trained is None else trained.weights,
        unfrozen_layers=chosen.values.unfrozen_layers,
        head_width=chosen.values.head_width,
        several_cuts=bool(chosen.values.cuts),
        batch_norm=spec.backbone.batch_norm,
        # The converters to ONNX and LiteRT take float32 alone; the weights are float32 whatever the precision.
        precision="float32" if kind.squares else spec.search.precision,
        resize=spec.data.resize,
        classes=dataset.classes,
        squares=kind.squares,
        mirrored=spec.search.mirrored,
    )
    rows = dataset.indices("val")
    return Candidate(
        model,
        target,
        kind,
        Contents(dataset.classes, spec.data.image_size, spec.data.resize),
        images=dataset.images[rows],
        files=[dataset.root / dataset.records[row].path for row in rows],
        expected=chosen.expected if trained is None else trained.expected,
        labels=None if trained is not None or chosen.fitted_to_all else dataset.labels[rows],
        configuration=chosen.configuration,
        coarse=spec.search.precision != "float32" or backend.on_gpu(),
        refit=trained,
    )


def _arrays(checkpoint: Path) -> dict[str, np.ndarray]:
    with np.load(checkpoint, allow_pickle=False) as arrays:
        return dict(arrays)


def _chosen(folder: StudyFolder, results: Results, baseline: bool) -> _Chosen:
    """The configuration to export, its weights whole. Raises UsageError."""
    row: Any = results.model(baseline=baseline)
    if row is None:
        raise UsageError(
            f"{folder.root}: no configuration has been trained yet, so there is no model. Run: tlstudy search "
            f"{folder.root}"
        )
    configuration = results.exported(baseline=baseline) or str(row["id"])
    expected = results.predictions(configuration)
    if expected is None:
        raise UsageError(f"{folder.root}: {configuration} has no stored predictions to check an export against.")
    row = next(r for r in results.configurations().to_dict(orient="records") if r["id"] == configuration)
    from tuner.search.sameness import numerics

    with Store(folder.database, readonly=True) as store:
        return _Chosen(
            configuration,
            Configuration.from_dict(results.hyperparameters(configuration)),
            int(row["best_epoch"]),
            _checkpoint(folder, store, row),
            expected,
            store.spec() or Spec(),
            store.meta("weights_key"),
            store.meta("weights_kind"),
            rules_of(numerics(store)),
            bool(np.isnan(row["val_loss"])),
        )


def _as_searched(folder: StudyFolder, chosen: _Chosen, say: Callable[[str], None]) -> tuple[Dataset, Backbone]:
    """The photographs and the backbone the search had. Raises UsageError when either changed."""
    from tuner.backbones import weights
    from tuner.search.sameness import same_images
    from tuner.search.setup import images, load_backbone, wanted_weights

    spec = chosen.spec
    dataset = images(spec, folder, said=say)
    with Store(folder.database, readonly=True) as store:
        same = same_images(store, dataset)
    if not same:
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
    if saved is None and not row["full"]:
        raise UsageError(
            f"{folder.root}: {configuration} was behind others when its weights could have been kept. Go on with: "
            f"tlstudy search {folder.root}"
        )
    path = folder.checkpoints / saved.file if saved else None
    if saved is None or path is None or not path.is_file() or sha256_of(path) != saved.sha256:
        raise UsageError(
            f"{folder.root}: the weights of {configuration} are missing or damaged ({path or 'no file'}). They are "
            f"trained again, to the same bits, by: tlstudy search {folder.root}"
        )
    return path
