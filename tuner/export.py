"""The whole model as one `.keras` file, and its check against the trial it came from.

The file takes raw RGB photographs of any size (uint8, or floats from 0 to 255), resizes and preprocesses them itself
and gives class probabilities. It is made of Keras's own layers only, so plain `keras.models.load_model` reads it in
safe mode without this package. The class names stand in it:

    keras.models.load_model("model.keras").get_layer("classes").bias_initializer.value
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.backbone import cuts
from tuner.backbone.resnet import Backbone
from tuner.errors import ExportError, UsageError
from tuner.study.folder import StudyFolder, sha256_of, sync_folder
from tuner.study.spec import Spec
from tuner.study.store import Store

if TYPE_CHECKING:
    from tuner.evidence.results import Results

CLOSE = 1e-3
"""Largest difference of a probability allowed on the decoded squares the trial saw, in float32 on a CPU."""
CLOSE_RAW = 0.02
"""The same on raw photographs, where Keras's resizing and Pillow's may round a pixel differently."""
COARSE = 0.02
"""Added to both where convolutions round to fewer bits: mixed_bfloat16, and TensorFloat-32 on GPUs."""


@dataclass(frozen=True)
class Exported:
    """What the check found: differences are of class probabilities, over `photographs` validation photographs."""

    path: Path
    bytes: int
    largest_difference: float
    largest_raw_difference: float
    correct: int
    photographs: int
    configuration: str

    def sentence(self, name: str) -> str:
        """What was written and what the check found; `name`: the file as the user knows it."""
        return (
            f"Wrote {name} ({self.bytes / 1e6:.0f} MB, configuration {self.configuration}). Loaded again and "
            f"checked on the {self.photographs} validation "
            f"photographs: {self.correct}/{self.photographs} right; largest difference of a probability to the "
            "stored predictions "
            f"{self.largest_difference:.1g} on the decoded squares, {self.largest_raw_difference:.1g} on the raw "
            "photographs."
        )


def export_study(
    folder: StudyFolder, results: Results, target: Path, *, baseline: bool, force: bool, say: Callable[[str], None]
) -> tuple[Any, Exported]:
    """Exports a study's best configuration (or its frozen baseline) from its best epoch; returns the Keras model and
    the check.

    Raises UsageError when there is nothing to export, the photographs changed or `target` is taken; ExportError when
    the saved file does not agree with the trial.
    """
    from tuner.backbone import backend, weights
    from tuner.images.decode import load_photograph
    from tuner.search.session import load_backbone, photographs

    row = results.baseline() if baseline else results.winner()
    if row is None:
        raise UsageError(
            f"{folder.root}: no configuration has been trained yet, so there is no model. Run: tlstudy search "
            f"{folder.root}"
        )
    configuration = str(row["id"])
    with Store(folder.database, readonly=True) as store:
        spec = Spec.from_dict(store.meta("spec"))
        key, data_key, kind = (store.meta(k) for k in ("weights_key", "data_key", "weights_kind"))
        path = _checkpoint(folder, store, row)
    expected = results.predictions(configuration)
    if expected is None:
        raise UsageError(f"{folder.root}: {configuration} has no stored predictions to check an export against.")
    backend.start()
    say("Reading the photographs")
    dataset = photographs(spec, folder)
    if dataset.key != data_key:
        raise UsageError(
            f"{folder.root}: the photographs changed since the search, so the export cannot be checked. Put them back."
        )
    wanted = tuple(w for w in spec.backbone.weights if w == kind) or spec.backbone.weights
    found, _ = weights.find(wanted, folder.root, spec.search.seed, dataset.key)
    if found.key != key:
        raise UsageError(
            f"{folder.root}: {found.name} holds other numbers than the weights the search used. Put that file back."
        )
    say("Building the model")
    with np.load(path, allow_pickle=False) as arrays:
        model = build(
            load_backbone(spec, dataset, found),
            dict(arrays),
            unfrozen_layers=int(row["unfrozen_layers"]),
            head_width=int(row["head_width"]),
            batch_norm=spec.backbone.batch_norm,
            precision=spec.search.precision,
            resize=spec.data.resize,
            classes=dataset.classes,
        )
    rows = dataset.indices("val")
    say("Saving, loading again and checking")
    return model, export(
        model,
        target,
        squares=dataset.images[rows],
        load=lambda i: load_photograph(dataset.root / dataset.photographs[rows[i]].path),
        expected=expected,
        labels=dataset.labels[rows],
        force=force,
        configuration=configuration,
        coarse=spec.search.precision != "float32" or backend.on_gpu(),
        on_progress=lambda done, total: say(f"Checking on raw photographs: {done} of {total}"),
    )


def _checkpoint(folder: StudyFolder, store: Store, row: Any) -> Path:
    """The file with the weights of a configuration's best epoch, whole. Raises UsageError."""
    configuration, saved = str(row["id"]), store.checkpoint(str(row["id"]), "best")
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


