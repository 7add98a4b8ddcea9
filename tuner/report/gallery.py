"""The photographs that winner and baseline judge differently or both get wrong, as small pictures inside the page.

A picture is decoded by this project's own decoder and encoded anew: no byte of the file itself gets into the page. A
file that is not the one the study saw, by its SHA-256, is not shown.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from tuner.artifacts.files import cache_root
from tuner.errors import UsageError
from tuner.evidence.results import Results
from tuner.images.dataset import located
from tuner.images.decode import Unreadable, decode, open_file, open_header
from tuner.store.locate import DRAWN

SIDE, QUALITY, MOST = 160, 70, 96
ROLES = ("best", "baseline")
GROUPS = {
    (True, False): "Only the best is right",
    (False, True): "Only the baseline is right",
    (False, False): "Both are wrong",
}
"""What a group is called, by which of `ROLES` is right."""


@dataclass(frozen=True)
class Said:
    """What one of `ROLES` said of a photograph: the class it chose, and the probability it gave the true class."""

    role: str
    chosen: str
    chance: float
    right: bool


@dataclass(frozen=True)
class Picture:
    """`data`: a data: URL, or "" when the photograph cannot be shown, `reason` says why."""

    name: str
    label: str
    said: tuple[Said, ...]
    data: str
    reason: str


@dataclass(frozen=True)
class Gallery:
    """`groups`: title -> its pictures, the surest mistakes first; `more`: photographs beyond those that are shown."""

    photographs: int
    groups: dict[str, list[Picture]] = field(default_factory=dict)
    more: int = 0
    unread: int = 0  # pictures that could not be shown
    reasons: tuple[str, ...] = ()  # why not

    @property
    def shown(self) -> int:
        return sum(map(len, self.groups.values()))


def gallery(results: Results, root: Path, most: int = MOST) -> Gallery | None:
    """The gallery of a study in the folder `root`; None while not both models have said something."""
    said = results.images()
    roles = [role for role in ROLES if role in said]
    if len(roles) < len(ROLES):
        return None
    said["digest"] = [digest for _, digest in results.validation_files()]
    said["lowest"] = said[[f"{role}_chance" for role in roles]].min(axis=1)
    wrong = said[~said[[f"{role}_right" for role in roles]].all(axis=1)].sort_values("lowest", kind="stable")
    folder = _folder(results, root)
    groups: dict[str, list[Picture]] = {title: [] for title in GROUPS.values()}
    for row in wrong.head(most).to_dict(orient="records"):
        title = GROUPS[(bool(row["best_right"]), bool(row["baseline_right"]))]
        groups[title].append(_picture(row, folder))
    reasons = [picture.reason for pictures in groups.values() for picture in pictures if not picture.data]
    shown = {title: pictures for title, pictures in groups.items() if pictures}
    return Gallery(len(said), shown, max(0, len(wrong) - most), len(reasons), tuple(dict.fromkeys(reasons)))


def _picture(row: Mapping[Any, Any], folder: Path | str) -> Picture:
    name, data, reason = str(row["photograph"]), "", ""
    try:
        if isinstance(folder, str):
            raise Unreadable(folder)
        data = thumbnail(folder, name, str(row["digest"]))
    except Unreadable as error:
        reason = error.reason
    said = tuple(Said(role, str(row[role]), float(row[f"{role}_chance"]), bool(row[f"{role}_right"])) for role in ROLES)
    return Picture(name, str(row["class"]), said, data, reason)


def thumbnail(folder: Path, name: str, digest: str) -> str:
    """A photograph as a data: URL of a small JPEG. Raises Unreadable, also for a file that is another one by now."""
    with open_file(folder / name) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
            raise Unreadable("another file than the study saw")
        stream.seek(0)
        with open_header(stream) as opened:
            image = Image.fromarray(decode(opened).pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _folder(results: Results, root: Path) -> Path | str:
    """The folder of the photographs, or why there is none."""
    named = results.study.spec.data.path
    try:
        return located("photos" if named.startswith(DRAWN) else named, root, cache_root())
    except (UsageError, OSError):
        return "no longer where the study read it"
