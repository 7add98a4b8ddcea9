"""A study whose baseline is regression on several cuts.

The classes are dark and bright photographs, the heads' rate is next to nothing and the pooled regression's kernel is
zero, so that this baseline is the best.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_files import pixels
from PIL import Image
from search.studies import search, spec

from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.training import trial


def question() -> Spec:
    return spec(space__learning_rate=1e-6, search__max_epochs=1, search__factor=2, confirm__folds=2, confirm__repeats=1)


def make(root: Path) -> StudyFolder:
    for split, number in (("train", 5), ("val", 4), ("test", 3)):
        for label, name in enumerate(("dark", "bright")):
            for i in range(number):
                path = root / "photos" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels(len(split + name) * 100 + i) // 2 + 100 * label).save(path)
    return StudyFolder(root)


def searched(folder: StudyFolder, **options: Any) -> list[Any]:
    """With the pooled regression spoiled."""
    fit = trial.fit_rows

    def spoiled(*given: Any) -> Any:
        found = fit(*given)
        return replace(found, kernel=found.kernel * 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "fit_rows", spoiled)
        return search(folder, question(), **options)
