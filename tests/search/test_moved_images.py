"""Where the images lie and how much disk features take change no answer: a study goes on to the same result."""

from __future__ import annotations

import os
import shlex
import shutil
import threading
from pathlib import Path

import pytest
from search.studies import facts, make, search, spec

from tuner.errors import DataError, Interrupted, StudyError
from tuner.search.events import TrialEnded
from tuner.store.folder import StudyFolder


def test_images_moved_to_another_folder_go_on_to_the_same_result(finished: StudyFolder, tmp_path: Path) -> None:
    folder, stop = make(tmp_path / "my study"), threading.Event()
    with pytest.raises(Interrupted):
        search(folder, stop=stop, on=lambda event: stop.set() if isinstance(event, TrialEnded) else None)
    shutil.move(folder.root / "photos", tmp_path / "elsewhere")
    with pytest.raises(DataError) as refused:
        search(folder)
    (typed,) = [part for part in str(refused.value).split(": ") if part.startswith("tlstudy search")]
    words = shlex.split(typed.partition(" PLACE")[0])
    assert words == ["tlstudy", "search", str(folder.root), "--data"]
    search(folder, spec(data__path=str(tmp_path / "elsewhere"), search__feature_budget_gb=15.0))
    assert facts(folder) == facts(finished)


def test_other_images_elsewhere_are_another_question(finished: StudyFolder, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(finished.root, folder.root)
    other = make(tmp_path / "other", classes=("dog", "cat"), test=1).root / "photos"
    with pytest.raises(StudyError, match="the photographs changed"):
        search(folder, spec(data__path=str(other)))
    assert facts(folder) == facts(finished)


@pytest.mark.parametrize(
    ("path", "place"),
    [("train/dog/04.jpg", "val/cat/!.jpg"), ("train/cat/04.jpg", "train/dog/!.jpg")],
    ids=["another split", "another class"],
)
def test_an_image_that_moved_while_the_order_stayed_is_another_question(
    finished: StudyFolder, tmp_path: Path, path: str, place: str
) -> None:
    """The images and their order are the same, so their pixels' key is, too."""
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(finished.root, folder.root)
    os.rename(folder.root / "photos" / path, folder.root / "photos" / place)
    with pytest.raises(StudyError, match="the photographs changed"):
        search(folder)
    assert facts(folder) == facts(finished)