def build(
    backbone: Backbone,
    checkpoint: Mapping[str, np.ndarray],
    *,
    unfrozen_layers: int,
    head_width: int,
    batch_norm: str,
    precision: str,
    resize: str,
    classes: Sequence[str],
) -> Any:
    """The Keras model: (b, height, width, 3) RGB 0..255 to (b, classes) probabilities, with the checkpoint's weights in
    it.
    """
    import keras

    from tuner.search.network import head_layers

    side = backbone.image_size
    photograph = keras.Input((None, None, 3), name="photograph")
    x = keras.layers.Resizing(
        side,
        side,
        interpolation="bilinear",
        antialias=True,
        crop_to_aspect_ratio=resize == "crop",
        pad_to_aspect_ratio=resize == "pad",
        name="resize",
    )(photograph)
    # Photographs were decoded to whole numbers before training.
    x = keras.ops.round(x)
    # The prefix in float32 and the suffix at the study's precision, cut where the trial's network was cut.
    depth = cuts.canonical(unfrozen_layers, batch_norm)
    cut = cuts.cut_for(depth, batch_norm)
    if cut == "pooled":
        x = _named(backbone.prefix("image", ["pooled"]), "resnet50_frozen")(x)
    else:
        if cut != "image":
            x = _named(backbone.prefix("image", [cut]), "resnet50_frozen")(x)
        suffix = backbone.suffix(cut, depth, batch_norm, precision)
        _assign(suffix, checkpoint)
        x = _named(suffix, "resnet50_trained")(x)
    for layer in head_layers(len(classes), head_width, precision):
        for variable in layer.weights:
            variable.assign(checkpoint[variable.path])
        x = layer(x)
    # Logits of every class: [0, z] for the one logit of two classes. The bias is unused, its initializer holds the
    # names: the one place in Keras's own layers for a list of texts that survives saving and safe loading.
    logits = keras.layers.Dense(
        len(classes),
        use_bias=False,
        trainable=False,
        name="classes",
        dtype="float32",
        bias_initializer=keras.initializers.Constant(list(classes)),
    )
    x = logits(x)
    logits.set_weights(
        [np.array([[0.0, 1.0]], np.float32) if len(classes) == 2 else np.eye(len(classes), dtype=np.float32)]
    )
    return keras.Model(photograph, keras.layers.Softmax(name="probabilities", dtype="float32")(x), name="tlstudy")


def export(
    model: Any,
    target: Path,
    *,
    squares: np.ndarray,
    load: Callable[[int], np.ndarray],
    expected: np.ndarray,
    labels: np.ndarray,
    force: bool,
    configuration: str,
    coarse: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Saves `model`, loads the saved file again, compares it with the stored predictions, then puts it in place.

    `squares`: uint8 (n, side, side, 3), the validation photographs as the trial saw them; `load(i)`: the i-th as a raw
    uint8 (h, w, 3); `expected`: (n, classes) probabilities; `coarse`: convolutions round to fewer bits. Raises
    UsageError when `target` exists without `force`, ExportError when they differ; the old file is then still there.
    """
    check_target(target, force)
    import keras

    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=".keras", dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        model.save(part)
        loaded = keras.models.load_model(part, safe_mode=True)
        near = float(np.abs(_probabilities(loaded, squares) - expected).max())
        _agree(target, "the exported model", near, CLOSE + (COARSE if coarse else 0.0))
        raw = np.empty_like(expected)
        for i in range(len(expected)):
            raw[i] = _probabilities(loaded, load(i)[None])[0]
            if on_progress:
                on_progress(i + 1, len(expected))
        far = float(np.abs(raw - expected).max())
        _agree(target, "on raw photographs the exported model", far, CLOSE_RAW + (COARSE if coarse else 0.0))
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, target)
        sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)
    return Exported(
        target, target.stat().st_size, near, far, int((raw.argmax(axis=1) == labels).sum()), len(labels), configuration
    )


def _agree(target: Path, what: str, difference: float, limit: float) -> None:
    if not difference <= limit:  # also when it is NaN
        raise ExportError(
            f"{target}: {what} differs from the trial it came from by {difference:.2g} in a probability "
            f"(at most {limit:g} is rounding). It was not put in place; please report this with the study's study.db."
        )


def check_target(target: Path, force: bool) -> None:
    """Before anything is loaded: can the file go there? Raises UsageError."""
    if target.suffix != ".keras":
        raise UsageError(
            f"{target}: found {f'the ending {target.suffix}' if target.suffix else 'no ending'}, expected .keras, "
            f"Keras's own format: {target.with_suffix('.keras').name}"
        )
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file.")
    if target.exists() and not force:
        raise UsageError(f"{target} exists and is kept. Choose another name, or overwrite it with --force.")
    parent = next(p for p in [target.absolute().parent, *target.absolute().parents] if p.exists())
    if not os.access(parent, os.W_OK):
        raise UsageError(f"{target}: {parent} cannot be written. Choose a folder you may write to.")


def _probabilities(model: Any, images: np.ndarray) -> np.ndarray:
    # Called, not `predict`: that would trace once more for each photograph's size.
    found = [np.asarray(model(images[i : i + 32], training=False)) for i in range(0, len(images), 32)]
    return np.concatenate(found).astype(np.float32)


def _assign(model: Any, checkpoint: Mapping[str, np.ndarray]) -> None:
    for variable in model.variables:
        if variable.path in checkpoint:
            variable.assign(checkpoint[variable.path])


def _named(model: Any, name: str) -> Any:
    model.name = name
    return model
