"""Where the images lie and how much disk features take change no answer: a study goes on to the same result."""

from __future__ import annotations

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
