"""A folder to work in with photographs, studies of it, and `tlstudy` as a function."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import image_files
import pytest
from cli_programs import SMALL, Outcome, Tlstudy, process
from made_study import FINISHED, Made, make_study
from once import once

from tuner.cli import main
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.locate import write_study


@pytest.fixture
def tlstudy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Tlstudy:
    """Runs `main()` in this process, as the installed program does; `cwd` is tmp_path unless given."""

    def run(*arguments: object, cwd: Path = tmp_path) -> Outcome:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["tlstudy", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        assert "Traceback" not in out + err
        return Outcome(ended.value.code, out, err)

    return run


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Writes a made-up study into studies/NAME of tmp_path, question and results."""

    def make(name: str = "made", what: Made = FINISHED) -> Path:
        folder = StudyFolder(tmp_path / "studies" / name)
        write_study(folder, Spec(), "made up")
        make_study(folder.root, what)
        return folder.root

    return make


@pytest.fixture(scope="session")
def finished_work() -> tuple[Path, Outcome]:
    """A folder with photos/ and its study, searched by a real process; only to be read or copied."""

    def make(work: Path) -> None:
        image_files.folder(work / "work" / "photos", train=4, val=3)
        done = process("search", "--data", "photos", *SMALL, cwd=work / "work")
        (work / "said").write_bytes(pickle.dumps(done))

    made = once("finished work", make)
    return made / "work", pickle.loads((made / "said").read_bytes())


@pytest.fixture
def work(finished_work: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of that folder to do anything with."""
    shutil.copytree(finished_work[0], tmp_path / "work")
    return tmp_path / "work"
