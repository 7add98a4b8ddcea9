"""Which study is meant, and the demo's question."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tuner.artifacts.files import home, write_atomically
from tuner.errors import StudyError
from tuner.spec.spec import Spec
from tuner.spec.template import render
from tuner.store.folder import StudyFolder

STUDIES = "studies"
LONGEST_NAME = 60  # letters of four bytes fit a file system's 255, with a number behind them
DRAWN = "drawn:"
"""`data.path = "drawn:..."`: photographs that this package draws into the study's own folder."""

DEMO_HEADING = """The demo: towns against countryside, drawn by tlstudy itself into photos/ beside this file.
`make search` or `tlstudy search demo` runs it; without ImageNet's weights it goes on with random ones and says so."""


def demo_spec() -> Spec:
    """Small enough for two cores in under two minutes."""
    return Spec().override(
        {
            "data.path": f"{DRAWN}towns-and-countryside",
            "data.image_size": 96,
            "backbone.weights": ["imagenet", "random"],
            "space.unfrozen_layers": [0, 10, 20, 32],
            "space.learning_rate": {"min": 1e-5, "max": 1e-2, "sampling": "log"},
            "space.head_width": [0, 64, 128, 256],
            "search.max_epochs": 9,
        }
    )


@dataclass(frozen=True)
class Located:
    """A study and how it was found, in words."""

    folder: StudyFolder
    why: str

    @property
    def is_demo(self) -> bool:
        """Whether it is the demo, made by this program."""
        return self.folder.root.name == "demo" and self.folder.root.parent.name == STUDIES


def locate(given: str | None, cwd: Path) -> Located:
    """The study that STUDY means: a folder, its study.toml or a name under studies/; without one, the study in `cwd`,
    else the only or most recently touched one under studies/, else the demo. Raises StudyError naming what there is.
    """
    if given is not None:
        return _named(given, cwd)
    if (cwd / "study.toml").is_file():
        return Located(StudyFolder(cwd), "the study in this folder")
    known = studies(cwd)
    if len(known) == 1:
        return Located(StudyFolder(known[0]), f"the only study under {STUDIES}/")
    if known:
        return Located(
            StudyFolder(max(known, key=_touched)), f"the most recently touched of {len(known)} studies under {STUDIES}/"
        )
    return Located(StudyFolder(cwd / STUDIES / "demo"), "the demo, as there is no study here yet")


def studies(cwd: Path) -> list[Path]:
    """The study folders under `studies/`, by name."""
    return sorted(path.parent for path in (cwd / STUDIES).glob("*/study.toml"))


def write_demo(folder: StudyFolder) -> bool:
    """Writes the demo's study.toml unless it is there; says whether it did."""
    if folder.spec.exists():
        return False
    write_study(folder, demo_spec(), DEMO_HEADING)
    return True


def write_study(folder: StudyFolder, spec: Spec, heading: str) -> None:
    """Writes study.toml, whole or not at all. Raises StudyError when the folder cannot be written."""
    try:
        folder.make()
        write_atomically(folder.spec, lambda file: file.write(render(spec, heading).encode()))
    except OSError as error:
        raise StudyError(
            f"{folder.spec}: cannot be written ({error.strerror}). Work in a folder you may write to, or name one."
        ) from error


def name_for(data: Path) -> str:
    """A study's name from its data's: letters, digits, - and _ stay, the rest becomes -; at most LONGEST_NAME."""
    stem = data.name[: -len(".zip")] if data.name.lower().endswith(".zip") else data.name
    return re.sub(r"[^\w-]+", "-", stem).strip("-")[:LONGEST_NAME] or "study"


def written_path(data: Path, study: Path) -> str:
    """How study.toml names the data: relative when both move together (the data lie in or beside the study), else
    absolute.
    """
    relative = os.path.relpath(data, study)
    return relative if relative.count("..") <= 2 and len(relative) < len(str(data)) else str(data)


def _named(given: str, cwd: Path) -> Located:
    if not given.strip():
        raise StudyError(f"STUDY: found {given!r}, expected a study folder, its study.toml or a name under {STUDIES}/.")
    path = cwd / home(given)
    if path.name == "study.toml" and os.path.isfile(path):
        return Located(StudyFolder(path.parent), "as named")
    named = cwd / STUDIES / given
    for folder in (path, named):
        # os.path's questions answer no, where pathlib's raise, for a name too long or a folder closed to us.
        if os.path.isfile(folder / "study.toml") or os.path.isfile(folder / "study.db"):
            return Located(StudyFolder(folder), "as named" if folder == path else f"by its name under {STUDIES}/")
    if given == "demo":
        return Located(StudyFolder(named), "the demo")
    names = [s.name for s in studies(cwd)]
    close = difflib.get_close_matches(given, names, n=1)
    hint = f" Did you mean {close[0]}?" if close else f" Known here: {', '.join(names)}." if names else ""
    if os.path.isdir(path):
        raise StudyError(
            f"{given}: this folder holds no study.toml.{hint} If it holds photographs: tlstudy search --data {given}"
        )
    raise StudyError(
        f"{given}: no such study; expected a study folder, its study.toml or a name under {STUDIES}/.{hint} "
        "`tlstudy init PHOTOS` makes one."
    )


def _touched(folder: Path) -> float:
    return max(p.stat().st_mtime for p in (folder / "study.toml", folder / "study.db") if p.exists())
