"""Whether a database holds this study: what is recorded of it, and what has to be the same to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.backbones import weights as backbone_weights
from tuner.backbones.backbone import Backbone
from tuner.errors import StudyError, UsageError
from tuner.images.dataset import Dataset
from tuner.images.names import shown
from tuner.search import space as spaces
from tuner.search.setup import begun_draws
from tuner.spec import spec as specs
from tuner.spec.rules import NUMERICS, OLDEST
from tuner.spec.spec import Spec
from tuner.store import held_out, tables
from tuner.store.folder import StudyFolder
from tuner.store.store import Store
from tuner.store.tables import Epoch, Session, holds, rows

SAME = ("backend", "keras", "tensorflow", "jax", "devices", "machine", "numerics")
"""Facts of the environment that a resumed study must share: other ones may round differently."""


def check_same(
    folder: StudyFolder,
    spec: Spec,
    store: Store,
    dataset: Dataset,
    environment: Mapping[str, Any],
    extend: bool = False,
) -> None:
    """Refuses to mix two studies in one database. Raises StudyError with each difference."""
    before_spec = store.spec()
    if before_spec is None:
        return
    lines = specs.differences(before_spec, spec)
    can_extend = bool(lines) and not specs.refused_by_extension(before_spec, spec)
    if extend:
        _check_extension(folder, spec, store, before_spec)
        lines = specs.refused_by_extension(before_spec, spec)
    if not lines and (groups := _other_groups(store, dataset)):
        lines.append(groups)
    if not lines and not same_images(store, dataset):
        lines.append("the photographs changed: other files, other bytes, or another order, split or class")
    if store.meta("classes") != list(dataset.classes):
        lines.append(f"classes: {store.meta('classes')} -> {list(dataset.classes)}")
    before = {"numerics": 1} | store.meta("environment", {})
    lines += [f"{k}: {before.get(k)} -> {environment.get(k)}" for k in SAME if before.get(k) != environment.get(k)]
    if lines:
        raise StudyError(
            f"{folder.root}: the results here answer another question:\n  "
            + "\n  ".join(lines)
            + "\nPut it back as it was to go on, "
            + ("go on with the larger one: tlstudy search --extend, " if can_extend and not extend else "")
            + "or start again: tlstudy search --fresh (moves the old results aside)."
        )


def same_images(store: Store, dataset: Dataset) -> bool:
    """Whether they are those of the study, in its order, each in the split and the class it had: the key says nothing
    of these two.
    """
    before = [(image.split, image.label, image.sha256) for image in tables.rows(store, tables.Image)]
    now = [(image.split, image.label, image.sha256) for image in dataset.records]
    return store.meta("data_key") == dataset.key and before == now


def _other_groups(store: Store, dataset: Dataset) -> str:
    """What changed of the groups that `data.groups` names in whatever way, by other names too; "" for nothing."""
    before, now = store.meta("groups"), recorded_groups(dataset)
    if before == now:
        return ""
    counts = ("none" if numbers is None else f"{len(set(numbers))} groups" for numbers in (before, now))
    moved = ""
    if before is not None and now is not None and same_images(store, dataset):
        which = [p.path for p, was, is_ in zip(dataset.records, before, now, strict=True) if was != is_]
        moved = f"; the first image in another one is {shown(which[0])}"
    return f"the groups of data.groups changed, which splits, folds and intervals follow: {' -> '.join(counts)}{moved}"


def recorded_groups(dataset: Dataset) -> list[int] | None:
    """Each image's group where `data.groups` names any."""
    return list(dataset.groups) if dataset.grouped else None


def _check_extension(folder: StudyFolder, spec: Spec, store: Store, before: Spec) -> None:
    """Raises UsageError when an extension would have nothing to train."""
    more = spec.search.hyperband_iterations > before.search.hyperband_iterations
    if not more and (begun := begun_draws(store)) and begun >= sum(b.sizes[0] for b in store.brackets()):
        raise UsageError(
            f"{folder.root}: every configuration that Hyperband's {before.search.hyperband_iterations} "
            "iterations draw was drawn; more are tried with more iterations: "
            f"--extend --set search.hyperband_iterations={before.search.hyperband_iterations + 1}"
        )


def check_weights(folder: StudyFolder, store: Store, weights: backbone_weights.Weights) -> None:
    """Raises StudyError when the results are of other weights."""
    known = store.meta("weights_key")
    if known is not None and known != weights.key:
        raise StudyError(
            f"{folder.root}: the results here were made with other weights ({store.meta('weights')}), "
            f"now {weights.name} with different numbers. Name the same file, or start again: "
            "tlstudy search --fresh (moves the old results aside)."
        )


def numerics(store: Store) -> int:
    """Of a study that began, its own; of a new one today's."""
    began = store.numerics()
    return NUMERICS if began is None or began < OLDEST else began


def record(
    spec: Spec,
    store: Store,
    dataset: Dataset,
    backbone: Backbone,
    space: spaces.Space,
    environment: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> None:
    """Writes down what the study is about, for later sessions to be held against and for its report."""
    with store.transaction():
        store.set_meta(
            spec=spec.to_dict(),
            overrides=dict(overrides),
            classes=list(dataset.classes),
            data_path=spec.data.path,
            data_key=dataset.key,
            weights=backbone.weights.name,
            weights_kind=backbone.weights.kind,
            weights_key=backbone.weights.key,
            pretrained=backbone.weights.pretrained,
            warnings=[*dataset.warnings, *space.notices],
            val_labels=dataset.labels[dataset.indices("val")].tolist(),
            groups=recorded_groups(dataset),
            backbone_parameters=backbone.parameters(),
            environment={k: v for k, v in environment.items() if k in SAME},
        )
        if store.meta("test_seal") is None:
            test = [vars(p) for p in dataset.records if p.split == "test"]
            store.set_meta(test_seal=held_out.seal(test) if test else "")
        store.record_images(
            ((p.path, p.split, p.label, p.sha256, p.verdict.width, p.verdict.height) for p in dataset.records),
            ((x.path, x.reason) for x in dataset.left_out),
        )


def moved(store: Store, environment: Mapping[str, Any]) -> str | None:
    """What is to be said when something was trained, and the session before this one (which has begun) ran on another
    processor.
    """
    sessions = rows(store, Session)
    before = sessions[-2].environment if len(sessions) > 1 and holds(store, Epoch) else {}
    if "processor" not in before or _words(before) == _words(environment):
        return None
    return (
        f"This study ran on {_words(before)} before, now on {_words(environment)}: the last digits of what is trained "
        "here may differ from what would have come out there."
    )


def _words(environment: Mapping[str, Any]) -> str:
    cores = environment.get("cores", 0)
    return f"{environment.get('processor')}, {cores} core{'s' * (cores != 1)}"
