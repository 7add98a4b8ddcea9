"""study.toml with changes on top, and which folder the paths in them count from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tuner.artifacts.files import home
from tuner.errors import SpecError, StoreError
from tuner.spec import spec as specs
from tuner.spec import values
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.store import Store


@dataclass(frozen=True)
class Resolved:
    """The spec as it is searched; `changes` go into the store with it, `kept` are those of an earlier session."""

    spec: Spec
    changes: Mapping[str, Any]
    kept: Mapping[str, Any]
    dropped: Mapping[str, Any]  # what an earlier session was started with and this one, being fresh, is not


def resolve(folder: StudyFolder, changes: Mapping[str, Any], fresh: bool = False) -> Resolved:
    """study.toml with dotted changes on top; a resumed study keeps the changes it was started with.

    `fresh`: the results there are about to be moved aside and count for nothing. Raises SpecError, StoreError.
    """
    earlier, began = {}, None
    if folder.has_results:
        try:
            with Store(folder.database, readonly=True) as store:
                earlier, began = store.meta("overrides", {}), store.numerics()
        except StoreError:
            if not fresh:
                raise
    spec = specs.load(folder.spec) if fresh or began is None else specs.load(folder.spec, began)
    together = dict(changes) if fresh else earlier | dict(changes)
    others = {k: v for k, v in earlier.items() if k not in changes}
    kept, dropped = ({}, others) if fresh else (others, {})
    return Resolved(spec.override(together), together, kept, dropped)


def asked(folder: StudyFolder) -> Spec:
    """study.toml as it stands, with the defaults of the time when the study began. Raises SpecError, StoreError."""
    if not folder.has_results:
        return specs.load(folder.spec)
    with Store(folder.database, readonly=True) as store:
        began = store.numerics()
    return specs.load(folder.spec) if began is None else specs.load(folder.spec, began)


def dotted(options: Mapping[str, Any], source: str = "option") -> dict[str, Any]:
    """Keys such as `max_epochs` with their section in front: `search.max_epochs`; a key with a dot stays as it is.

    Raises SpecError for a key that no section has, or that several have.
    """
    found: dict[str, Any] = {}
    for key, value in options.items():
        sections = [name for name, known in specs.keys().items() if key in known]
        if len(sections) > 1:
            raise SpecError(f"{source}: {key} stands in several sections; say which: {', '.join(sections)}.")
        if not sections and "." not in key:
            known = tuple(f.name for kind in specs.SECTIONS.values() for f in fields(kind))
            raise SpecError(f"{source}: unknown key {key}{values.nearest(key, known)}. See study.toml for all.")
        found[f"{sections[0]}.{key}" if sections else key] = value
    return found


def from_here(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Paths in changes count from the working folder, those in study.toml from the study's."""
    found, weights, groups = dict(changes), changes.get("backbone.weights"), changes.get("data.groups")
    if isinstance(weights, str) and weights not in ("imagenet", "random") and os.path.isfile(home(weights)):
        found["backbone.weights"] = str(place(weights))
    table = values.TABLE.fullmatch(groups) if isinstance(groups, str) else None
    if table is not None and os.path.isfile(home(file := table["file"])):  # else it may lie in the data folder
        found["data.groups"] = str(place(file)) + str(groups)[len(file) :]
    return found


def place(path: str | os.PathLike[str]) -> Path:
    """An absolute path as a person would write it: ~ replaced, no ".." left, links otherwise kept."""
    found = home(path)
    return Path(os.path.realpath(found)) if ".." in found.parts else found.absolute()
