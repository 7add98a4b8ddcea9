"""Fills a real study.db through the Store's own methods with the believable study that `made_search` plays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_search import (
    FINISHED,
    INTERRUPTED,
    MANY,
    NO_TRIAL_YET,
    SIX_CLASSES,
    THREE_CLASSES,
    UNTRAINED,
    Array,
    Made,
    configurations,
    cut_for,
    simulate,
)

from tuner.search.events import EpochEnded, Event, TrialEnded, TrialStarted
from tuner.store.losses import packed
from tuner.store.store import Store, TrialRow

__all__ = [
    "FINISHED",
    "INTERRUPTED",
    "MANY",
    "NO_TRIAL_YET",
    "SIX_CLASSES",
    "THREE_CLASSES",
    "UNTRAINED",
    "Made",
    "make_study",
    "simulate",
]


def make_study(folder: Path, made: Made = FINISHED) -> Path:
    """Writes `folder/study.db` and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    with Store(folder / "study.db") as store, store.transaction():
        session = store.begin_session(
            "2025-11-24T03:50:00+00:00", "laptop", 4711, "tlstudy search", {"keras": "3.12.0"}
        )
        _facts(store, made)
        for id, kind, number, values in configurations(made):
            if kind != "search":
                store.add_configuration(id, kind, number, values, cut_for(values["unfrozen_layers"]), None)
        starts: dict[str, TrialStarted] = {}
        numbers = {c[0]: c[2] for c in configurations(made)}
        for event, share in simulate(made):
            _record(store, event, share, starts, numbers, made)
        seconds = 1.3 * len(starts)
        store.update_session(session, seconds, made.outcome, {"images": 1.1, "features": 8.2, "training": seconds})
    return folder / "study.db"


def _facts(store: Store, made: Made) -> None:
    labels = {"train": made.labels(made.train), "val": made.labels(made.validation)}
    store.set_meta(
        spec=made.spec().to_dict(),
        classes=list(made.classes),
        weights="imagenet" if made.pretrained else "random",
        pretrained=made.pretrained,
        layout="train/ and val/",
        data_path="photos",
        warnings=list(made.warnings),
        plan=[vars(b) for b in made.plan],
        val_labels=labels["val"],
        backbone_parameters=23_587_712,
    )
    store.record_images(
        [
            (f"{split}/{made.classes[label]}/{i}.jpeg", split, label, f"{split:0>8}{i:056}", 640, 480)
            for split in labels
            for i, label in enumerate(labels[split])
        ],
        [("train/urban/broken.jpeg", "not an image")],
    )


def _record(
    store: Store,
    event: Event,
    share: Array | None,
    starts: dict[str, TrialStarted],
    numbers: dict[str, int],
    made: Made,
) -> None:
    if isinstance(event, TrialStarted):
        store.add_configuration(
            event.configuration, event.kind, numbers[event.configuration], event.hyperparameters, event.cut, None
        )
        parents = [s.trial for s in starts.values() if s.configuration == event.configuration]
        store.begin_trial(
            TrialRow(
                event.trial,
                event.configuration,
                event.iteration,
                event.bracket,
                event.rung,
                event.first_epoch,
                event.last_epoch,
                parents[-1] if parents else None,
            ),
        )
        starts[event.trial] = event
    elif isinstance(event, EpochEnded):
        assert share is not None
        losses = packed(share, np.array(made.labels(made.validation))) if event.kind != "reference" else None
        counts = share.tobytes() if event.is_best else None
        store.record_epoch(event.trial, event.configuration, event.row, counts, (), losses)
    elif isinstance(event, TrialEnded):
        start = starts[event.trial]
        width = start.hyperparameters["head_width"]
        out = 1 if len(made.classes) == 2 else len(made.classes)
        trained = (
            2048 * width + width + width * out + out if width else 2048 * out + out
        ) + 446_000 * start.hyperparameters["unfrozen_layers"]
        store.end_trial(
            event.trial,
            event.status,
            event.score,
            event.best.epoch if event.best else None,
            event.reason,
            0.2 + 0.11 * (start.last_epoch - start.first_epoch),
            trained,
        )
