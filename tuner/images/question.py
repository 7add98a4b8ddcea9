"""A new study about somebody's photographs: they are looked at first, then study.toml is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.artifacts.files import cache_root
from tuner.errors import UsageError
from tuner.images.dataset import Dataset, prepare
from tuner.spec import spec as specs
from tuner.spec.spec import Spec
from tuner.store import locate as studies
from tuner.store.asked import from_here, place
from tuner.store.folder import StudyFolder


def ask(folder: StudyFolder, photos: str | os.PathLike[str], changes: Mapping[str, Any]) -> Dataset | None:
    """Checks the photographs as a search would (what is decoded is kept for it), then writes study.toml.

    `changes`: dotted keys; paths count from the working folder. None for `drawn:` photographs, which the search draws.
    Raises DataError, SpecError; StudyError when the folder cannot be written.
    """
    spec, dataset = _about(folder, photos, changes), None
    if not spec.data.path.startswith(studies.DRAWN):
        seen = replace(spec.data, path=str(place(photos)))
        dataset = prepare(seen, Path.cwd(), cache_root(), spec.search.seed)
    studies.write_study(
        folder, spec, f"The study {folder.root.name}: change what you like, then `tlstudy search {folder.root.name}`."
    )
    return dataset


def ask_once(folder: StudyFolder, photos: str | os.PathLike[str], changes: Mapping[str, Any]) -> None:
    """`ask`, where the same question may stand already. Raises UsageError with each difference when another does."""
    if not folder.spec.exists():
        ask(folder, photos, changes)
        return
    if different := specs.differences(specs.load(folder.spec), _about(folder, photos, changes), all_keys=True):
        raise UsageError(
            f"{folder.spec} asks another question and is kept:\n  "
            + "\n  ".join(different)
            + f'\nOpen it with Study.open("{folder.root}"), or give the new one another name or folder.'
        )


def _about(folder: StudyFolder, photos: str | os.PathLike[str], changes: Mapping[str, Any]) -> Spec:
    """The question, its data named as study.toml names them: relative where both move together."""
    text = os.fspath(photos)
    path = text if text.startswith(studies.DRAWN) else studies.written_path(place(text), folder.root)
    return Spec().override({"data.path": path} | from_here(changes))
