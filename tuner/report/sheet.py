"""What the network saw: a few training images, plain, and beside each its first views of every augmentation searched.

Drawn anew from the files as they were drawn for the search, so that no cache is needed; a file that is not the one the
study saw, by its SHA-256, is not shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from tuner.evidence.results import Results
from tuner.images import views
from tuner.images.decode import Pixels, Unreadable, to_square
from tuner.images.reading import original
from tuner.report.gallery import images_folder
from tuner.report.rows import NotAsked, NotYet

ROWS, COLUMNS, SIDE = 4, 3, 112
"""Images, views of each by each augmentation, and pixels of one on the sheet."""


@dataclass(frozen=True)
class Sheet:
    """columns: what they are called. rows: (class, squares uint8 (side, side, 3), one a column)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Pixels, ...]], ...]


def sheet(results: Results) -> Sheet:
    """Training images spread over the classes. Raises NotAsked where nothing but plain images was searched, NotYet with
    the reason where no image can be shown.
    """
    study = results.study
    data, seed, seen = study.spec.data, study.spec.search.seed, study.spec.space.augmentations
    if not seen:
        raise NotAsked("no augmentation is searched")
    files, folder = results.training_files(), images_folder(results, results.database.parent)
    reason, rows = "the images are no longer where the study read them", list[tuple[str, tuple[Pixels, ...]]]()
    shown = [(a, k) for a in seen for k in views.numbers(a, data.views) if 0 < k <= COLUMNS]
    for path, label, sha256 in [files[i] for i in np.linspace(0, len(files) - 1, min(ROWS, len(files))).astype(int)]:
        try:
            if folder is None:
                break
            with original(folder / path, sha256) as image:
                plain = to_square(np.asarray(image), data.image_size, data.resize)
                squares = [plain]
                for augmentation, number in shown:
                    names = {"seed": seed, "sha256": sha256, "number": number}
                    squares.append(
                        plain[:, ::-1]
                        if augmentation == views.FLIP
                        else views.view(image, augmentation, data.image_size, data.resize, **names)
                    )
        except (Unreadable, OSError) as error:
            reason = f"{path}: {error}"
            continue
        rows.append((study.classes[label], tuple(map(_small, squares))))
    if not rows:
        raise NotYet(reason)
    return Sheet(("plain", *(f"{a} {k}" for a, k in shown)), tuple(rows))


def _small(square: Pixels) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(square))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)
