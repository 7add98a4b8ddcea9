"""`--tensorboard` and `--mlflow` as the user meets them; what lands there is read back in tests/report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import image_files
import pytest
from cli_programs import Tlstudy

from tuner.cli import trackers
from tuner.errors import UsageError
from tuner.report import mlflow, tensorboard
from tuner.store.store import Store


def test_a_report_exports_to_tensorboard_and_its_data_stay_clean(
    tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path
) -> None:
    made()
    done = tlstudy("report", "made", "--format", "json", "--tensorboard", "logs")
    assert done.code == 0
    runs = len(json.loads(done.out)["configurations"])
    assert (
        f"TensorBoard: {runs} runs in logs/made. Look at them with: tensorboard --logdir {tmp_path / 'logs'}"
        in done.err
    )
    assert len(list((tmp_path / "logs" / "made").glob(f"*/{tensorboard.FILE}"))) == runs


def test_a_search_exports_when_it_ends_and_stores_no_password(
    tlstudy: Tlstudy, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(mlflow, "find_spec", lambda name: True)
    monkeypatch.setattr(mlflow, "export", lambda results, name, uri: asked.append(f"{name} {uri}") or 3)
    uri = "https://me:secret@example.org"
    done = tlstudy("search", "photos", "-q", "--tensorboard", "logs", "--mlflow", uri, cwd=work)
    assert done.code == 0
    assert asked == [f"photos {uri}"]
    assert "MLflow: 3 runs and their study at https://***@example.org." in done.text
    assert (work / "logs" / "photos" / "ref" / tensorboard.FILE).is_file()
    with Store(work / "studies" / "photos" / "study.db", readonly=True) as store:
        command = store.rows("SELECT command FROM sessions ORDER BY id")[-1][0]
    assert "--mlflow https://***@example.org" in command.replace("'", "")
    assert "secret" not in done.text + command


def test_what_cannot_be_exported_is_said_before_anything_is_trained(
    tlstudy: Tlstudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = image_files.folder(tmp_path / "photos")
    (tmp_path / "file").write_text("")
    done = tlstudy("search", "--data", photos, "--tensorboard", "file")
    assert done.code == 2 and "--tensorboard file: is a file, expected a folder" in done.text
    monkeypatch.setattr(mlflow, "find_spec", lambda name: None)
    done = tlstudy("search", "--data", photos, "--mlflow", "sqlite:///mlflow.db")
    assert done.code == 2 and "pip install 'tlstudy[mlflow]'" in done.text
    assert not (tmp_path / "studies").exists()


def test_the_command_that_goes_on_repeats_them() -> None:
    assert trackers.again(None, None) == ""
    given = trackers.again(Path("my logs"), "http://a:b@host")
    assert given == "--tensorboard 'my logs' --mlflow 'http://***@host'"


def test_a_folder_that_cannot_be_written_is_one_message(made: Callable[..., Path], tmp_path: Path) -> None:
    from tuner.cli.show import results_of
    from tuner.store.folder import StudyFolder

    folder = StudyFolder(made())
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "made").write_text("a file where the study's folder goes")
    with pytest.raises(UsageError, match=r"--tensorboard .*logs: cannot be written \(.*\); name another folder"):
        trackers.export(folder, results_of(folder), tmp_path / "logs", None)
