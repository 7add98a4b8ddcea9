"""The facts of a study, computed from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.spec.spec import Spec
from tuner.store.ranking import Rule
from tuner.store.store import Bracket
from tuner.store.tables import Image, Session, Tables


@dataclass(frozen=True)
class Study:
    """The facts of one study; what was not recorded yet is empty, never invented."""

    state: str  # "finished", "running", "interrupted" or "not started"
    spec: Spec
    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]  # split -> images of each class
    val_labels: tuple[int, ...]  # of the validation images, in the order of the stored predictions
    weights: str
    pretrained: bool
    layout: str
    data_path: str
    backbone_parameters: int | None
    leaked: int  # images of the same content as one in another split
    warnings: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]  # (file, reason)
    plan: tuple[Bracket, ...]
    out_of_time: Mapping[str, int]  # configurations that the time budget left out, and the rung they are missing from
    sessions: int
    seconds: float  # of all sessions together
    phases: Mapping[str, float]  # seconds of all sessions together
    started: str  # when the first session began, ISO 8601
    commands: tuple[str, ...]  # one a session, as typed
    environment: Mapping[str, Any]  # versions and devices of the last session
    groups_of: Mapping[str, tuple[int, ...]]  # split -> the group of each image; empty where data.groups names none
    fixed_epochs: bool = False  # fresh seeds trained for a number of epochs that was fixed before, see `Confirmation`

    @property
    def validation(self) -> int:
        """How many validation images every accuracy here is counted on."""
        return len(self.val_labels)

    @property
    def rule(self) -> Rule:
        """What configurations are ranked by, and which epoch counts of each."""
        return Rule.of(self.spec.search)

    @property
    def ground(self) -> str:
        """What a verdict is counted on: "test" where the study has test images, else "validation"."""
        return "test" if "test" in self.counts else "validation"

    @property
    def groups(self) -> tuple[int, ...] | None:
        """The group of each image that a verdict is counted on, in their order: those of one number are of one patient,
        video or burst. None: each image is its own.
        """
        return self.groups_of.get({"validation": "val"}.get(self.ground, self.ground))

    def left_out_by_time(self) -> str | None:
        """What the time budget left out, in a sentence; None for nothing."""
        return out_of_time(self.spec.search.time_budget, self.out_of_time, sum(b.sizes[0] for b in self.plan))


def out_of_time(budget: str, trials: Mapping[str, int], configurations: int) -> str | None:
    """What a time budget left out of so many configurations: `trials` as in `Study.out_of_time`."""
    never = sum(rung == 0 for rung in trials.values())
    later = len(trials) - never
    if not trials:
        return None
    of, were = f" of {configurations} configurations", ("were", "was")
    parts = [f"{never}{of} {were[never == 1]} left out"] if never else []
    parts += [f"{later}{'' if never else of} {were[later == 1]} stopped before the last epoch"] if later else []
    more = " Only the baseline was trained." if never == configurations else ""
    return f"{' and '.join(parts)} by the time budget of {budget}.{more} A larger search.time_budget takes them up."


def study_of(tables: Tables) -> Study:
    """The facts. Raises SpecError, ValueError, TypeError or KeyError for rows that no search has written."""
    meta, sessions = tables.meta, tables.sessions
    began = int(meta.get("environment", {}).get("numerics", 1))
    classes = tuple(str(name) for name in meta.get("classes", ()))
    labels = meta.get("val_labels")
    return Study(
        state=_state(tables),
        spec=Spec.from_dict(meta.get("spec", {}), str(tables.path), began),
        classes=classes,
        counts=_counts(tables.images, len(classes)),
        val_labels=tuple(int(label) for label in labels)
        if labels is not None
        else tuple(image.label for image in tables.images if image.split == "val"),
        weights=str(meta.get("weights", "")),
        pretrained=bool(meta.get("pretrained", True)),
        layout=str(meta.get("layout", "")),
        data_path=str(meta.get("data_path", "")),
        backbone_parameters=meta.get("backbone_parameters"),
        leaked=_leaked(tables.images),
        warnings=tuple(str(warning) for warning in meta.get("warnings", ())),
        left_out=tuple((row.path, row.reason) for row in tables.left_out),
        plan=tuple(
            Bracket(int(b["iteration"]), int(b["bracket"]), tuple(b["sizes"]), tuple(b["epochs"]))
            for b in meta.get("plan", ())
        ),
        out_of_time={str(name): int(rung) for name, rung in meta.get("out_of_time", {}).get("trials", {}).items()},
        sessions=len(sessions),
        seconds=float(sum(session.seconds or 0.0 for session in sessions)),
        phases=_phases(sessions),
        started=str(sessions[0].started) if sessions else "",
        commands=tuple(str(session.command) for session in sessions),
        environment=sessions[-1].environment if sessions else {},
        groups_of=_groups(tables.images, meta.get("groups")),
        fixed_epochs=meta.get("confirmation", {}).get("epochs", "fixed") == "fixed"
        if "confirmation" in meta
        else False,
    )


def _state(tables: Tables) -> str:
    if tables.running:
        return "running"
    if tables.sessions and tables.sessions[-1].outcome == "finished":
        return "finished"
    return "interrupted" if tables.sessions or tables.trials else "not started"


def _counts(images: Sequence[Image], classes: int) -> dict[str, tuple[int, ...]]:
    width = max([classes, *(1 + image.label for image in images)])
    found: dict[str, list[int]] = {}
    for image in images:
        found.setdefault(image.split, [0] * width)[image.label] += 1
    known = [split for split in ("train", "val", "test") if split in found]
    return {split: tuple(found[split]) for split in [*known, *sorted(found.keys() - set(known))]}


def _groups(images: Sequence[Image], numbers: Sequence[int] | None) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for image, number in zip(images, numbers, strict=True) if numbers is not None else ():
        found.setdefault(image.split, []).append(int(number))
    return {split: tuple(of) for split, of in found.items()}


def _leaked(images: Sequence[Image]) -> int:
    splits: dict[str, set[str]] = {}
    for image in images:
        splits.setdefault(image.sha256, set()).add(image.split)
    return sum(len(found) > 1 for found in splits.values())


def _phases(sessions: Sequence[Session]) -> dict[str, float]:
    total: dict[str, float] = {}
    for session in sessions:
        for name, seconds in (session.phases or {}).items():
            total[name] = total.get(name, 0.0) + float(seconds)
    return total
