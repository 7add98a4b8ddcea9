"""The images that winner and baseline judge differently or both get wrong, made small, inside the page.

An image is decoded by this project's own decoder and encoded anew: no byte of the file itself gets into the page. A
file that is not the one the study saw, by its SHA-256, is not shown.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tuner.artifacts.files import cache_root
from tuner.errors import UsageError
from tuner.evidence.results import Results
from tuner.images.dataset import located
from tuner.images.decode import Unreadable
from tuner.images.reading import original
from tuner.report.rows import wrong_images
from tuner.report.words import Row
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
class Prediction:
    """What one of `ROLES` made of an image: the class it chose, and the probability it gave the true class."""

    role: str
    chosen: str
    chance: float
    right: bool


@dataclass(frozen=True)
class Shown:
    """An image of class `label`. `data`: a data: URL, or "" when it cannot be shown, `reason` says why."""

    name: str
    label: str
    predictions: tuple[Prediction, ...]
    data: str
    reason: str


@dataclass(frozen=True)
class Gallery:
    """`groups`: title -> its images, the surest mistakes first; `more`: images beyond those that are shown."""

    images: int
    groups: dict[str, list[Shown]] = field(default_factory=dict)
    more: int = 0
    unread: int = 0  # images that could not be shown
    reasons: tuple[str, ...] = ()  # why not

    @property
    def shown(self) -> int:
        return sum(map(len, self.groups.values()))


def gallery(results: Results, root: Path, most: int = MOST) -> Gallery | None:
    """The gallery of a study in the folder `root`; None while not both models have predicted."""
    judged = results.images()
    if not set(ROLES) <= set(judged):
        return None
    judged["digest"] = [digest for _, digest in results.validation_files()]
    wrong, folder = wrong_images(judged, ROLES), images_folder(results, root)
    groups: dict[str, list[Shown]] = {title: [] for title in GROUPS.values()}
    for row in wrong.head(most).to_dict(orient="records"):
        groups[GROUPS[bool(row["best_right"]), bool(row["baseline_right"])]].append(_shown(row, folder))
    groups = {title: images for title, images in groups.items() if images}
    reasons = [image.reason for images in groups.values() for image in images if not image.data]
    return Gallery(len(judged), groups, max(0, len(wrong) - most), len(reasons), tuple(dict.fromkeys(reasons)))


def _shown(row: Row, folder: Path | None) -> Shown:
    name, data, reason = str(row["photograph"]), "", "no longer where the study read it"
    try:
        if folder is not None:
            data, reason = _thumbnail(folder / name, str(row["digest"])), ""
    except Unreadable as error:
        reason = error.reason
    predictions = (Prediction(r, str(row[r]), float(row[f"{r}_chance"]), bool(row[f"{r}_right"])) for r in ROLES)
    return Shown(name, str(row["class"]), tuple(predictions), data, reason)


def _thumbnail(path: Path, digest: str) -> str:
    """An image as a data: URL of a small JPEG. Raises Unreadable, also for a file that is another one by now."""
    out = io.BytesIO()
    with original(path, digest) as image:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def images_folder(results: Results, root: Path) -> Path | None:
    """The folder of the images, as far as it is still there."""
    named = results.study.spec.data.path
    try:
        return located("photos" if named.startswith(DRAWN) else named, root, cache_root())
    except (UsageError, OSError):
        return None
